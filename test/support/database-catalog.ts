import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Client } from 'pg';

export const PROJECT = path.resolve(__dirname, '..', '..');
export const FUNCTIONS = path.join(PROJECT, 'prisma', 'functions');

/** A function as the catalog has it. */
export interface CatalogFunction {
  name: string;
  /** Types of its arguments, comma separated, with names and defaults left out. */
  arguments: string;
  returns: string;
  source: string;
}

export async function catalogFunctions(client: Client): Promise<CatalogFunction[]> {
  const { rows } = await client.query<CatalogFunction>(
    `SELECT proname AS name, pg_get_function_result(oid) AS returns, prosrc AS source,
            (SELECT coalesce(string_agg(format_type(type, NULL), ', ' ORDER BY place), '')
               FROM unnest(proargtypes) WITH ORDINALITY AS a (type, place)) AS arguments
       FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname, 2`,
  );
  return rows;
}

/** Tables, their columns with their types, and whether a row may leave the column out. */
export type CatalogTables = Record<string, Record<string, { type: string; optional: boolean }>>;

/** The tables of remit itself; those whose names begin with _ are the migrator's own. */
export async function catalogTables(client: Client): Promise<CatalogTables> {
  const { rows } = await client.query<{ table: string; column: string; type: string; optional: boolean }>(
    `SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type,
            NOT a.attnotnull OR a.atthasdef OR a.attidentity <> '' AS optional
       FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT starts_with(c.relname, '_')
        AND a.attnum > 0 AND NOT a.attisdropped
      ORDER BY c.relname, a.attname`,
  );
  const tables: CatalogTables = {};
  for (const { table, column, type, optional } of rows) (tables[table] ??= {})[column] = { type, optional };
  return tables;
}

/**
 * Columns that the last release reads or writes and this one does not: they stay until the next one, whose migration drops
 * them (docs/database.md, "Change a table").
 */
export const RETIRED: Record<string, readonly string[]> = { delivery_attempts: ['emitted_event_id'] };

/** Without the columns that this release does not use any more. */
export const withoutRetired = <T>(table: string, columns: Record<string, T>): Record<string, T> =>
  Object.fromEntries(Object.entries(columns).filter(([name]) => !RETIRED[table]?.includes(name)));

/** The files of `prisma/functions` in their order: name and text. */
export function functionFiles(): { name: string; sql: string }[] {
  const order = JSON.parse(readFileSync(path.join(FUNCTIONS, 'order.json'), 'utf8')) as string[];
  return order.map((name) => ({ name, sql: readFileSync(path.join(FUNCTIONS, `${name}.sql`), 'utf8') }));
}

/** The names of the functions that files define, as often as they define them. */
export function definedFunctions(files: readonly { sql: string }[]): string[] {
  return files.flatMap(({ sql }) =>
    [...sql.matchAll(/^CREATE OR REPLACE FUNCTION (\w+)/gm)].map(([, name]) => name ?? ''),
  );
}

/** All of `src` that is written by hand. */
export async function sourceText(): Promise<string> {
  const files = await readdir(path.join(PROJECT, 'src'), { recursive: true });
  const texts = files
    .filter((file) => file.endsWith('.ts') && !file.startsWith('generated'))
    .map((file) => readFile(path.join(PROJECT, 'src', file), 'utf8'));
  return (await Promise.all(texts)).join('\n');
}

/** Those of the functions that `src` calls: in SQL as `name(`, or by name as a MoneyFunction. */
export function calledFrom(source: string, functions: readonly CatalogFunction[]): CatalogFunction[] {
  return functions.filter(({ name }) => new RegExp(`(?<![\\w.$])${name}\\(|'${name}'`).test(source));
}
