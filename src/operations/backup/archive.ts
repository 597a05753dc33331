import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { parseLsn, parseSegmentName, segmentOf, type Lsn, type Segment } from './wal-names';

/**
 * A folder with backups of one PostgreSQL, laid out as its own tools do:
 *
 *   remit-backup.json        of which server
 *   received.json            up to where its write-ahead log is here, and the server's clock at that moment
 *   base/<name>/             base.tar.gz and backup_manifest, as `pg_basebackup --format=tar --gzip` writes them
 *   base/<name>.json         from where to where it reaches
 *   wal/                     segments and timelines' histories, as pg_receivewal writes them
 *
 * Everything has its name only when it is complete, and on disk; the segment that is being received ends in `.partial`.
 */

const Identity = z.object({
  format: z.literal(1),
  systemIdentifier: z.string(),
  segmentBytes: z.int().positive(),
});
export type Identity = z.infer<typeof Identity>;

const Received = z.object({ timeline: z.int(), lsn: z.string(), at: z.iso.datetime() });
/** Everything that the server had written at `at`, up to `lsn`, is in the archive. */
export type Received = z.infer<typeof Received>;

const BaseBackup = z.object({
  name: z.string(),
  timeline: z.int(),
  startLsn: z.string(),
  endLsn: z.string(),
  /** By the server's clock. */
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime(),
  serverVersion: z.string(),
  /** Of the server's files, before compression. */
  bytes: z.int(),
});
export type BaseBackup = z.infer<typeof BaseBackup>;

export const BASE_TAR = 'base.tar.gz';
export const MANIFEST = 'backup_manifest';
export const PARTIAL = '.partial';
/** A base backup to which nothing was written for so long is made by nobody. */
const UNFINISHED_MS = 3_600_000;

export interface ArchivedSegment extends Segment {
  file: string;
  /** Not received to its end. */
  partial: boolean;
}

export class Archive {
  private constructor(
    readonly folder: string,
    readonly identity: Identity,
  ) {}

  get walFolder(): string {
    return path.join(this.folder, 'wal');
  }

  baseFolder(name: string): string {
    return path.join(this.folder, 'base', name);
  }

  /** @throws Error when there is no archive, or it is of a format that this version does not know. */
  static async open(folder: string): Promise<Archive> {
    const found = await readJson(path.join(folder, 'remit-backup.json'), Identity);
    if (!found) throw new Error(`${folder} has no backups: there is no remit-backup.json in it`);
    return new Archive(folder, found);
  }

  /**
   * Opens an archive, or makes one in a folder that is empty or not there. Idempotent.
   * @throws Error when it is another server's, or has content that is not remit's.
   */
  static async openFor(folder: string, server: Omit<Identity, 'format'>): Promise<Archive> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const file = path.join(folder, 'remit-backup.json');
    const found = await readJson(file, Identity);
    if (found && found.systemIdentifier !== server.systemIdentifier)
      throw new Error(
        `${folder} has the backups of another PostgreSQL (system identifier ${found.systemIdentifier}, this one is ${server.systemIdentifier}): name another folder`,
      );
    if (!found) {
      // What a volume's file system brings with it is nobody's.
      const content = (await readdir(folder)).filter((name) => name !== 'lost+found');
      if (content.length > 0)
        throw new Error(
          `${folder} has content, but no backups (${content.slice(0, 3).join(', ')}): name an empty folder`,
        );
    }
    const identity = found ?? { format: 1 as const, ...server };
    await Promise.all(
      ['base', 'wal'].map((name) => mkdir(path.join(folder, name), { recursive: true, mode: 0o700 })),
    );
    if (!found) writeDurably(file, JSON.stringify(identity));
    return new Archive(folder, identity);
  }

  /** Complete base backups, oldest first. */
  async bases(): Promise<BaseBackup[]> {
    const names = (await readdir(path.join(this.folder, 'base')))
      .filter((name) => name.endsWith('.json'))
      .sort();
    const found = await Promise.all(
      names.map((name) => readJson(path.join(this.folder, 'base', name), BaseBackup)),
    );
    return found.filter((base) => base !== undefined);
  }

  writeBase(base: BaseBackup): void {
    writeDurably(path.join(this.folder, 'base', `${base.name}.json`), JSON.stringify(base));
  }

  /** By timeline and number. */
  segments(): ArchivedSegment[] {
    const found = readdirSync(this.walFolder).flatMap((name) => {
      const partial = name.endsWith(PARTIAL);
      const segment = parseSegmentName(
        partial ? name.slice(0, -PARTIAL.length) : name,
        this.identity.segmentBytes,
      );
      return segment ? [{ ...segment, file: path.join(this.walFolder, name), partial }] : [];
    });
    return found.sort(
      (a, b) => a.timeline - b.timeline || (a.number < b.number ? -1 : a.number > b.number ? 1 : 0),
    );
  }

  /** Files that say where timelines begin. */
  histories(): string[] {
    return readdirSync(this.walFolder)
      .filter((name) => /^[0-9A-F]{8}\.history$/.test(name))
      .map((name) => path.join(this.walFolder, name));
  }

  received(): Promise<Received | undefined> {
    return readJson(path.join(this.folder, 'received.json'), Received);
  }

  writeReceived(received: Received): void {
    writeDurably(path.join(this.folder, 'received.json'), JSON.stringify(received));
  }

  /** What is left of base backups that were interrupted; one that another process makes is written to all the time. */
  async removeUnfinished(): Promise<void> {
    const folder = path.join(this.folder, 'base');
    for (const name of await readdir(folder)) {
      const part = path.join(folder, name);
      if (name.endsWith('.part') && Date.now() - (await writtenAt(part)) > UNFINISHED_MS)
        await rm(part, { recursive: true, force: true });
    }
  }

  /**
   * Keeps the newest base backups, and of the write-ahead log what they need. Idempotent.
   * @returns the names of the backups that were removed.
   */
  async keepNewest(count: number): Promise<string[]> {
    const bases = await this.bases();
    const old = bases.slice(0, Math.max(0, bases.length - count));
    for (const { name } of old) {
      // The description first: what is listed is whole.
      await rm(path.join(this.folder, 'base', `${name}.json`));
      await rm(this.baseFolder(name), { recursive: true, force: true });
    }
    const first = (await this.bases()).map(({ startLsn }) => parseLsn(startLsn)).sort(ascending)[0];
    if (first !== undefined) {
      const needed = segmentOf(first, this.identity.segmentBytes);
      for (const { number, file } of this.segments()) if (number < needed) await rm(file, { force: true });
    }
    return old.map(({ name }) => name);
  }

  /** On disk. */
  async size(): Promise<number> {
    const entries = await readdir(this.folder, { recursive: true, withFileTypes: true });
    const sizes = entries
      .filter((entry) => entry.isFile())
      // A file may be renamed meanwhile. Blocks: a partial segment is mostly a hole.
      .map((entry) =>
        stat(path.join(entry.parentPath, entry.name)).then(
          ({ blocks }) => blocks * 512,
          () => 0,
        ),
      );
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }
}

/** When something in a folder was last written, in milliseconds since 1970; 0 when it is gone. */
async function writtenAt(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => []);
  const times = [folder, ...names.map((name) => path.join(folder, name))].map((file) =>
    stat(file).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    ),
  );
  return Math.max(...(await Promise.all(times)));
}

const ascending = (a: Lsn, b: Lsn): number => (a < b ? -1 : a > b ? 1 : 0);

async function readJson<T>(file: string, schema: z.ZodType<T>): Promise<T | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new Error(`${file} is not readable: ${String(error)}`, { cause: error });
  }
}

/** Replaces a small file so that after a crash there is the former or the new one. */
export function writeDurably(file: string, content: string): void {
  const aside = `${file}.new`;
  writeFileSync(aside, `${content}\n`, { mode: 0o600, flush: true });
  renameDurably(aside, file);
}

/** A rename that is on disk when it returns. */
export function renameDurably(from: string, to: string): void {
  renameSync(from, to);
  const folder = openSync(path.dirname(to), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** A timeline's history as PostgreSQL wrote it. */
export const readHistory = (file: string): string => readFileSync(file, 'utf8');
