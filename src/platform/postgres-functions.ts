import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client as PgClient } from 'pg';
import { z } from 'zod';

/**
 * How long a file of functions waits for a lock. Only triggers take one; a table's writers must not queue up for long
 * behind a migration that itself waits for one of them. Then it lets them pass, and tries again.
 */
const LOCK_TIMEOUT_MS = 2_000;
const LOCK_TRIES = 10;
/** SQLSTATEs of a lock that was not had in time, or only by a deadlock. */
const LOCK_NOT_HAD = new Set(['55P03', '40P01']);

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

/** What of a file was applied last, and by which version of remit. */
export interface AppliedFile {
  file: string;
  checksum: string;
  version: string;
}

/** What holds of each file; makes the history when there is none yet. */
export async function appliedFunctions(client: PgClient): Promise<AppliedFile[]> {
  await client.query(HISTORY_TABLE);
  const { rows } = await client.query<AppliedFile>(
    'SELECT DISTINCT ON (file) file, checksum, version FROM _remit_functions ORDER BY file, id DESC',
  );
  return rows;
}

/** A version that has applied functions and is newer than this one: by major, minor and patch, without what follows. */
export function newerVersion(applied: readonly AppliedFile[], version: string): string | undefined {
  const core = (text: string) => text.split('-', 1)[0] ?? text;
  const isNewer = (other: string) => core(other).localeCompare(core(version), 'en', { numeric: true }) > 0;
  return applied.map((row) => row.version).find(isNewer);
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
  applied: readonly AppliedFile[],
  version: string,
): Promise<string[]> {
  const checksums = new Map(applied.map((row) => [row.file, row.checksum]));
  const changed = files.filter(({ name, checksum }) => checksums.get(name) !== checksum);
  if (changed.length === 0) return [];
  for (let attempt = 1; ; attempt++) {
    try {
      await applyFiles(client, changed, version);
      return changed.map(({ name }) => `functions/${name}`);
    } catch (error) {
      const { cause } = error as { cause?: { code?: string } };
      if (attempt === LOCK_TRIES || !LOCK_NOT_HAD.has(cause?.code ?? '')) throw error;
      await sleep(Math.random() * 1_000);
    }
  }
}

async function applyFiles(client: PgClient, files: readonly FunctionFile[], version: string): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
    for (const file of files) {
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
}

async function applyFile(client: PgClient, { name, sql }: FunctionFile): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    const position = Number((error as { position?: string }).position);
    const line = position > 0 ? `:${sql.slice(0, position).split('\n').length}` : '';
    throw new Error(
      `functions/${name}${line} failed, no function was changed: ${String(error)}. Fix it and run \`remit migrate\` again`,
      { cause: error },
    );
  }
}
