import { appendFile, chmod, copyFile, mkdir, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Archive, BaseBackup } from './archive';
import { readBase, reachOf, checkSegments, unlessStopped, type Reach } from './verify';
import { parseLsn, segmentName } from './wal-names';

export interface RestoreOptions {
  /** Ends it before anything has changed. */
  signal?: AbortSignal;
  /** The state of this time; the newest that there is when left out. */
  to?: Date;
  /** Along this timeline; the newest when left out. */
  timeline?: number;
}

/** What PostgreSQL is told so that it applies the log up to the time, and works from there. */
export interface RecoverySettings {
  restore_command: string;
  recovery_target_timeline: string;
  recovery_target_action: string;
  recovery_target_time?: string;
}

export interface Prepared {
  reach: Reach;
  /** Files of the base backup, each as the server's manifest says. */
  files: number;
  settings: RecoverySettings;
}

/**
 * The base backup from which a time is reached soonest.
 * @throws Error that says what can be reached, when this can not.
 */
export async function chooseBase(archive: Archive, { to, timeline }: RestoreOptions): Promise<Reach> {
  const received = await archive.received();
  const all = await archive.bases();
  const timelines = knownTimelines(archive, all);
  if (timeline !== undefined && !timelines.includes(timeline))
    throw new Error(`${archive.folder} has no timeline ${timeline}: known are ${timelines.join(', ')}`);
  const bases = all.filter((base) => timeline === undefined || base.timeline <= timeline);
  if (bases.length === 0) throw new Error(`${archive.folder} has no complete base backup`);
  const at = to?.toISOString();
  const base = bases.findLast(({ finishedAt }) => at === undefined || finishedAt <= at);
  if (!base)
    throw new Error(
      `the oldest base backup is of ${bases[0]?.finishedAt}: no time before it can be restored`,
    );
  const reach = reachOf(archive, base, received, timeline);
  if (reach.gap !== undefined)
    throw new Error(
      `the log after the base backup ${base.name} has a gap: ${reach.gap} is missing. ${describeReach(archive, bases, received)}`,
    );
  if (at !== undefined && reach.until !== undefined && at > reach.until)
    throw new Error(`the log that was received reaches to ${reach.until}: no later time can be restored`);
  return reach;
}

function knownTimelines(archive: Archive, bases: readonly BaseBackup[]): number[] {
  const known = new Set([...bases, ...archive.segments()].map(({ timeline }) => timeline));
  return [...known].sort((a, b) => a - b);
}

function describeReach(
  archive: Archive,
  bases: readonly BaseBackup[],
  received: Parameters<typeof reachOf>[2],
): string {
  const reaches = bases
    .map((base) => reachOf(archive, base, received))
    .filter(({ gap }) => gap === undefined);
  return reaches.length === 0
    ? 'No base backup reaches further than its own end.'
    : `What can be restored: ${reaches.map(({ base, until }) => `${base.finishedAt} to ${until ?? base.finishedAt}`).join(', ')}.`;
}

/**
 * Builds a data folder out of a base backup and the log after it: PostgreSQL, started on it, applies the log up to the time
 * and then works. It needs nothing but the folder. Everything is checked while it is written.
 * @param folder empty, or not there yet; what was made in it is removed again on failure.
 * @throws Error when something is damaged or missing; nothing is left then.
 */
export async function prepareDataFolder(
  archive: Archive,
  reach: Reach,
  folder: string,
  { to, timeline, signal }: RestoreOptions,
): Promise<Prepared> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if ((await readdir(folder)).length > 0) throw new Error(`${folder} is not empty`);
  try {
    const received = await archive.received();
    await checkSegments(archive, reach.segments, received, signal);
    const files = await unpack(archive, reach.base, folder, signal);
    await copyLog(archive, reach, folder, received && parseLsn(received.lsn), signal);
    const settings: RecoverySettings = {
      // All of the log is in pg_wal already: there is nowhere else to ask.
      restore_command: 'false',
      recovery_target_timeline: timeline === undefined ? 'latest' : String(timeline),
      recovery_target_action: 'promote',
      // With its offset as a number: abbreviations, `Z` too, are not known where this is read.
      ...(to && { recovery_target_time: to.toISOString().replace('Z', '+00') }),
    };
    await writeFile(path.join(folder, 'recovery.signal'), '', { mode: 0o600 });
    // A server that is started on the folder works there: nobody else may look into it.
    await chmod(folder, 0o700);
    return { reach, files, settings };
  } catch (error) {
    for (const name of await readdir(folder))
      await rm(path.join(folder, name), { recursive: true, force: true });
    throw error;
  }
}

/** @returns how many files the manifest has. */
function unpack(
  archive: Archive,
  base: BaseBackup,
  folder: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  return readBase(archive, base, async ({ name, type, mode }) => {
    const target = path.join(folder, name);
    // As the server sent it; but an archive that was tampered with must not write elsewhere.
    if (target !== folder && !target.startsWith(folder + path.sep))
      throw new Error(`${name} leads out of the folder`);
    if (type === 'directory') {
      await mkdir(target, { recursive: true, mode: 0o700 });
      return undefined;
    }
    if (type !== 'file') throw new Error(`${name} is a ${type}, which no server without tablespaces sends`);
    await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
    const file = await open(target, 'wx', mode ?? 0o600);
    return {
      write: (chunk) => {
        unlessStopped(signal);
        return file.writeFile(chunk);
      },
      close: () => file.close(),
    };
  });
}

/** The archive's log next to what came with the base backup: of two that are not complete, the one that reaches further. */
async function copyLog(
  archive: Archive,
  { base, segments }: Reach,
  folder: string,
  receivedTo: bigint | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const log = path.join(folder, 'pg_wal');
  const there = new Set(await readdir(log));
  for (const segment of segments) {
    const name = segmentName(segment, archive.identity.segmentBytes);
    const further = !segment.partial || (receivedTo ?? 0n) >= parseLsn(base.endLsn);
    if (there.has(name) && !further) continue;
    unlessStopped(signal);
    await copyFile(
      existsSync(segment.file) ? segment.file : path.join(archive.walFolder, name),
      path.join(log, name),
    );
    await chmod(path.join(log, name), 0o600);
  }
  for (const history of archive.histories()) await copyFile(history, path.join(log, path.basename(history)));
}

/** Tells the server by the file that it reads last; what was there before stays above. */
export async function writeSettings(folder: string, settings: RecoverySettings): Promise<void> {
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${String(value)}'\n`);
  await appendFile(path.join(folder, AUTO_CONF), lines.join(''));
}

const AUTO_CONF = 'postgresql.auto.conf';

/** The settings that were there before, to be put back when the recovery is through. */
export const settingsOf = (folder: string): Promise<string> => readFile(path.join(folder, AUTO_CONF), 'utf8');
export const putSettings = (folder: string, content: string): Promise<void> =>
  writeFile(path.join(folder, AUTO_CONF), content);
