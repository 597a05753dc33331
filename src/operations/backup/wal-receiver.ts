import { closeSync, existsSync, fdatasyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { BACKUP_SLOT } from '../../platform/backup-slot';
import { historyName, branchPoint, formatLsn, parseLsn, segmentName, segmentOf, type Lsn } from './wal-names';
import { readHistory, renameDurably, writeDurably, type Archive } from './archive';
import type { ReplicationConnection, Server } from './replication';

/** How often what was received is put on disk, and the server told so. */
const FLUSH_EVERY_MS = 500;
/** It is asked each time; one that is silent for so long is away, also where no packet says so. */
const SILENT_MS = 30_000;
/** The server's clock counts from the year 2000, in microseconds. */
const EPOCH_MS = Date.UTC(2000, 0, 1);

export interface Receiving {
  /** It ends when everything up to here is on disk; without, it goes on until the signal. */
  until?: Lsn;
  signal?: AbortSignal;
  /** After each time that something was put on disk. */
  onFlushed?: (upTo: Lsn) => void;
  say: (line: string) => void;
}

/**
 * Receives the write-ahead log from where the archive ends, on the server's timeline. What was received is acknowledged
 * when it is on disk, and the replication slot keeps the rest: interrupted at any time, it goes on where it was.
 * @throws what the server refuses; SlotInUse when another receives for this slot.
 */
export async function receiveWal(
  connection: ReplicationConnection,
  server: Server,
  archive: Archive,
  options: Receiving,
): Promise<void> {
  await ensureSlot(connection);
  if (server.timeline > 1) await keepHistory(connection, server.timeline, archive);
  const [from, kept] = starts(server, archive, await slotStart(connection));
  try {
    await receiveFrom(connection, server, archive, from, options);
  } catch (error) {
    // undefined_file: so far back the server has nothing any more.
    if ((error as { code?: string }).code !== '58P01' || from >= kept) throw error;
    options.say(
      `the server no longer has its log from ${formatLsn(from)} to ${formatLsn(kept)}: base backups from before reach up to there only`,
    );
    await receiveFrom(connection, server, archive, kept, options);
  }
}

/** Another process receives already. */
export class SlotInUse extends Error {}

/** Has the server keep its log from now on until it was received. Idempotent. */
export async function ensureSlot(connection: ReplicationConnection): Promise<void> {
  const { slot_type: type } = await connection.row(`READ_REPLICATION_SLOT ${BACKUP_SLOT}`);
  if (type === 'physical') return;
  try {
    await connection.row(`CREATE_REPLICATION_SLOT ${BACKUP_SLOT} PHYSICAL (RESERVE_WAL)`);
  } catch (error) {
    // duplicate_object: who makes a base backup and who receives come at the same time.
    if ((error as { code?: string }).code !== '42710') throw error;
  }
}

/** From where on the server keeps its log for us. */
async function slotStart(connection: ReplicationConnection): Promise<Lsn> {
  const { lsn, status } = await connection.row(
    `SELECT restart_lsn::text AS lsn, wal_status AS status FROM pg_replication_slots WHERE slot_name = '${BACKUP_SLOT}'`,
  );
  if (typeof lsn !== 'string' || status === 'lost') {
    // More was written than max_slot_wal_keep_size while nobody received.
    await connection.row(`DROP_REPLICATION_SLOT ${BACKUP_SLOT}`);
    await ensureSlot(connection);
    return slotStart(connection);
  }
  return parseLsn(lsn);
}

/**
 * Where to begin, and where at the latest: at the end of what is here, or else at the branch of the server's timeline; at what
 * the slot keeps.
 */
function starts({ timeline, segmentBytes }: Server, archive: Archive, kept: Lsn): [from: Lsn, kept: Lsn] {
  const size = BigInt(segmentBytes);
  const firstOf = (lsn: Lsn): Lsn => segmentOf(lsn, segmentBytes) * size;
  const newest = archive
    .segments()
    .filter((segment) => segment.timeline === timeline)
    .at(-1);
  // One that is partly here is received again from its beginning.
  if (newest) return [(newest.partial ? newest.number : newest.number + 1n) * size, firstOf(kept)];
  const history = path.join(archive.walFolder, historyName(timeline));
  if (existsSync(history)) return [firstOf(branchPoint(readHistory(history)).lsn), firstOf(kept)];
  return [firstOf(kept), firstOf(kept)];
}

async function keepHistory(
  connection: ReplicationConnection,
  timeline: number,
  archive: Archive,
): Promise<void> {
  const file = path.join(archive.walFolder, historyName(timeline));
  if (existsSync(file)) return;
  const { content } = await connection.row(`TIMELINE_HISTORY ${timeline}`);
  if (typeof content !== 'string') throw new Error(`the server has no history of its timeline ${timeline}`);
  writeDurably(file, content.trimEnd());
}

async function receiveFrom(
  connection: ReplicationConnection,
  { timeline }: Server,
  archive: Archive,
  from: Lsn,
  { until, signal, onFlushed, say }: Receiving,
): Promise<void> {
  const log = new SegmentWriter(archive, timeline, from);
  // The server's end of its log, as it said when it last sent some of it.
  let serverEnd = from;
  // When it last answered, and up to when everything that it had written is here.
  let [answeredAt, coveredAt] = [0, 0];
  let ending = false;
  const end = (): void => {
    ending = true;
    connection.close();
  };
  const flush = (): void => {
    log.flush();
    onFlushed?.(log.flushedTo);
    if (coveredAt > 0)
      archive.writeReceived({
        timeline,
        lsn: formatLsn(log.flushedTo),
        at: new Date(coveredAt).toISOString(),
      });
    connection.send(statusUpdate(log.flushedTo));
    if (until !== undefined && log.flushedTo >= until && coveredAt > 0) end();
  };
  signal?.addEventListener('abort', end, { once: true });
  let failed: Error | undefined;
  let heardAt = Date.now();
  const timer = setInterval(() => {
    try {
      if (Date.now() - heardAt > SILENT_MS)
        throw new Error(`the server has not answered for ${SILENT_MS / 1_000} s`);
      flush();
    } catch (error) {
      failed = error as Error;
      connection.close();
    }
  }, FLUSH_EVERY_MS);
  try {
    if (signal?.aborted) return;
    await connection.stream(
      `START_REPLICATION SLOT ${BACKUP_SLOT} PHYSICAL ${formatLsn(from)} TIMELINE ${timeline}`,
      (message) => {
        heardAt = Date.now();
        const kind = String.fromCharCode(message[0] ?? 0);
        if (kind === 'w') {
          const at = message.readBigUInt64BE(1);
          log.write(at, message.subarray(25));
          serverEnd = message.readBigUInt64BE(9);
        } else if (kind === 'k') {
          // An answer may come before log that was written already; the next one comes after it.
          if (log.writtenTo >= serverEnd) coveredAt = answeredAt;
          answeredAt = millisecondsOf(message.readBigInt64BE(9));
          if (message[17] === 1) flush();
        }
      },
    );
    // The server has ended it: it shuts down, or its timeline has ended.
    say('the server ended the stream of its log');
  } catch (error) {
    if (failed) throw failed;
    if (ending) return;
    // object_in_use
    if ((error as { code?: string }).code === '55006')
      throw new SlotInUse((error as Error).message, { cause: error });
    throw error;
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', end);
    log.close();
  }
}

const millisecondsOf = (microseconds: bigint): number => Number(microseconds / 1_000n) + EPOCH_MS;

/** Written and flushed up to here; nothing is applied. Asks for an answer, which says where the server is. */
function statusUpdate(lsn: Lsn): Buffer {
  const message = Buffer.alloc(34);
  message.write('r');
  message.writeBigUInt64BE(lsn, 1);
  message.writeBigUInt64BE(lsn, 9);
  message.writeBigUInt64BE(0n, 17);
  message.writeBigInt64BE(BigInt(Date.now() - EPOCH_MS) * 1_000n, 25);
  message[33] = 1;
  return message;
}

/** Writes the log into files of one segment each. A file loses `.partial` when it is complete and on disk. */
class SegmentWriter {
  readonly #size: bigint;
  #fd: number | undefined;
  #file = '';
  #at: Lsn;
  #flushed: Lsn;

  constructor(
    private readonly archive: Archive,
    private readonly timeline: number,
    from: Lsn,
  ) {
    this.#size = BigInt(archive.identity.segmentBytes);
    this.#at = from;
    this.#flushed = from;
  }

  get writtenTo(): Lsn {
    return this.#at;
  }

  get flushedTo(): Lsn {
    return this.#flushed;
  }

  write(at: Lsn, data: Buffer): void {
    if (at !== this.#at)
      throw new Error(
        `the server sent its log from ${formatLsn(at)} on, and ${formatLsn(this.#at)} comes next`,
      );
    let left = data;
    while (left.length > 0) {
      const offset = Number(this.#at % this.#size);
      const part = left.subarray(0, this.archive.identity.segmentBytes - offset);
      const fd = (this.#fd ??= this.#open());
      for (let done = 0; done < part.length;)
        done += writeSync(fd, part, done, part.length - done, offset + done);
      this.#at += BigInt(part.length);
      left = left.subarray(part.length);
      if (this.#at % this.#size === 0n) this.#complete();
    }
  }

  #open(): number {
    const { segmentBytes } = this.archive.identity;
    const name = segmentName(
      { timeline: this.timeline, number: segmentOf(this.#at, segmentBytes) },
      segmentBytes,
    );
    this.#file = path.join(this.archive.walFolder, name);
    const partial = `${this.#file}.partial`;
    // What is there already is written again with the same bytes, so it is never shorter than what was acknowledged.
    const fd = openSync(partial, existsSync(partial) ? 'r+' : 'w', 0o600);
    ftruncateSync(fd, segmentBytes);
    return fd;
  }

  #complete(): void {
    this.flush();
    this.close();
    renameDurably(`${this.#file}.partial`, this.#file);
  }

  /** Puts what was written on disk. */
  flush(): void {
    if (this.#fd !== undefined && this.#flushed < this.#at) fdatasyncSync(this.#fd);
    this.#flushed = this.#at;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
