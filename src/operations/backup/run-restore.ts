import { existsSync, readdirSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { claimDataDir, lockDataDir } from '../../platform/data-dir';
import { Archive, writeDurably } from './archive';
import {
  chooseBase,
  prepareDataFolder,
  putSettings,
  settingsOf,
  writeSettings,
  type Prepared,
  type RestoreOptions,
} from './restore';
import { RESTORED_FILE } from '../restored';

type Say = (line: string) => void;

/** How `remit restore` is called. */
export interface RestoreCommand extends RestoreOptions {
  folder: string;
  /** The data folder that is built; the embedded PostgreSQL's when left out. */
  into?: string;
  json: boolean;
  /** Asked before a data folder is replaced. */
  confirm: (question: string) => Promise<boolean>;
  /** Undefined where there are no embedded servers, as in the image. */
  embedded?: EmbeddedServer | undefined;
}

/** What the embedded PostgreSQL does of a restore. */
export interface EmbeddedServer {
  /** Starts it on a folder until it has applied its log. @throws LogEndedEarly when there is no transaction after the time. */
  runRecovery(folder: string, signal?: AbortSignal): Promise<{ lastCommit?: string }>;
  LogEndedEarly: new (message: string) => Error;
  /** Ends servers that a killed start has left behind. */
  stopOrphans(dataDir: string, report: (line: string) => void): Promise<void>;
  /** Ends one that an earlier restore has left on the folder that it built. */
  stopServerOn(folder: string, report: (line: string) => void): Promise<void>;
}

/**
 * `remit restore`: builds PostgreSQL's data folder as it was at a time. For the embedded server it also applies the log, and
 * leaves word that its next start brings Kafka and Temporal to agree.
 * @returns the exit code.
 * @throws Error that says what can be restored, or what is damaged.
 */
export async function runRestore(dataDir: string, command: RestoreCommand, say: Say): Promise<number> {
  const tell = command.json ? () => undefined : say;
  const archive = await Archive.open(command.folder);
  const reach = await chooseBase(archive, command);
  tell(`from the base backup ${reach.base.name} and ${reach.segments.length} segments of the log`);
  const done =
    command.into === undefined
      ? await restoreEmbedded(dataDir, archive, command, reach, tell)
      : await restoreInto(path.resolve(command.into), archive, command, reach, tell);
  if (done === undefined) {
    say('Nothing was changed.');
    return 0;
  }
  if (command.json) say(JSON.stringify(done));
  return 0;
}

interface Restored {
  folder: string;
  base: string;
  files: number;
  segments: number;
  /** What is there is the state of this time; null: the newest that there was. */
  restoredTo: string | null;
  /** Of the last transaction in it; null when PostgreSQL has not applied the log yet. */
  lastCommit: string | null;
  /** Where the former data folder is. */
  formerAt: string | null;
}

async function restoreInto(
  into: string,
  archive: Archive,
  command: RestoreCommand,
  reach: Prepared['reach'],
  tell: Say,
): Promise<Restored> {
  const { to } = command;
  const { files, settings } = await prepareDataFolder(archive, reach, into, command);
  await writeSettings(into, settings);
  const major = reach.base.serverVersion.split('.')[0];
  tell(`${into}: ${files} files, each as the server sent it`);
  tell(
    `Start PostgreSQL ${major} on it, as the user whose the folder has to be: it applies the log and works from there. ${after(to)}`,
  );
  return summary(into, reach, files, to, undefined, undefined);
}

async function restoreEmbedded(
  dataDir: string,
  archive: Archive,
  command: RestoreCommand,
  reach: Prepared['reach'],
  tell: Say,
): Promise<Restored | undefined> {
  const { to, confirm, embedded, signal } = command;
  if (!embedded)
    throw new Error('there is no embedded PostgreSQL here: name the folder that is to be built with --into');
  const root = claimDataDir(dataDir);
  const lock = lockDataDir(root);
  try {
    // A server that a killed start has left behind.
    await embedded.stopOrphans(root, tell);
    const folder = path.join(root, 'postgres');
    const there = existsSync(folder) && readdirSync(folder).length > 0;
    const former = path.join(
      root,
      'postgres.replaced',
      new Date().toISOString().replaceAll(/[-:]|\.\d+/g, ''),
    );
    if (there && !(await confirm(`Replace ${folder}? What is there now is moved to ${former}.`)))
      return undefined;
    const aside = path.join(root, 'postgres.restore');
    await embedded.stopServerOn(aside, tell);
    await rm(aside, { recursive: true, force: true });
    const { files, settings } = await prepareDataFolder(archive, reach, aside, command);
    tell(`${files} files, each as the server sent it; PostgreSQL applies the log`);
    const before = await settingsOf(aside);
    await writeSettings(aside, settings);
    const recovered = await embedded.runRecovery(aside, signal).catch(async (error: unknown) => {
      // Nothing was committed between that time and the end of what was received: the end is the state of that time.
      if (!(error instanceof embedded.LogEndedEarly) || reach.until === undefined) throw error;
      await putSettings(aside, before);
      const { recovery_target_time: _, ...rest } = settings;
      await writeSettings(aside, rest);
      return embedded.runRecovery(aside, signal);
    });
    await putSettings(aside, before);
    const at = to?.toISOString() ?? reach.until ?? recovered.lastCommit;
    // Before it is there: done once too often is harmless, forgotten is not.
    if (at !== undefined) writeDurably(path.join(root, RESTORED_FILE), JSON.stringify({ restoredTo: at }));
    if (there) {
      await mkdir(path.dirname(former), { recursive: true, mode: 0o700 });
      await rename(folder, former);
    } else await rm(folder, { recursive: true, force: true });
    await rename(aside, folder);
    tell(`${folder} is as it was at ${at ?? reach.base.finishedAt}`);
    tell(`the last transaction in it is of ${recovered.lastCommit ?? 'before the base backup’s end'}`);
    if (there) tell(`what was there before is in ${former}`);
    tell(
      'At its next start (npm start), before its roles run, remit ends the workflows that remember what has not happened, and has Kafka’s messages since then read again. What can not come back is named by remit reconcile and remit dlq ls.',
    );
    return summary(folder, reach, files, to, recovered.lastCommit, there ? former : undefined);
  } finally {
    lock.release();
  }
}

const after = (to: Date | undefined): string =>
  `Then, before any role runs: remit migrate, remit recover --restored-to ${to?.toISOString() ?? '<the time of its last transaction>'}, start the roles, remit reconcile.`;

function summary(
  folder: string,
  { base, segments, until }: Prepared['reach'],
  files: number,
  to: Date | undefined,
  lastCommit: string | undefined,
  formerAt: string | undefined,
): Restored {
  return {
    folder,
    base: base.name,
    files,
    segments: segments.length,
    restoredTo: to?.toISOString() ?? until ?? null,
    lastCommit: lastCommit ?? null,
    formerAt: formerAt ?? null,
  };
}
