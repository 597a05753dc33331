import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client as PgClient } from 'pg';
import { appliedFunctions, applyFunctions, newerVersion, readFunctionFiles } from './postgres-functions';
import { PROJECT_ROOT, VERSION } from './project';

/** Only one migration runs at a time on one database. */
const MIGRATION_LOCK = 7_265_001;
const LOCK_POLL_MS = 100;

/** The first line of a migration that is one statement and runs outside a transaction (docs/database.md). */
const ALONE = '-- remit: outside a transaction';

const MIGRATIONS_TABLE = `
  CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id varchar(36) PRIMARY KEY,
    checksum varchar(64) NOT NULL,
    finished_at timestamptz,
    migration_name varchar(255) NOT NULL,
    logs text,
    rolled_back_at timestamptz,
    started_at timestamptz NOT NULL DEFAULT now(),
    applied_steps_count integer NOT NULL DEFAULT 0
  )`;

interface Migration {
  name: string;
  sql: string;
  /** SHA-256 of the file, hex. */
  checksum: string;
  /** One statement that may not be part of a transaction, and may be repeated. */
  alone: boolean;
}

export interface Migrated {
  /** Migrations and, as `functions/<file>.sql`, files of functions that were applied. */
  applied: string[];
  /** What of a newer version has migrated this database already: then nothing is applied, it never goes back. */
  newer?: string;
}

/**
 * Applies `prisma/migrations` in order, each in a transaction with its row in Prisma's own table, so that `prisma migrate
 * deploy` and `status` agree with it; one that is marked as such outside of a transaction; then the files of `prisma/functions`
 * that have changed since they were applied, all in one transaction. Idempotent; concurrent runs wait for each other. Roles of
 * this version and of the one before may be at work meanwhile (docs/adr/0002).
 *
 * A database that a newer version has migrated is left as it is.
 * @param source the folder with `migrations` and `functions`, and the version that they are of.
 * @throws when the database was made by a version before the first of these migrations, an applied migration's file was
 *   changed since, or one fails (nothing of it stays, or it can be repeated).
 */
export async function migratePostgres(
  databaseUrl: string,
  source = { folder: path.join(PROJECT_ROOT, 'prisma'), version: VERSION },
): Promise<Migrated> {
  const migrations = await readMigrations(path.join(source.folder, 'migrations'));
  const functions = await readFunctionFiles(path.join(source.folder, 'functions'));
  const client = new PgClient({ connectionString: databaseUrl, application_name: 'remit migrate' });
  // Whoever waits for an answer gets the error; without a listener it would end the process without a word of why.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await lock(client);
    await client.query(MIGRATIONS_TABLE);
    const applied = await appliedMigrations(client);
    const laterMigration = newerMigration(applied, migrations);
    if (laterMigration !== undefined) return { applied: [], newer: laterMigration };
    const appliedFiles = await appliedFunctions(client);
    const newer = newerVersion(appliedFiles, source.version);
    if (newer !== undefined) return { applied: [], newer };
    const names: string[] = [];
    for (const migration of migrations) {
      const before = applied.get(migration.name);
      if (before === migration.checksum) continue;
      if (before !== undefined)
        throw new Error(
          `migration ${migration.name} was changed after it was applied; undo the change and add a new migration`,
        );
      await (migration.alone ? applyAlone : applyMigration)(client, migration);
      names.push(migration.name);
    }
    return {
      applied: [...names, ...(await applyFunctions(client, functions, appliedFiles, source.version))],
    };
  } finally {
    await client.end();
  }
}

/**
 * Waits for another migration without a statement that waits: CREATE INDEX CONCURRENTLY would wait for that statement's
 * snapshot, and it for the index.
 */
async function lock(client: PgClient): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ got: boolean }>('SELECT pg_try_advisory_lock($1) AS got', [
      MIGRATION_LOCK,
    ]);
    if (rows[0]?.got) return;
    await sleep(LOCK_POLL_MS);
  }
}

/** Names and checksums. */
async function appliedMigrations(client: PgClient): Promise<Map<string, string>> {
  const { rows } = await client.query<{ migration_name: string; checksum: string }>(
    'SELECT migration_name, checksum FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL',
  );
  return new Map(rows.map((row) => [row.migration_name, row.checksum]));
}

/**
 * A migration that is applied, that this version does not know, and that is later than all it knows.
 * @throws when an unknown one is earlier: then the database has another history, and no migration leads here from it.
 */
function newerMigration(
  applied: ReadonlyMap<string, string>,
  known: readonly Migration[],
): string | undefined {
  const names = known.map(({ name }) => name);
  const last = names.at(-1) ?? '';
  const unknown = [...applied.keys()].filter((name) => !names.includes(name)).sort();
  const foreign = unknown.find((name) => name < last);
  if (foreign === undefined) return unknown[0];
  const which =
    foreign < (names[0] ?? '')
      ? `it was made by an earlier version, whose data is not carried over (its migration ${foreign})`
      : `its migration ${foreign} is not one of this version's`;
  throw new Error(
    `this database can't be migrated: ${which}. Nothing was changed. ` +
      'Begin with an empty one: `remit reset` for the local stack of `npm start`, otherwise drop and create the database; ' +
      'or go on with the version that made it',
  );
}

async function readMigrations(folder: string): Promise<Migration[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return Promise.all(
    names.sort().map(async (name) => {
      const sql = await readFile(path.join(folder, name, 'migration.sql'), 'utf8');
      const alone = sql.startsWith(ALONE);
      if (alone && statementsOf(sql) !== 1)
        throw new Error(`migration ${name} runs outside a transaction and must be one statement`);
      return { name, sql, alone, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

/** How many statements a file without quoted semicolons has. */
function statementsOf(sql: string): number {
  return sql
    .replace(/^\s*--.*$/gm, '')
    .split(';')
    .filter((text) => text.trim() !== '').length;
}

async function noteApplied(client: PgClient, { name, checksum }: Migration): Promise<void> {
  await client.query(
    `INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
     VALUES ($1, $2, now(), $3, 1)`,
    [randomUUID(), checksum, name],
  );
}

/**
 * Without a transaction, so that it may take long and locks nobody out. Whatever ended it before, it begins again: an index of
 * which a former run left a part is dropped first.
 */
async function applyAlone(client: PgClient, migration: Migration): Promise<void> {
  const { name, sql } = migration;
  try {
    const [, index] = /\bINDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS\s+(\w+)/i.exec(sql) ?? [];
    if (index !== undefined) {
      const { rowCount } = await client.query(
        'SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid',
        [index],
      );
      if (rowCount) await client.query(`DROP INDEX CONCURRENTLY ${index}`);
    }
    await client.query(sql);
    await noteApplied(client, migration);
  } catch (error) {
    throw new Error(`migration ${name} failed and can be repeated: ${String(error)}`, { cause: error });
  }
}

async function applyMigration(client: PgClient, migration: Migration): Promise<void> {
  const { name, sql } = migration;
  await client.query('BEGIN');
  try {
    await client.query(sql);
    await noteApplied(client, migration);
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw new Error(`migration ${name} failed, nothing of it was applied: ${String(error)}`, {
      cause: error,
    });
  }
}
