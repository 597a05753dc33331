import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '../../platform/backoff';
import { BACKUP_SLOT } from '../../platform/backup-slot';
import { createTable } from '../../platform/table';
import { localAccess } from '../local-access';
import { untilStopped } from '../until-stopped';
import { Archive, type BaseBackup } from './archive';
import { takeBaseBackup } from './base-backup';
import { ReplicationConnection } from './replication';
import { checkSegments, readBase, reachOf, type Reach } from './verify';
import { ensureSlot, receiveWal, SlotInUse } from './wal-receiver';
import { parseLsn, type Lsn } from './wal-names';

type Say = (line: string) => void;

/** How `remit backup` is called. */
export interface BackupCommand {
  folder: string;
  /** Base backups that are kept; all when left out. */
  keep?: number;
  /** It goes on, and receives the log until it is stopped. */
  follow: boolean;
  /** Hours after which a following one makes the next base backup. */
  every?: number;
}

/** A one-shot backup waits so long for another process that receives. */
const OTHER_RECEIVES_MS = 120_000;
const TELL_PROGRESS_MS = 2_000;
const RECONNECT_MS = { base: 500, cap: 30_000 } as const;
const HOUR_MS = 3_600_000;

/**
 * `remit backup`: a base backup and the log up to its end, and with `follow` all that is written from then on.
 * @returns the process's exit code.
 * @throws Error that says what to do.
 */
export async function runBackup(dataDir: string, command: BackupCommand, say: Say): Promise<number> {
  const url = await databaseUrl(dataDir);
  if (command.follow) await follow(url, command, say, untilStopped());
  else await backUpOnce(url, command, say);
  return 0;
}

async function databaseUrl(dataDir: string): Promise<string> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const url = config.DATABASE_URL ?? endpoints.postgres;
  if (!url) throw new Error('no database is known: start remit first (npm start), or set DATABASE_URL');
  return url;
}

/** Runs something with a connection and the server's archive. */
async function withServer<T>(
  url: string,
  folder: string,
  run: (
    connection: ReplicationConnection,
    server: Awaited<ReturnType<ReplicationConnection['server']>>,
    archive: Archive,
  ) => Promise<T>,
): Promise<T> {
  const connection = await ReplicationConnection.open(url);
  try {
    const server = await connection.server();
    const { systemIdentifier, segmentBytes } = server;
    return await run(connection, server, await Archive.openFor(folder, { systemIdentifier, segmentBytes }));
  } finally {
    connection.close();
  }
}

/** Makes a base backup, reads it again, and receives the log to its end. Idempotent in that each call makes one more. */
export async function backUpOnce(url: string, command: BackupCommand, say: Say): Promise<BaseBackup> {
  const base = await makeBase(url, command, say);
  const until = await withServer(url, command.folder, (_, { flushedTo }) => Promise.resolve(flushedTo));
  await receiveUntil(url, command.folder, until, say);
  return base;
}

async function makeBase(url: string, { folder, keep }: BackupCommand, say: Say): Promise<BaseBackup> {
  const { base, archive } = await withServer(url, folder, async (connection, server, archive) => {
    say(`base backup of PostgreSQL ${server.version} into ${folder}`);
    // Before it begins: its log is to be received from there.
    await ensureSlot(connection);
    return { archive, base: await takeBaseBackup(connection, server, archive, teller(say)) };
  });
  const files = await readBase(archive, base);
  say(
    `${base.name}: ${files} files, ${megabytes(base.bytes)}; each was read again and is as the server sent it`,
  );
  if (keep !== undefined)
    for (const old of await archive.keepNewest(Math.max(1, keep))) say(`${old}: removed, ${keep} are kept`);
  return base;
}

function teller(say: Say): (done: number, total: number) => void {
  let told = Date.now();
  return (done, total) => {
    if (Date.now() - told < TELL_PROGRESS_MS) return;
    told = Date.now();
    say(`  ${megabytes(done)} of ${megabytes(Math.max(done, total))}`);
  };
}

/** What another process has received meanwhile counts as well. */
async function receiveUntil(url: string, folder: string, until: Lsn, say: Say): Promise<void> {
  const deadline = Date.now() + OTHER_RECEIVES_MS;
  for (;;) {
    try {
      await withServer(url, folder, (connection, server, archive) =>
        receiveWal(connection, server, archive, { until, say }),
      );
    } catch (error) {
      if (!(error instanceof SlotInUse)) throw error;
    }
    const received = await (await Archive.open(folder)).received();
    if (received && parseLsn(received.lsn) >= until)
      return say(`the log is received up to ${received.lsn}, ${received.at}`);
    if (Date.now() > deadline)
      throw new Error(
        `another process receives this server's log (replication slot ${BACKUP_SLOT}), and not into ${folder}, or it does not get on`,
      );
    await sleep(500);
  }
}

/** Receives until the signal, connecting again whenever the connection ends; makes base backups in between. */
export async function follow(
  url: string,
  command: BackupCommand,
  say: Say,
  signal: AbortSignal,
): Promise<void> {
  const everyMs = command.every === undefined ? undefined : command.every * HOUR_MS;
  // The folder is made once, whoever comes first.
  await withServer(url, command.folder, () => Promise.resolve()).catch((error: unknown) =>
    say(`not receiving: ${(error as Error).message}`),
  );
  const bases = makeBases(url, command, everyMs, say, signal);
  const pauses = new Backoff(RECONNECT_MS.base, RECONNECT_MS.cap);
  let tellAgain = true;
  while (!signal.aborted) {
    try {
      await withServer(url, command.folder, async (connection, server, archive) => {
        if (tellAgain) say(`receiving the log of PostgreSQL ${server.version}, timeline ${server.timeline}`);
        tellAgain = true;
        await receiveWal(connection, server, archive, { signal, say, onFlushed: () => pauses.reset() });
      });
    } catch (error) {
      say(`not receiving: ${(error as Error).message}`);
    }
    if (!signal.aborted) await pauses.pause(signal);
  }
  await bases;
}

/** One at the beginning, unless the newest is young enough, and then at each interval. A failure is told and tried again. */
async function makeBases(
  url: string,
  command: BackupCommand,
  everyMs: number | undefined,
  say: Say,
  signal: AbortSignal,
): Promise<void> {
  const pauses = new Backoff(RECONNECT_MS.base, RECONNECT_MS.cap);
  while (!signal.aborted) {
    try {
      const waitMs = await dueIn(command.folder, everyMs);
      if (waitMs === undefined) return;
      if (waitMs <= 0) await makeBase(url, command, say);
      else await sleep(Math.min(waitMs, HOUR_MS), undefined, { signal }).catch(() => undefined);
      pauses.reset();
    } catch (error) {
      say(`no base backup: ${(error as Error).message}`);
      await pauses.pause(signal);
    }
  }
}

/** Milliseconds until the next base backup; undefined when there is one and no further was asked for. */
async function dueIn(folder: string, everyMs: number | undefined): Promise<number | undefined> {
  const archive = await Archive.open(folder).catch(() => undefined);
  const newest = (await archive?.bases())?.at(-1);
  if (!newest) return 0;
  return everyMs === undefined ? undefined : Date.parse(newest.finishedAt) + everyMs - Date.now();
}

/** What `remit backup ls` and `verify` find. */
export interface BackupReport {
  folder: string;
  bytes: number;
  backups: {
    name: string;
    finishedAt: string;
    until: string | null;
    gap: string | null;
    timeline: number;
    bytes: number;
    segments: number;
  }[];
  /** Files that were read and compared; undefined when only listed. */
  verified?: { files: number; segments: number };
}

/** Lists an archive; with `verify`, every file and page in it is read. @throws Error that names what is damaged. */
export async function inspectArchive(folder: string, verify: boolean): Promise<BackupReport> {
  const archive = await Archive.open(folder);
  const received = await archive.received();
  const reaches = (await archive.bases()).map((base) => reachOf(archive, base, received));
  const report: BackupReport = {
    folder,
    bytes: await archive.size(),
    backups: reaches.map(({ base, until, gap, segments }) => ({
      name: base.name,
      finishedAt: base.finishedAt,
      until: until ?? null,
      gap: gap ?? null,
      timeline: base.timeline,
      bytes: base.bytes,
      segments: segments.length,
    })),
  };
  if (!verify) return report;
  let files = 0;
  const seen = new Map<string, Reach['segments'][number]>();
  for (const { base, segments } of reaches) {
    files += await readBase(archive, base);
    for (const segment of segments) seen.set(segment.file, segment);
  }
  await checkSegments(archive, [...seen.values()], received);
  return { ...report, verified: { files, segments: seen.size } };
}

/** `remit backup ls` and `verify`. @returns the exit code: 1 when there is no base backup yet, or the log has a gap. */
export async function runInspect(
  folder: string,
  options: { verify: boolean; json: boolean },
  say: Say,
): Promise<number> {
  const report = await inspectArchive(folder, options.verify);
  if (options.json) say(JSON.stringify(report));
  else for (const line of describe(report)) say(line);
  return report.backups.length === 0 || report.backups.some(({ gap }) => gap !== null) ? 1 : 0;
}

function* describe({ folder, bytes, backups, verified }: BackupReport): Iterable<string> {
  const table = createTable(['base backup', 'restorable from', 'to', 'timeline', 'size']);
  for (const { name, finishedAt, until, gap, timeline, bytes: size } of backups)
    table.push([
      name,
      finishedAt,
      gap === null ? (until ?? 'its end') : `gap: ${gap} is missing`,
      timeline,
      megabytes(size),
    ]);
  yield table.toString();
  yield `${folder}: ${megabytes(bytes)} on disk`;
  if (verified)
    yield `${verified.files} files are as the server's manifests say, ${verified.segments} segments of the log are whole`;
}

const megabytes = (bytes: number): string => `${(bytes / 1_048_576).toFixed(1)} MiB`;
