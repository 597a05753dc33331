import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { ClickHouseClient } from '@clickhouse/client';
import { CURRENCIES } from '../contracts/iso-4217';
import { createClickHouse } from './clickhouse';
import { onCluster, quoteName, statementFor } from './clickhouse-cluster';
import type { Config } from './config';
import type { Logger } from './logging';
import { PROJECT_ROOT } from './project';

const MIGRATION_FILE = /^(\d{4})_(\w+)\.sql$/;

/** What a migration file may name as `@name@`: lists that are the same everywhere but too long to write out. */
const SUBSTITUTIONS: Readonly<Record<string, string>> = {
  currencies: Object.keys(CURRENCIES)
    .map((code) => `'${code}'`)
    .join(', '),
};

export interface Migration {
  version: number;
  name: string;
  /** SHA-256 of the file, hex. */
  checksum: string;
  statements: string[];
}

/**
 * Creates the database and applies `clickhouse/NNNN_name.sql` in order. ClickHouse has neither transactional DDL nor
 * locks, so every statement is written to be repeatable: a run that was cut short is simply run again, and two runs at
 * a time do each other no harm.
 * @returns the names it applied.
 * @throws when an applied migration's file was changed since, the numbering has a gap, or ClickHouse refuses.
 */
export async function migrateClickHouse(
  config: Config,
  log: Logger,
  folder = path.join(PROJECT_ROOT, 'clickhouse'),
): Promise<string[]> {
  const migrations = await readMigrations(folder);
  const server = createClickHouse(config, false);
  try {
    await server.command({
      query: `CREATE DATABASE IF NOT EXISTS ${quoteName(config.CLICKHOUSE_DATABASE)}${onCluster(config.CLICKHOUSE_CLUSTER)}`,
    });
  } finally {
    await server.close();
  }
  const client = createClickHouse(config);
  try {
    const names = await applyAll(client, migrations, config.CLICKHOUSE_CLUSTER);
    log.info({ applied: names }, 'ClickHouse is migrated');
    return names;
  } finally {
    await client.close();
  }
}

async function applyAll(
  client: ClickHouseClient,
  migrations: readonly Migration[],
  cluster: string | undefined,
): Promise<string[]> {
  // Two runs at a time may both write a row for a migration; they are the same row.
  await client.command({
    query: statementFor(
      cluster,
      `CREATE TABLE IF NOT EXISTS schema_migrations (
        version UInt32, name String, checksum String, appliedAt DateTime64(3, 'UTC') DEFAULT now64(3)
      ) ENGINE = ReplacingMergeTree ORDER BY version`,
    ),
  });
  const result = await client.query({
    query: 'SELECT version, name, checksum FROM schema_migrations FINAL ORDER BY version',
    format: 'JSONEachRow',
  });
  const applied = new Map(
    (await result.json<{ version: number; checksum: string }>()).map((row) => [row.version, row.checksum]),
  );
  const names: string[] = [];
  for (const { version, name, checksum, statements } of migrations) {
    const before = applied.get(version);
    if (before === checksum) continue;
    if (before !== undefined)
      throw new Error(
        `ClickHouse migration ${name} was changed after it was applied; undo the change and add a new migration`,
      );
    for (const query of statements) await runStatement(client, name, statementFor(cluster, query));
    await client.insert({
      table: 'schema_migrations',
      values: [{ version, name, checksum }],
      format: 'JSONEachRow',
      clickhouse_settings: { async_insert: 0 },
    });
    names.push(name);
  }
  return names;
}

async function runStatement(client: ClickHouseClient, name: string, query: string): Promise<void> {
  try {
    await client.command({ query });
  } catch (error) {
    throw new Error(
      `ClickHouse migration ${name} failed; fix the cause and run it again: ${String(error)}\n${query}`,
      {
        cause: error,
      },
    );
  }
}

/** @throws when a name does not fit the pattern, or the numbers are not 1, 2, 3 … */
export async function readMigrations(folder: string): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql')).sort();
  return Promise.all(
    files.map(async (file, index) => {
      const match = MIGRATION_FILE.exec(file);
      const version = Number(match?.[1]);
      if (version !== index + 1)
        throw new Error(
          `${path.join(folder, file)} must be named ${String(index + 1).padStart(4, '0')}_name.sql`,
        );
      const sql = await readFile(path.join(folder, file), 'utf8');
      return {
        version,
        name: path.basename(file, '.sql'),
        checksum: createHash('sha256').update(sql).digest('hex'),
        statements: splitStatements(substitute(sql, file)),
      };
    }),
  );
}

function substitute(sql: string, file: string): string {
  return sql.replace(/@(\w+)@/g, (_, name: string) => {
    const value = SUBSTITUTIONS[name];
    if (value === undefined) throw new Error(`${file} names @${name}@, which is not known`);
    return value;
  });
}

/** Splits at semicolons outside of quotes and comments; comments and empty statements are left out. */
export function splitStatements(sql: string): string[] {
  const parts = sql.matchAll(
    /--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*"|;|[^-/'"`;]+|[-/'"`]/g,
  );
  const statements = [''];
  for (const [part] of parts) {
    if (part === ';') statements.push('');
    else if (!part.startsWith('--') && !part.startsWith('/*')) statements[statements.length - 1] += part;
  }
  return statements.map((statement) => statement.trim()).filter((statement) => statement !== '');
}
