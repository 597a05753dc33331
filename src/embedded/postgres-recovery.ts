import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { chown, readdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { processCommand, processIdentity, stopProcess } from '../platform/processes';
import { lastLines } from './log-file';
import { MAJOR, postgresNativeDir, postgresOwner, postgresProgram } from './postgres';
import { EmbeddedError } from './types';

export interface Recovered {
  /** When the last transaction that is in it was committed, by the server's clock; undefined when none was applied. */
  lastCommit?: string;
  /** It stopped before a later transaction, and not since there were none. */
  stoppedBeforeLater: boolean;
}

/** There is no transaction after the time that was asked for. */
export class LogEndedEarly extends EmbeddedError {}

/**
 * Starts PostgreSQL on a data folder that was prepared for it, until it has applied its log and works, and stops it in order.
 * Nobody can reach it meanwhile. Safe to repeat: one that was interrupted goes on.
 * @param signal ends it; what was applied stays.
 * @throws LogEndedEarly, and EmbeddedError with the server's last lines.
 */
export async function runRecovery(folder: string, signal?: AbortSignal): Promise<Recovered> {
  const version = readFileSync(path.join(folder, 'PG_VERSION'), 'utf8').trim();
  if (version !== MAJOR)
    throw new EmbeddedError(
      `the backup is of PostgreSQL ${version}, the embedded one is ${MAJOR}: name a folder with --into and start a PostgreSQL ${version} on it`,
    );
  const sockets = mkdtempSync(path.join(os.tmpdir(), 'remit-pg-'));
  const log = path.join(sockets, 'log');
  await giveTo(postgresOwner(), folder, sockets);
  const settings: Record<string, string> = {
    listen_addresses: '',
    unix_socket_directories: sockets,
    // Reading from it before the time is reached would show states that never count.
    hot_standby: 'off',
    archive_mode: 'off',
    shared_buffers: '256MB',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_line_prefix: '%m ',
  };
  const { command, args, env, uid, gid } = postgresProgram(postgresNativeDir(), 'postgres', [
    '-D',
    folder,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]);
  const fd = openSync(log, 'a');
  const child = spawn(command, args, {
    cwd: folder,
    env,
    stdio: ['ignore', fd, fd],
    detached: true,
    ...(uid === undefined ? {} : { uid, gid }),
  });
  closeSync(fd);
  let ended: string | undefined;
  child.once('error', (error) => (ended = error.message));
  child.once('exit', (code, by) => (ended ??= by === null ? `code ${code}` : by));
  const said = (): string => (existsSync(log) ? readFileSync(log, 'utf8') : '');
  const stop = async (): Promise<void> => {
    child.kill('SIGINT');
    while (ended === undefined) await sleep(20);
  };
  try {
    while (!(
      said().includes('ready to accept connections') && !existsSync(path.join(folder, 'recovery.signal'))
    )) {
      if (ended !== undefined) throw failure(said(), ended);
      if (signal?.aborted) {
        await stop();
        throw new EmbeddedError('interrupted: what is there now was not changed');
      }
      await sleep(50);
    }
    await stop();
    return outcome(said());
  } finally {
    if (ended === undefined) await stop();
    rmSync(sockets, { recursive: true, force: true });
  }
}

const STOP_GRACE_MS = 30_000;

/**
 * Ends a server that runs on a folder because whoever recovered it was killed. By PostgreSQL's own note of its process, which is
 * believed only when that is a PostgreSQL on this folder.
 */
export async function stopServerOn(folder: string, report: (line: string) => void): Promise<void> {
  const note = path.join(folder, 'postmaster.pid');
  const pid = existsSync(note) ? Number(readFileSync(note, 'utf8').split('\n')[0]) : Number.NaN;
  const identity = Number.isInteger(pid) && pid > 1 ? processIdentity(pid) : undefined;
  if (identity === undefined || !processCommand(pid)?.includes(`postgres -D ${folder} `)) return;
  report(`stopping PostgreSQL (process ${pid}), left over from a restore that was killed`);
  await stopProcess(pid, identity, 'SIGINT', STOP_GRACE_MS);
}

function failure(log: string, ended: string): EmbeddedError {
  if (log.includes('recovery ended before configured recovery target was reached'))
    return new LogEndedEarly('there is no transaction after that time in the log that was received');
  if (log.includes('before consistent recovery point'))
    return new EmbeddedError(
      'that time lies before the end of the base backup: no state of it is consistent',
    );
  return new EmbeddedError(
    `PostgreSQL did not recover (${ended}):\n${lastLines(log, 15).replace(/^/gm, '  | ')}`,
  );
}

function outcome(log: string): Recovered {
  const last = /last completed transaction was at log time (\S+ \S+)/.exec(log)?.[1];
  return {
    ...(last !== undefined && { lastCommit: `${last.replace(' ', 'T').replace(/\+00$/, '')}Z` }),
    stoppedBeforeLater: /recovery stopping (before|after)/.test(log),
  };
}

async function giveTo(owner: { uid: number; gid: number } | undefined, ...folders: string[]): Promise<void> {
  if (!owner) return;
  for (const folder of folders) {
    await chown(folder, owner.uid, owner.gid);
    for (const name of await readdir(folder, { recursive: true }))
      await chown(path.join(folder, name), owner.uid, owner.gid);
  }
}
