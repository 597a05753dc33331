import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { processIdentity } from './processes';

export interface LockHolder {
  pid: number;
  identity: string;
  since: string;
}

/** A lock file that is held by this process; a holder that died, also by kill -9, holds it no longer. */
export interface FileLock {
  release(): void;
}

let attempts = 0;

/**
 * Takes the lock, or says who has it. A hard link makes the file appear whole or not at all; a stale file is
 * moved aside before it is replaced, so that of two processes that find it only one goes on.
 */
export function tryLock(file: string): FileLock | { heldBy: LockHolder } {
  mkdirSync(path.dirname(file), { recursive: true });
  const mine: LockHolder = {
    pid: process.pid,
    identity: processIdentity(process.pid) ?? '',
    since: new Date().toISOString(),
  };
  const content = JSON.stringify(mine);
  const temporary = `${file}.${process.pid}.${++attempts}`;
  writeFileSync(temporary, content);
  try {
    for (let round = 0; round < 5; round++) {
      try {
        linkSync(temporary, file);
        return {
          release: () => {
            if (readHolder(file).raw === content) rmSync(file, { force: true });
          },
        };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const { raw, holder } = readHolder(file);
      if (holder !== undefined && processIdentity(holder.pid) === holder.identity) return { heldBy: holder };
      moveAside(file, raw);
    }
  } finally {
    rmSync(temporary, { force: true });
  }
  throw new Error(`could not take the lock ${file}: others keep replacing it`);
}

/** Who holds the lock; a holder that died holds it no longer. Takes nothing. */
export function lockHolder(file: string): LockHolder | undefined {
  const { holder } = readHolder(file);
  return holder !== undefined && processIdentity(holder.pid) === holder.identity ? holder : undefined;
}

function readHolder(file: string): { raw: string | undefined; holder?: LockHolder } {
  let raw: string | undefined;
  try {
    raw = readFileSync(file, 'utf8');
    const holder = JSON.parse(raw) as Partial<LockHolder>;
    if (typeof holder.pid === 'number' && typeof holder.identity === 'string')
      return { raw, holder: holder as LockHolder };
  } catch {
    // Gone meanwhile, or not one of ours: nobody holds it.
  }
  return { raw };
}

function moveAside(file: string, expected: string | undefined): void {
  const aside = `${file}.stale.${process.pid}`;
  try {
    renameSync(file, aside);
  } catch {
    return; // Another process was faster.
  }
  const moved = readHolder(aside);
  // Another process may have taken the lock between our look and our move: give it back.
  if (moved.raw !== expected && moved.holder !== undefined) {
    try {
      linkSync(aside, file);
    } catch {
      // A third one took it: the lock is held either way.
    }
  }
  rmSync(aside, { force: true });
}

/** Waits for the lock, calling `onWait` once when another process has it. Throws after `timeoutMs`. */
export async function waitForLock(
  file: string,
  timeoutMs: number,
  onWait: (holder: LockHolder) => void,
): Promise<FileLock> {
  const deadline = Date.now() + timeoutMs;
  let told = false;
  for (;;) {
    const result = tryLock(file);
    if (!('heldBy' in result)) return result;
    if (!told) onWait(result.heldBy);
    told = true;
    if (Date.now() >= deadline) {
      throw new Error(
        `process ${result.heldBy.pid} has held ${file} for more than ${Math.round(timeoutMs / 1000)} s`,
      );
    }
    await sleep(200);
  }
}
