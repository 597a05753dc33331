import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract, type Header } from 'tar-stream';
import {
  BASE_TAR,
  MANIFEST,
  PARTIAL,
  readHistory,
  type Archive,
  type ArchivedSegment,
  type BaseBackup,
  type Received,
} from './archive';
import { checkManifest } from './base-backup';
import { WalRecords } from './wal-records';
import { branchPoint, formatLsn, historyName, parseLsn, segmentName, segmentOf } from './wal-names';

/** Of a page of the write-ahead log: its size, and what its header has where. */
const PAGE = { bytes: 8_192, magicAt: 0, addressAt: 8 } as const;
/** Segments that came with the files are in none of the manifest's lines: the log itself says whether it is whole. */
const LOG_FOLDER = 'pg_wal/';
const DAMAGED_SHOWN = 5;

/** Somebody has stopped it. */
export class Interrupted extends Error {
  constructor() {
    super('interrupted: nothing was changed');
  }
}

/** @throws Interrupted. */
export function unlessStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new Interrupted();
}

/** Where the content of a file goes to. */
export interface Sink {
  write(chunk: Buffer): Promise<unknown>;
  close(): Promise<void>;
}

/**
 * Reads a base backup and compares every file with the server's manifest: none is missing, shorter, or other than it was sent.
 * @param open gets each entry, folders too, and may say where its content goes.
 * @returns how many files the manifest has.
 * @throws Error that names what is damaged.
 */
export async function readBase(
  archive: Archive,
  base: BaseBackup,
  open?: (header: Header) => Promise<Sink | undefined>,
): Promise<number> {
  const folder = archive.baseFolder(base.name);
  const damaged = (what: string, cause?: unknown): Error =>
    new Error(`the base backup ${base.name} is damaged: ${what}`, { cause });
  const expected = await readFile(path.join(folder, MANIFEST))
    .then(checkManifest)
    .catch((error: unknown) => {
      throw damaged(String(error), error);
    });
  const files = expected.size;
  const wrong: string[] = [];
  const entries = extract();
  const reading = pipeline(createReadStream(path.join(folder, BASE_TAR)), createGunzip(), entries);
  // Its failure ends the loop as well.
  reading.catch(() => undefined);
  try {
    for await (const entry of entries) {
      const { name, type, size } = entry.header;
      const hash = createHash('sha256');
      const sink = await open?.(entry.header);
      try {
        for await (const chunk of entry as AsyncIterable<Buffer>) {
          hash.update(chunk);
          await sink?.write(chunk);
        }
      } finally {
        await sink?.close();
      }
      if (type !== 'file') continue;
      const promised = expected.get(name);
      if (!promised && name.startsWith(LOG_FOLDER)) continue;
      if (!promised) wrong.push(`${name} is not in the manifest`);
      else if (promised.bytes !== size || promised.sha256 !== hash.digest('hex'))
        wrong.push(`${name} has changed`);
      expected.delete(name);
    }
    await reading;
  } catch (error) {
    throw error instanceof Interrupted ? error : damaged(String(error), error);
  }
  for (const name of expected.keys()) wrong.push(`${name} is missing`);
  if (wrong.length > 0)
    throw damaged(
      `${wrong.slice(0, DAMAGED_SHOWN).join(', ')}${wrong.length > DAMAGED_SHOWN ? ` and ${wrong.length - DAMAGED_SHOWN} more` : ''}`,
    );
  return files;
}

/** How far a base backup reaches with the log that is in the archive. */
export interface Reach {
  base: BaseBackup;
  /** Segments from its beginning on that follow each other. */
  segments: ArchivedSegment[];
  /** Restored, the server can be at any time from its end to this. Undefined: what came after it was not received. */
  until?: string;
  /** The first segment that is missing, where there are later ones. */
  gap?: string;
}

/** Follows the log from a base backup on, over the timelines that lead to the newest one, or to the given one. */
export function reachOf(
  archive: Archive,
  base: BaseBackup,
  received: Received | undefined,
  timeline?: number,
): Reach {
  const { segmentBytes } = archive.identity;
  const line = lineage(archive, base.timeline, timeline);
  const all = new Map(
    archive
      .segments()
      // The complete one last, so that it wins.
      .sort((a, b) => Number(b.partial) - Number(a.partial))
      .map((segment) => [segmentName(segment, segmentBytes), segment]),
  );
  const segments: ArchivedSegment[] = [];
  let number = segmentOf(parseLsn(base.startLsn), segmentBytes);
  for (;;) {
    // The newest timeline that has begun there.
    const at = line.findLast(({ from }) => number >= segmentOf(from, segmentBytes));
    const segment = at && all.get(segmentName({ timeline: at.timeline, number }, segmentBytes));
    if (!segment) break;
    segments.push(segment);
    if (segment.partial) break;
    number += 1n;
  }
  const last = line.at(-1);
  const end = segments.at(-1);
  const here = (end?.partial ? number + 1n : number) * BigInt(segmentBytes);
  const ours = received?.timeline === last?.timeline ? received : undefined;
  // Later ones are here, or were.
  const gap =
    [...all.values()].some((segment) => segment.timeline === last?.timeline && segment.number > number) ||
    (ours !== undefined && parseLsn(ours.lsn) > here);
  const missing = last && segmentName({ timeline: last.timeline, number }, segmentBytes);
  const until = !gap && ours && parseLsn(ours.lsn) >= parseLsn(base.endLsn) ? ours.at : undefined;
  return {
    base,
    segments,
    ...(until !== undefined && { until }),
    ...(gap && missing !== undefined && { gap: missing }),
  };
}

/** The timelines from the base backup's to the newest (or given) one, with where each begins. */
function lineage(archive: Archive, base: number, wanted?: number): { timeline: number; from: bigint }[] {
  const histories = new Map(archive.histories().map((file) => [path.basename(file), readHistory(file)]));
  const newest = [...histories.keys()]
    .map((name) => Number.parseInt(name.slice(0, 8), 16))
    .sort((a, b) => b - a)[0];
  const line: { timeline: number; from: bigint }[] = [];
  for (let timeline = wanted ?? Math.max(base, newest ?? base); timeline > base;) {
    const history = histories.get(historyName(timeline));
    if (history === undefined) break;
    const branch = branchPoint(history);
    line.unshift({ timeline, from: branch.lsn });
    timeline = branch.timeline;
  }
  return [{ timeline: base, from: 0n }, ...line];
}

/** One that was being received when it was listed has its whole name meanwhile. */
const openSegment = (file: string) =>
  open(file, 'r').catch((error: unknown) => {
    if (!file.endsWith(PARTIAL)) throw error;
    return open(file.slice(0, -PARTIAL.length), 'r');
  });

/**
 * Reads the log that a base backup needs: each page is of the size, kind and place that the segment's name promises, and each
 * record has its checksum.
 * @throws Error that names the first segment that is damaged; Interrupted.
 */
export async function checkSegments(
  archive: Archive,
  segments: readonly ArchivedSegment[],
  received: Received | undefined,
  signal?: AbortSignal,
): Promise<void> {
  const { segmentBytes } = archive.identity;
  const buffer = Buffer.alloc(segmentBytes + 1);
  const records = await WalRecords.create();
  let magic: number | undefined;
  let before: bigint | undefined;
  for (const { file, number, partial, timeline } of segments) {
    unlessStopped(signal);
    const handle = await openSegment(file);
    let bytes = 0;
    try {
      for (let read = -1; read !== 0; bytes += read) ({ bytesRead: read } = await handle.read(buffer, bytes));
    } finally {
      await handle.close();
    }
    const damaged = (what: string): Error => new Error(`${file} is damaged: ${what}`);
    if (bytes !== segmentBytes) throw damaged(`it has ${bytes} bytes and not ${segmentBytes}`);
    const first = number * BigInt(segmentBytes);
    const end = partial && received ? Number(parseLsn(received.lsn) - first) : segmentBytes;
    magic ??= buffer.readUInt16LE(PAGE.magicAt);
    let empty = false;
    for (let at = 0; at < Math.min(end, segmentBytes); at += PAGE.bytes) {
      // After a switch of segments the rest is empty, to the end.
      if (at > 0 && buffer.readUInt16LE(at) === 0) empty = true;
      const right =
        buffer.readUInt16LE(at + PAGE.magicAt) === magic &&
        buffer.readBigUInt64LE(at + PAGE.addressAt) === first + BigInt(at);
      if (empty === right)
        throw damaged(`its page at ${formatLsn(first + BigInt(at))} is not one of this place in the log`);
    }
    if (number - 1n !== before) records.reset();
    before = number;
    // How much of one was received of a timeline that was left is not known.
    if (partial && received?.timeline !== timeline) continue;
    const wrong = records.next(buffer, first, Math.min(end, segmentBytes));
    if (wrong !== undefined) throw damaged(wrong);
  }
}
