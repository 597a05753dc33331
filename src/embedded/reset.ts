import { rm } from 'node:fs/promises';
import path from 'node:path';
import { tryLock } from './lock';
import { EmbeddedError } from './types';

/**
 * Deletes the data of a local stack. Idempotent.
 * @throws EmbeddedError while a stack runs on it.
 */
export async function resetDataDir(dataDir: string): Promise<void> {
  const lock = tryLock(path.join(dataDir, 'run', 'lock'));
  if ('heldBy' in lock)
    throw new EmbeddedError(
      `${dataDir} is in use by process ${lock.heldBy.pid}: stop that one first (Ctrl-C or kill ${lock.heldBy.pid})`,
    );
  await rm(dataDir, { recursive: true, force: true });
}
