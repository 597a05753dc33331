import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Client as PgClient } from 'pg';
import { z } from 'zod';

/**
 * How long a file of functions may wait for a lock. Only triggers take one; a table's writers must not queue up behind a
 * migration that itself waits for one of them.
 */
const LOCK_TIMEOUT_MS = 10_000;

/** What was applied when, and by which version; the last row of a file is what holds. */
const HISTORY_TABLE = `
  CREATE TABLE IF NOT EXISTS _remit_functions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file text NOT NULL,
    checksum text NOT NULL,
    version text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
  )`;

/** A file of `prisma/functions`: the one definition of each function in it, written to be applied any number of times. */
export interface FunctionFile {
  name: string;
  sql: string;
  /** SHA-256 of the file, hex. */
  checksum: string;
}

/**
 * The files in the order that `order.json` states: a function in SQL is checked against those it calls when it is made.
 * @throws when the folder has a file that `order.json` does not name, or lacks one that it names.
 */
export async function readFunctionFiles(folder: string): Promise<FunctionFile[]> {
  const order = z
    .array(z.string())
    .parse(JSON.parse(await readFile(path.join(folder, 'order.json'), 'utf8')))
    .map((name) => `${name}.sql`);
  const unlisted = (await readdir(folder)).filter((name) => name.endsWith('.sql') && !order.includes(name));
  if (unlisted.length > 0)
    throw new Error(`${path.join(folder, 'order.json')} does not name ${unlisted.join(', ')}`);
  return Promise.all(
    order.map(async (name) => {
      const sql = await readFile(path.join(folder, name), 'utf8');
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

/** The version of remit that has applied functions here, when it is newer than this one. */
export async function newerVersion(client: PgClient, version: string): Promise<string | undefined> {
  await client.query(HISTORY_TABLE);
  const { rows } = await client.query<{ version: string }>('SELECT DISTINCT version FROM _remit_functions');
  return rows
    .map((row) => row.version)
    .find((other) => other.localeCompare(version, 'en', { numeric: true }) > 0);
}

/**
 * Applies the files that have changed since they were applied last, in one transaction: calls see all of them or none.
 * Calls that are under way finish with the definitions that they began with.
 * @returns what it applied, as `functions/<file>.sql`.
 * @throws when one of them fails, with the line; nothing of any stays.
 */
export async function applyFunctions(
  client: PgClient,
  files: readonly FunctionFile[],
  version: string,
): Promise<string[]> {
  const { rows } = await client.query<{ file: string; checksum: string }>(
    'SELECT DISTINCT ON (file) file, checksum FROM _remit_functions ORDER BY file, id DESC',
  );
  const applied = new Map(rows.map((row) => [row.file, row.checksum]));
  const changed = files.filter(({ name, checksum }) => applied.get(name) !== checksum);
  if (changed.length === 0) return [];
  await client.query('BEGIN');
  try {
    await client.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
    for (const file of changed) {
      await applyFile(client, file);
      await client.query('INSERT INTO _remit_functions (file, checksum, version) VALUES ($1, $2, $3)', [
        file.name,
        file.checksum,
        version,
      ]);
    }
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
  return changed.map(({ name }) => `functions/${name}`);
}

async function applyFile(client: PgClient, { name, sql }: FunctionFile): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    const position = Number((error as { position?: string }).position);
    const line = position > 0 ? `:${sql.slice(0, position).split('\n').length}` : '';
    throw new Error(
      `functions/${name}${line} failed, no function was changed: ${String(error)}. Mend it and run \`remit migrate\` again`,
      { cause: error },
    );
  }
}
