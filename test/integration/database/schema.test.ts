import { readFileSync } from 'node:fs';
import path from 'node:path';
import { get_dmmf } from '@prisma/prisma-schema-wasm';
import type { Client } from 'pg';
import { functionFiles, PROJECT, RETIRED, sourceText, withoutRetired } from '../../support/database-catalog';
import { createTestSpace } from '../../support/harness';
import { withDatabase } from '../../support/shared-stack';

interface DmmfField {
  name: string;
  dbName?: string;
  kind: 'scalar' | 'object' | 'enum';
  type: string;
  nativeType: [string, string[]] | null;
  isList: boolean;
  isRequired: boolean;
  isId: boolean;
  isUnique: boolean;
  default?: unknown;
}
interface DmmfModel {
  name: string;
  dbName: string | null;
  fields: DmmfField[];
  primaryKey: { fields: string[] } | null;
  uniqueFields: string[][];
}
interface DmmfIndex {
  model: string;
  type: string;
  fields: { name: string; sortOrder?: string }[];
}

/** A table as far as both sides can say it. */
interface Table {
  /** Column: its type, `null` when it may be null, its default. */
  columns: Record<string, string>;
  primaryKey: string[];
  uniques: string[];
  indexes: string[];
}

const SCALARS: Record<string, string> = {
  String: 'text',
  Int: 'integer',
  BigInt: 'bigint',
  Boolean: 'boolean',
  Json: 'jsonb',
  Bytes: 'bytea',
};
const NATIVES: Record<string, (args: string[]) => string> = {
  Uuid: () => 'uuid',
  SmallInt: () => 'smallint',
  Timestamptz: ([precision]) =>
    // PostgreSQL leaves its own precision out.
    precision === '6' ? 'timestamp with time zone' : `timestamp(${precision}) with time zone`,
};

const columnOf = ({ dbName, name }: DmmfField) => dbName ?? name;

function typeOf({ type, nativeType, isList }: DmmfField): string {
  const scalar = nativeType ? NATIVES[nativeType[0]]?.(nativeType[1]) : SCALARS[type];
  if (scalar === undefined) throw new Error(`this test does not know ${nativeType?.[0] ?? type}`);
  return isList ? `${scalar}[]` : scalar;
}

/** As PostgreSQL writes it, without the casts. */
function defaultOf({ default: value, type }: DmmfField): string {
  if (value === undefined) return '';
  if (Array.isArray(value)) return ` default '{${value.join(',')}}'`;
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
    const text = String(value);
    return ` default ${type === 'String' || type === 'Json' ? `'${text}'` : text}`;
  }
  const { name, args } = value as { name: string; args: unknown[] };
  if (name === 'autoincrement') return ' identity';
  return ` default ${name === 'dbgenerated' ? String(args[0]) : `${name}()`}`;
}

/** What schema.prisma says, by table. */
function declaredTables(): Record<string, Table> {
  const file = path.join(PROJECT, 'prisma', 'schema.prisma');
  const { datamodel } = JSON.parse(
    get_dmmf(JSON.stringify({ prismaSchema: [[file, readFileSync(file, 'utf8')]] })),
  ) as { datamodel: { models: DmmfModel[]; indexes: DmmfIndex[] } };
  return Object.fromEntries(
    datamodel.models.map((model) => {
      const scalars = model.fields.filter(({ kind }) => kind === 'scalar');
      const column = (name: string) => columnOf(scalars.find((field) => field.name === name) as DmmfField);
      const list = (names: string[]) => names.map(column).join(', ');
      return [
        model.dbName ?? model.name,
        {
          columns: Object.fromEntries(
            scalars.map((field) => [
              columnOf(field),
              `${typeOf(field)}${field.isRequired ? '' : ' null'}${defaultOf(field)}`,
            ]),
          ),
          primaryKey:
            model.primaryKey?.fields.map(column) ?? scalars.filter(({ isId }) => isId).map(columnOf),
          uniques: [
            ...scalars.filter(({ isUnique }) => isUnique).map(columnOf),
            ...model.uniqueFields.map(list),
          ].sort(),
          indexes: datamodel.indexes
            .filter((index) => index.model === model.name && index.type === 'normal')
            .map(({ fields }) =>
              fields
                .map(({ name, sortOrder }) => `${column(name)}${sortOrder === 'desc' ? ' DESC' : ''}`)
                .join(', '),
            )
            .sort(),
        },
      ];
    }),
  );
}

/** What is there, by table. */
async function actualTables(client: Client): Promise<Record<string, Table>> {
  const { rows } = await client.query<{ name: string; table: Table }>(`
    SELECT c.relname AS name, jsonb_build_object(
      'columns', (
        SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod)
                 || CASE WHEN a.attnotnull THEN '' ELSE ' null' END
                 || CASE WHEN a.attidentity <> '' THEN ' identity' ELSE '' END
                 || coalesce(' default ' || regexp_replace(pg_get_expr(d.adbin, d.adrelid), '::[a-z ]+(\\[\\])?$', ''), ''))
          FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
      'primaryKey', (
        SELECT jsonb_agg(a.attname ORDER BY k.place) FROM pg_constraint p, unnest(p.conkey) WITH ORDINALITY AS k (number, place)
          JOIN pg_attribute a ON a.attnum = k.number
         WHERE p.conrelid = c.oid AND p.contype = 'p' AND a.attrelid = c.oid),
      'uniques', coalesce((
        SELECT jsonb_agg(columns ORDER BY columns) FROM (
          SELECT string_agg(a.attname, ', ' ORDER BY k.place) AS columns
            FROM pg_constraint u, unnest(u.conkey) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attnum = k.number
           WHERE u.conrelid = c.oid AND u.contype = 'u' AND a.attrelid = c.oid GROUP BY u.oid) AS listed), '[]'),
      'indexes', coalesce((
        SELECT jsonb_agg(substring(pg_get_indexdef(i.indexrelid) FROM '\\((.*?)\\)') ORDER BY 1) FROM pg_index i
         WHERE i.indrelid = c.oid AND NOT i.indisunique), '[]')) AS table
      FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT starts_with(c.relname, '_')`);
  return Object.fromEntries(rows.map(({ name, table }) => [name, table]));
}

/** Tables that only plain SQL uses; schema.prisma has no models of them. */
const WITHOUT_MODEL = ['corrections', 'idempotency_keys', 'job_positions', 'reconciliation_runs'];

describe('schema.prisma', () => {
  let declared: Record<string, Table>;
  let actual: Record<string, Table>;
  beforeAll(async () => {
    const space = await createTestSpace();
    declared = declaredTables();
    actual = await withDatabase(space.ownerUrl, actualTables);
  });

  it('has a model of every table but those that only plain SQL uses', () => {
    expect(Object.keys(actual).sort()).toEqual([...Object.keys(declared), ...WITHOUT_MODEL].sort());
  });

  it('agrees with the database in columns, types, nullability, defaults, keys and uniques', () => {
    const shape = (tables: Record<string, Table>) =>
      Object.keys(declared).map((name) => {
        const { columns = {}, primaryKey, uniques } = tables[name] ?? {};
        return { name, columns: withoutRetired(name, columns), primaryKey, uniques };
      });
    expect(shape(declared)).toEqual(shape(actual));
  });

  it('names no column that only the last release uses, and neither does anything else; they are there still', async () => {
    const text = [await sourceText(), ...functionFiles().map(({ sql }) => sql)].join('\n');
    for (const [table, columns] of Object.entries(RETIRED))
      for (const column of columns) {
        expect(text).not.toContain(column);
        expect(Object.keys(declared[table]?.columns ?? {})).not.toContain(column);
        expect(Object.keys(actual[table]?.columns ?? {})).toContain(column);
      }
  });

  it('names no index that the database does not have', () => {
    const missing = Object.entries(declared).flatMap(([name, { indexes }]) =>
      indexes.filter((index) => !actual[name]?.indexes.includes(index)).map((index) => `${name} (${index})`),
    );
    expect(missing).toEqual([]);
  });
});
