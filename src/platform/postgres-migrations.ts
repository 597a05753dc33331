import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { Client as PgClient } from 'pg';
import { PROJECT_ROOT } from './project';

/** Only one migration runs at a time on one database. */
const MIGRATION_LOCK = 7_265_001;

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

/**
 * Applies `prisma/migrations` in order, each in a transaction with its row in Prisma's own table, so that
 * `prisma migrate deploy` and `status` agree with it. Idempotent; concurrent runs wait for each other.
 * @returns the names it applied.
 * @throws when an applied migration's file was changed since, or a migration fails (nothing of it stays).
 */
export async function migratePostgres(databaseUrl: string): Promise<string[]> {
  const client = new PgClient({ connectionString: databaseUrl, application_name: 'remit migrate' });
  // Whoever waits for an answer gets the error; without a listener it would end the process without a word of why.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
    await client.query(MIGRATIONS_TABLE);
    const { rows } = await client.query<{ migration_name: string; checksum: string }>(
      'SELECT migration_name, checksum FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL',
    );
    const applied = new Map(rows.map((row) => [row.migration_name, row.checksum]));
    const names: string[] = [];
    for (const { name, sql, checksum } of await readMigrations()) {
      const before = applied.get(name);
      if (before === checksum) continue;
      if (before !== undefined)
        throw new Error(
          `migration ${name} was changed after it was applied; undo the change and add a new migration`,
        );
      await applyMigration(client, name, sql, checksum);
      names.push(name);
    }
    return names;
  } finally {
    await client.end();
  }
}

async function readMigrations() {
  const folder = path.join(PROJECT_ROOT, 'prisma', 'migrations');
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return Promise.all(
    names.sort().map(async (name) => {
      const sql = await readFile(path.join(folder, name, 'migration.sql'), 'utf8');
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

async function applyMigration(client: PgClient, name: string, sql: string, checksum: string): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query(sql);
    await client.query(
      `INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
       VALUES ($1, $2, now(), $3, 1)`,
      [randomUUID(), checksum, name],
    );
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw new Error(`migration ${name} failed, nothing of it was applied: ${String(error)}`, {
      cause: error,
    });
  }
}
