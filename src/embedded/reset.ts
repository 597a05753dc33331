import { rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { DATA_DIR_MARKER, inspectDataDir, type DataDirContents } from '../platform/data-dir';
import { tryLock } from '../platform/lock';
import { stopOrphans } from './part-process';
import { EmbeddedError } from './types';

/**
 * Deletes the data of a local stack, stopping first what a killed one left running on it: only what remit made, in a
 * folder that bears remit's marker. Links are unlinked, never followed. Idempotent.
 * @returns what was deleted; undefined when there is no such folder.
 * @throws ConfigError when the folder is not remit's, EmbeddedError while a stack runs on it.
 */
export async function resetDataDir(dataDir: string): Promise<DataDirContents | undefined> {
  if (inspectDataDir(dataDir) === undefined) return undefined;
  const lock = tryLock(path.join(dataDir, 'run', 'lock'));
  if ('heldBy' in lock)
    throw new EmbeddedError(
      `${dataDir} is in use by process ${lock.heldBy.pid}: stop that one first (Ctrl-C or kill ${lock.heldBy.pid})`,
    );
  // Looked at again under the lock: what is deleted is what is there now.
  const contents = inspectDataDir(dataDir);
  if (contents === undefined) return undefined;
  const { folder, entries, foreign } = contents;
  await stopOrphans(folder, () => undefined);
  // The lock lies in `run`, so that goes last; the marker after it, so that an interrupted reset can be repeated.
  for (const name of entries.filter((entry) => entry !== 'run')) await remove(folder, name);
  await remove(folder, 'run');
  if (foreign.length === 0) {
    await remove(folder, DATA_DIR_MARKER);
    // It stays when it is a mount point, or when somebody has put something there meanwhile.
    await rmdir(folder).catch(() => undefined);
  }
  return contents;
}

const remove = (folder: string, name: string): Promise<void> =>
  rm(path.join(folder, name), { recursive: true, force: true });

/** What `remit reset` says before it asks. */
export function describeReset({ folder, entries, foreign }: DataDirContents): string {
  return [
    `From ${folder}, with every payment, order and workflow in it:`,
    ...entries.map((name) => `  ${path.join(folder, name)}`),
    ...(entries.length === 0 ? ['  nothing but the folder itself'] : []),
    ...(foreign.length === 0 ? [] : [`What remit did not make stays: ${foreign.join(', ')}`]),
  ].join('\n');
}
