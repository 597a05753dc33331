import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import {
  migrateClickHouse,
  readMigrations,
  splitStatements,
} from '../../../src/platform/clickhouse-migrations';
import { statementFor } from '../../../src/platform/clickhouse-cluster';
import { PROJECT_ROOT } from '../../../src/platform/project';
import { DOMAIN_EVENTS_TABLE, PURCHASES_TABLE } from '../../../src/bridges/ingest/tables';
import { createTestSpace } from '../../support/harness';
import { createIngestSpace, rows } from './support';

const SHIPPED = path.join(PROJECT_ROOT, 'clickhouse');

async function copyOfMigrations(): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'remit-migrations-'));
  await cp(SHIPPED, folder, { recursive: true });
  return folder;
}

/** The number of the nth file after those that are shipped, as in its name. */
async function numberAfterShipped(n: number): Promise<string> {
  return String((await readMigrations(SHIPPED)).length + n).padStart(4, '0');
}

describe('ClickHouse migrations', () => {
  it('apply once, and two at a time do no harm', async () => {
    const space = await createTestSpace();
    const names = (await readMigrations(SHIPPED)).map(({ name }) => name);
    const runs = await Promise.all([
      migrateClickHouse(space.config, space.log),
      migrateClickHouse(space.config, space.log),
    ]);
    expect(runs.some((applied) => applied.join() === names.join())).toBe(true);
    expect(await migrateClickHouse(space.config, space.log)).toEqual([]);
  });

  it('continue where a run was cut short', async () => {
    const space = await createTestSpace();
    const folder = await copyOfMigrations();
    const name = `${await numberAfterShipped(1)}_more`;
    const next = path.join(folder, `${name}.sql`);
    await writeFile(next, 'CREATE TABLE IF NOT EXISTS a (n UInt8) ENGINE = Memory; CREATE TABEL b;');
    await expect(migrateClickHouse(space.config, space.log, folder)).rejects.toThrow(
      new RegExp(`${name}.*Syntax error`, 's'),
    );
    await writeFile(next, 'CREATE TABLE IF NOT EXISTS a (n UInt8) ENGINE = Memory;\n-- mended; at last\n');
    expect(await migrateClickHouse(space.config, space.log, folder)).toEqual([name]);
    await rm(folder, { recursive: true });
  });

  it('refuse a file that was changed after it was applied', async () => {
    const space = await createTestSpace();
    const folder = await copyOfMigrations();
    await migrateClickHouse(space.config, space.log, folder);
    await writeFile(path.join(folder, '0003_domain_events.sql'), 'SELECT 1');
    await expect(migrateClickHouse(space.config, space.log, folder)).rejects.toThrow(/was changed after/);
    await rm(folder, { recursive: true });
  });

  it('refuse a gap in the numbers', async () => {
    const folder = await copyOfMigrations();
    await writeFile(path.join(folder, `${await numberAfterShipped(2)}_later.sql`), 'SELECT 1');
    await expect(readMigrations(folder)).rejects.toThrow(`${await numberAfterShipped(1)}_name`);
    await rm(folder, { recursive: true });
  });

  it('are split at semicolons that are none of a text or a comment', () => {
    expect(splitStatements(`SELECT ';' -- a; b\n; /* c; d */ SELECT "x;\\"y", \`z;\`, 'it''s;' ;;`)).toEqual([
      `SELECT ';'`,
      `SELECT "x;\\"y", \`z;\`, 'it''s;'`,
    ]);
  });

  it('are statements that ClickHouse can parse also as a cluster gets them', async () => {
    const space = await createIngestSpace();
    for (const { statements } of await readMigrations(SHIPPED))
      for (const statement of statements) {
        const result = await space.clickhouse.query({
          query: 'SELECT formatQuerySingleLine({statement:String}) AS text',
          query_params: { statement: statementFor('main', statement) },
          format: 'JSONEachRow',
        });
        const [row] = await result.json<{ text: string }>();
        expect(row!.text).toMatch(/^(CREATE|ALTER) .* ON CLUSTER main /);
      }
    await space.clickhouse.close();
  });

  it('leave tables that remember the tokens of batches', async () => {
    const space = await createIngestSpace();
    const tables = await rows<{ name: string; create_table_query: string }>(
      space,
      `SELECT name, create_table_query FROM system.tables WHERE database = '${space.name}' AND engine LIKE '%MergeTree'`,
    );
    const fed = tables.filter(({ name }) => name !== 'schema_migrations');
    expect(fed.map(({ name }) => name).sort()).toEqual([
      'domain_events',
      'ingest_lag',
      'products_daily',
      'purchases',
      'revenue_daily',
    ]);
    for (const { create_table_query: ddl } of fed)
      expect(ddl).toContain('non_replicated_deduplication_window = 10000');
    await space.clickhouse.close();
  });

  it.each([PURCHASES_TABLE, DOMAIN_EVENTS_TABLE])(
    'make the columns of $name as ingest fills them',
    async (table) => {
      const space = await createIngestSpace();
      const columns = await rows<{ name: string; type: string }>(
        space,
        `SELECT name, type FROM system.columns WHERE database = '${space.name}' AND table = '${table.name}'`,
      );
      const types = Object.fromEntries(columns.map(({ name, type }) => [name, type]));
      // Not for messages to say: when ClickHouse took the row, and a topic that is the default.
      expect(types).toEqual({
        ...table.columns,
        kafkaTopic: 'LowCardinality(String)',
        storedAt: "DateTime('UTC')",
      });
      await space.clickhouse.close();
    },
  );
});
