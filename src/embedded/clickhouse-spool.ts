import {
  createWriteStream,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  statfsSync,
  unlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ClickHouseException } from './clickhouse-errors';

const PREFIX = 'remit-clickhouse-';
const LEFTOVER = /^remit-clickhouse-([1-9]\d*)-[A-Za-z0-9]{6}$/;
const MEMORY_FOLDER = '/dev/shm';

/** Files that hold the data of an INSERT while the engine reads it: in memory when there is room, else on disk. */
export class Spool {
  readonly #folders: string[];
  #sequence = 0;

  constructor(private readonly maxBytes: number) {
    const roots = [MEMORY_FOLDER, tmpdir()].filter((root) => existsSync(root));
    for (const root of roots) removeLeftovers(root);
    // A name that nobody could know before: these roots are everybody's.
    this.#folders = roots.map((root) => mkdtempSync(path.join(root, `${PREFIX}${process.pid}-`)));
  }

  /**
   * Writes `first`, then the stream, to a file, gives its path to `use` and removes it afterwards. Throws
   * TOO_MANY_BYTES for more than the limit.
   */
  async withFile<T>(first: Buffer, body: Readable, use: (file: string) => Promise<T>): Promise<T> {
    const file = path.join(this.#folder(), String(++this.#sequence));
    try {
      await pipeline(
        body,
        limitBytes(this.maxBytes),
        prepend(first),
        createWriteStream(file, { mode: 0o600, highWaterMark: 1 << 20 }),
      );
      return await use(file);
    } finally {
      rmSync(file, { force: true });
    }
  }

  /** The memory folder only when the largest body would fit twice: containers often have 64 MiB there. */
  #folder(): string {
    const [first = tmpdir(), ...others] = this.#folders;
    const { bavail, bsize } = statfsSync(first);
    return bavail * bsize >= 2 * this.maxBytes ? first : (others[0] ?? first);
  }

  close(): void {
    for (const folder of this.#folders) rmSync(folder, { recursive: true, force: true });
  }
}

/** Throws TOO_MANY_BYTES when more than `maxBytes` pass. */
export function limitBytes(maxBytes: number): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes <= maxBytes) return done(null, chunk);
      done(
        new ClickHouseException(
          307,
          'TOO_MANY_BYTES',
          `The request's body is larger than the limit of ${maxBytes} bytes.`,
        ),
      );
    },
  });
}

function prepend(first: Buffer): Transform {
  let before: Buffer | undefined = first.length === 0 ? undefined : first;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (before !== undefined) this.push(before);
      before = undefined;
      done(null, chunk);
    },
    flush(done) {
      done(null, before);
    },
  });
}

/** Of servers that were killed: folders of this user, of our name, and in them only files of our names. */
function removeLeftovers(root: string): void {
  for (const name of readdirSync(root)) {
    const pid = Number(LEFTOVER.exec(name)?.[1] ?? Number.NaN);
    if (!Number.isInteger(pid) || isAlive(pid)) continue;
    const folder = path.join(root, name);
    try {
      const stat = lstatSync(folder);
      if (!stat.isDirectory() || stat.uid !== process.getuid?.()) continue;
      for (const file of readdirSync(folder)) if (/^\d+$/.test(file)) unlinkSync(path.join(folder, file));
      rmdirSync(folder);
    } catch {
      // Not what it looked like, or another server is removing it.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
