import { mkdir, realpath, rm } from 'node:fs/promises';
import path from 'node:path';
import { tryLock } from './lock';
import { stopOrphans } from './part-process';
import { EmbeddedError } from './types';

/**
 * Deletes the data of a local stack, stopping first what a killed one left running on it. Idempotent.
 * @throws EmbeddedError while a stack runs on it.
 */
export async function resetDataDir(dataDir: string): Promise<void> {
  await mkdir(dataDir, { recursive: true });
  const folder = await realpath(dataDir);
  const lock = tryLock(path.join(folder, 'run', 'lock'));
  if ('heldBy' in lock)
    throw new EmbeddedError(
      `${dataDir} is in use by process ${lock.heldBy.pid}: stop that one first (Ctrl-C or kill ${lock.heldBy.pid})`,
    );
  await stopOrphans(folder, () => undefined);
  await rm(folder, { recursive: true, force: true });
}
