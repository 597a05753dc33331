import { lstatSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ConfigError } from './config';
import { lockHolder, tryLock, type FileLock, type LockHolder } from './lock';
import { PROJECT_ROOT } from './project';

/**
 * The folder of a local installation's data (`REMIT_DATA_DIR`, `.remit` in the project). It bears a marker that is written
 * when remit makes the folder, or finds it empty: without one nothing is written to it, and nothing in it is deleted.
 */

/** The marker's name and its first line. */
export const DATA_DIR_MARKER = '.remit-data-dir';
const MARKER_LINE = 'remit keeps its data here';
const MARKER = `${MARKER_LINE}; without this file remit neither uses this folder nor deletes anything in it\n`;

/** Everything that remit makes in its data folder; `remit reset` knows of nothing else. */
export const DATA_ENTRIES: readonly string[] = [
  'postgres',
  'postgres.init',
  'postgres.restore',
  'postgres.replaced',
  'postgres.pwfile',
  'postgres.password',
  'kafka',
  'kafka.format',
  'kafka.properties',
  'kafka.format.properties',
  'temporal',
  'clickhouse',
  'logs',
  'restored.json',
  'endpoints.json',
  'secrets.json',
  'run',
];

/**
 * Makes the data folder, or finds that it is one. Idempotent.
 * @returns its real path.
 * @throws ConfigError when it has content that remit did not make, or is a place that is never remit's alone.
 */
export function claimDataDir(dataDir: string): string {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new ConfigError(`The data folder ${dataDir} can't be made (${messageOf(error)}).\n${WHERE}`);
  }
  const folder = realpathSync.native(dataDir);
  refuseSharedPlace(folder);
  if (hasMarker(folder)) return folder;
  const found = readdirSync(folder);
  // Another start may have made it in this moment.
  if (found.length > 0 && !hasMarker(folder))
    throw new ConfigError(
      `${folder} was not made by remit: it has no ${DATA_DIR_MARKER}, but ${someOf(found)}. Nothing was written to it.\n${WHERE}\n` +
        `If it does hold remit's data (of a version without this file), say so: echo '${MARKER_LINE}' > '${path.join(folder, DATA_DIR_MARKER)}'`,
    );
  markDataDir(folder);
  return folder;
}

const WHERE = 'Name an empty folder, or one that does not exist yet, in REMIT_DATA_DIR.';

/** Writes the marker of a folder that was claimed, unless it is there. */
function markDataDir(folder: string): void {
  try {
    writeFileSync(path.join(folder, DATA_DIR_MARKER), MARKER, { flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST' && hasMarker(folder)) return;
    throw new ConfigError(`${folder} can't be made remit's data folder (${messageOf(error)}).\n${WHERE}`);
  }
}

/**
 * Takes the lock of a folder that was claimed: whoever holds it may write there, also when all servers run elsewhere.
 * @throws ConfigError that says who has it.
 */
export function lockDataDir(folder: string): FileLock {
  const lock = tryLock(path.join(folder, 'run', 'lock'));
  if ('heldBy' in lock)
    throw new ConfigError(
      `The data folder ${folder} is in use by process ${lock.heldBy.pid} (since ${lock.heldBy.since}). Two stacks on one folder would destroy its data: stop that one first (kill ${lock.heldBy.pid}), or name another folder in REMIT_DATA_DIR.`,
    );
  // A reset that was just ending may have taken the marker with it.
  markDataDir(folder);
  return lock;
}

/** The process that holds the lock of a folder now; undefined when none does. */
export function holderOf(folder: string): LockHolder | undefined {
  return lockHolder(path.join(folder, 'run', 'lock'));
}

/** What a reset would delete. */
export interface DataDirContents {
  folder: string;
  /** Those of DATA_ENTRIES that are there. */
  entries: string[];
  /** What others put there: it stays, and with it the folder. */
  foreign: string[];
}

/**
 * Looks at the data folder without changing anything.
 * @returns undefined when there is no such folder.
 * @throws ConfigError when it is not remit's: no marker, a symbolic link, a shared place.
 */
export function inspectDataDir(dataDir: string): DataDirContents | undefined {
  const stat = lstatSync(dataDir, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  if (stat.isSymbolicLink())
    throw new ConfigError(
      `${dataDir} is a symbolic link to ${linkTarget(dataDir)}; nothing is deleted through links. Set REMIT_DATA_DIR to the folder itself.`,
    );
  if (!stat.isDirectory()) throw new ConfigError(`${dataDir} is not a folder; nothing was deleted.`);
  const folder = realpathSync.native(dataDir);
  refuseSharedPlace(folder);
  if (!hasMarker(folder))
    throw new ConfigError(
      `${folder} was not made by remit (it has no ${DATA_DIR_MARKER}), so nothing in it is deleted. Is REMIT_DATA_DIR what you mean?`,
    );
  const run = lstatSync(path.join(folder, 'run'), { throwIfNoEntry: false });
  if (run !== undefined && !run.isDirectory())
    throw new ConfigError(`${path.join(folder, 'run')} is not a folder of remit's; nothing was deleted.`);
  const found = readdirSync(folder);
  return {
    folder,
    entries: DATA_ENTRIES.filter((name) => found.includes(name)),
    foreign: found.filter((name) => name !== DATA_DIR_MARKER && !DATA_ENTRIES.includes(name)).sort(),
  };
}

/** A regular file of remit's own words: a link, or another program's file of that name, is none. */
function hasMarker(folder: string): boolean {
  const file = path.join(folder, DATA_DIR_MARKER);
  const stat = lstatSync(file, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile() || stat.size > 1_024) return false;
  return readFileSync(file, 'utf8').startsWith(MARKER_LINE);
}

/**
 * Roots, homes, temporary roots, the project, and whatever these lie in are never a data folder, marker or not.
 * @throws ConfigError
 */
function refuseSharedPlace(folder: string): void {
  const shared = [
    os.homedir(),
    homeOfUser(),
    os.tmpdir(),
    ...['/tmp', '/var/tmp', '/dev/shm', '/private/tmp', '/root', '/home', '/Users'],
    PROJECT_ROOT,
  ];
  const real = [...new Set(shared.flatMap((place) => (place ? [resolved(place)] : [])))];
  const lies = real.find((place) => place === folder || place.startsWith(withSlash(folder)));
  const home = ['/home', '/Users'].map(resolved).includes(path.dirname(folder));
  if (folder !== path.parse(folder).root && lies === undefined && !home) return;
  const why = lies === undefined || lies === folder ? 'is shared with others' : `is where ${lies} lies`;
  throw new ConfigError(
    `${folder} ${why}: it is never remit's data folder. Nothing was changed there.\n${WHERE}`,
  );
}

const withSlash = (folder: string): string => (folder.endsWith(path.sep) ? folder : `${folder}${path.sep}`);
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
const someOf = (names: string[]): string =>
  `${names.slice(0, 5).join(', ')}${names.length > 5 ? ` and ${names.length - 5} more` : ''}`;

/** $HOME may be anything; what the system says of the user may be missing. */
function homeOfUser(): string | undefined {
  try {
    return os.userInfo().homedir;
  } catch {
    return undefined;
  }
}

function resolved(place: string): string {
  try {
    return realpathSync.native(place);
  } catch {
    return path.resolve(place);
  }
}

function linkTarget(link: string): string {
  try {
    return realpathSync.native(link);
  } catch {
    return 'what is not there';
  }
}
