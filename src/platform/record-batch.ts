import { createCRC32 } from 'hash-wasm';
import type { IHeaders } from 'kafkajs';
import { CodecError, inflate } from './kafka-codecs';

/**
 * Reads record batches, the format of Kafka's log since 0.11 (magic 2). Unlike kafkajs's own decoder it checks each
 * batch before it believes it, is bounded in what it holds, and says of a batch that it can't read where it lies.
 */

/** A record as kafkajs hands it to its consumers. */
export interface FetchedRecord {
  magicByte: number;
  attributes: number;
  timestamp: string;
  offset: string;
  key: Buffer | null;
  value: Buffer | null;
  headers: IHeaders;
  isControlRecord: boolean;
  batchContext: BatchContext;
  /**
   * Instead of the records of a batch that can't be read. `offset` is the last that belongs to it, `value` what the
   * batch is made of, as far as it is kept.
   */
  unreadable?: UnreadableBatch;
}

interface BatchContext {
  producerId: string;
  inTransaction: boolean;
  isControlBatch: boolean;
}

export interface UnreadableBatch {
  /** The first offset that can't be read. */
  firstOffset: string;
  lastOffset: string;
  reason: string;
  /** Bytes of the batch; more than are in `value` when not all were kept. */
  bytes: number;
}

/** Why the message that kafkajs handed over is none, or undefined when it is one. */
export const unreadableBatch = (message: object): UnreadableBatch | undefined =>
  (message as Partial<FetchedRecord>).unreadable;

/** What to say of a batch that can't be read, of which so many bytes were kept. */
export function unreadableReason(
  { firstOffset, lastOffset, reason, bytes }: UnreadableBatch,
  kept: number,
): string {
  const cut = kept < bytes ? `; the first ${kept} of its ${bytes} bytes are kept` : '';
  return `the batch with the offsets ${firstOffset} to ${lastOffset} can't be read: ${reason}${cut}`;
}

/** The part of a batch before its records. */
export const BATCH_HEADER_BYTES = 61;
/** Offset and length, which the length does not count. */
const BATCH_PREFIX_BYTES = 12;
const CRC_AT = 17;
const ATTRIBUTES_AT = 21;
const MAGIC = 2;

const CODEC_MASK = 0x07;
const LOG_APPEND_TIME = 0x08;
const TRANSACTIONAL = 0x10;
const CONTROL = 0x20;

/** No record is shorter: a length, attributes, two deltas, three lengths. */
const RECORD_MIN_BYTES = 7;
/** What one batch may become: far more than clients put into one, far less than a process has. */
export const INFLATED_MAX_BYTES = 67_108_864;

/** Thrown for a batch whose records can't be had; the message says why. */
export class UnreadableRecords extends Error {}

const crc32c = createCRC32(0x82f63b78);
const crc32 = createCRC32();

/** What the header of a batch says. Believable when `checksumFits`. */
export interface BatchHeader {
  baseOffset: number;
  /** Of the whole batch, with its prefix. */
  bytes: number;
  lastOffset: number;
  attributes: number;
}

/** The header of the batch at `at`, or undefined when nothing that could be a whole batch begins there. */
export function readHeader(buffer: Buffer, at: number): BatchHeader | undefined {
  if (buffer.length - at < BATCH_HEADER_BYTES || magicAt(buffer, at) !== MAGIC) return undefined;
  const bytes = BATCH_PREFIX_BYTES + buffer.readInt32BE(at + 8);
  const baseOffset = Number(buffer.readBigInt64BE(at));
  const lastOffsetDelta = buffer.readInt32BE(at + 23);
  if (bytes < BATCH_HEADER_BYTES || bytes > buffer.length - at) return undefined;
  if (!Number.isSafeInteger(baseOffset) || baseOffset < 0 || lastOffsetDelta < 0) return undefined;
  return {
    baseOffset,
    bytes,
    lastOffset: baseOffset + lastOffsetDelta,
    attributes: buffer.readInt16BE(at + ATTRIBUTES_AT),
  };
}

/** The version of the format; at the same place in all of them. */
export const magicAt = (buffer: Buffer, at: number): number | undefined => buffer[at + 16];

/** Whether the batch has its checksum (CRC-32C of everything behind it). */
export async function checksumFits(batch: Buffer): Promise<boolean> {
  const hasher = await crc32c;
  const digest = hasher.init().update(batch.subarray(ATTRIBUTES_AT)).digest('binary');
  return batch.compare(digest, 0, 4, CRC_AT, ATTRIBUTES_AT) === 0;
}

export interface Wanted {
  /** Records before this one are left out. */
  fromOffset: number;
  /** At most so many. */
  maxRecords: number;
}

/**
 * The records of a batch whose checksum fits. Their keys and values are views into what was given or inflated.
 * @returns also the bytes that the records take, and whether they go up to the end of the batch.
 * @throws UnreadableRecords when they can't be had.
 */
export async function readRecords(
  batch: Buffer,
  header: BatchHeader,
  wanted: Wanted,
): Promise<{ records: FetchedRecord[]; bytes: number; complete: boolean }> {
  const count = batch.readInt32BE(57);
  const stored = batch.subarray(BATCH_HEADER_BYTES);
  const codec = header.attributes & CODEC_MASK;
  try {
    const body = codec === 0 || count === 0 ? stored : await inflate(codec, stored, INFLATED_MAX_BYTES);
    if (count < 0 || count * RECORD_MIN_BYTES > body.length)
      throw new UnreadableRecords(`${count} records can't be in ${body.length} bytes`);
    const reader = new RecordReader(body, batch, header);
    return { ...reader.read(count, wanted), bytes: body.length };
  } catch (error) {
    if (error instanceof CodecError) throw new UnreadableRecords(error.message, { cause: error });
    throw error;
  }
}

/** The largest timestamp of a batch, which may be the broker's. */
export const maxTimestampOf = (batch: Buffer): string => String(batch.readBigInt64BE(35));

/** Where the messages of before Kafka 0.11 end of which each is whole and has its checksum (CRC-32). */
export async function endOfSoundMessages(set: Buffer, start: number): Promise<number> {
  const hasher = await crc32;
  let at = start;
  while (set.length - at >= 17 && magicAt(set, at)! < MAGIC) {
    const end = at + BATCH_PREFIX_BYTES + set.readInt32BE(at + 8);
    if (end <= at + 16 || end > set.length) break;
    const digest = hasher
      .init()
      .update(set.subarray(at + 16, end))
      .digest('binary');
    if (set.compare(digest, 0, 4, at + BATCH_PREFIX_BYTES, at + 16) !== 0) break;
    at = end;
  }
  return at;
}

/** What kafkajs's consumer needs to know of the batch that a record is of. */
export function contextOf(batch: Buffer, attributes: number): BatchContext {
  return {
    producerId: String(batch.readBigInt64BE(43)),
    inTransaction: (attributes & TRANSACTIONAL) !== 0,
    isControlBatch: (attributes & CONTROL) !== 0,
  };
}

const NO_HEADERS: IHeaders = Object.freeze({});
const BITS_OF_SMALL_VARINT = 28;

/** Walks the records of one batch. */
class RecordReader {
  private at = 0;
  private readonly context: BatchContext;
  private readonly firstTimestamp: bigint;
  /** The timestamp of the record before, and what its delta was: neighbours often share it. */
  private timestampText = '';
  private timestampDelta: number | bigint | undefined;
  /** Of all records when the broker's time counts. */
  private readonly appendTime: string | undefined;

  constructor(
    private readonly body: Buffer,
    batch: Buffer,
    private readonly header: BatchHeader,
  ) {
    this.context = contextOf(batch, header.attributes);
    this.firstTimestamp = batch.readBigInt64BE(27);
    this.appendTime = (header.attributes & LOG_APPEND_TIME) !== 0 ? maxTimestampOf(batch) : undefined;
  }

  read(count: number, { fromOffset, maxRecords }: Wanted): { records: FetchedRecord[]; complete: boolean } {
    const records: FetchedRecord[] = [];
    let previous = this.header.baseOffset - 1;
    for (let index = 0; index < count; index += 1) {
      const length = this.varint();
      const end = this.at + length;
      if (length < 0 || end > this.body.length) this.refuse(index, `has ${length} bytes`);
      const attributes = this.body.readInt8(this.at);
      this.at += 1;
      const timestamp = this.timestamp();
      const offset = this.header.baseOffset + this.varint();
      if (offset <= previous || offset > this.header.lastOffset)
        this.refuse(index, `has the offset ${offset}`);
      previous = offset;
      if (offset < fromOffset) {
        this.at = end;
        continue;
      }
      if (records.length === maxRecords) return { records, complete: false };
      records.push(this.record(attributes, timestamp, offset));
      if (this.at !== end) this.refuse(index, 'does not end where it says');
    }
    if (this.at !== this.body.length)
      throw new UnreadableRecords(
        `${this.body.length - this.at} bytes are behind the last of ${count} records`,
      );
    return { records, complete: true };
  }

  private refuse(index: number, what: string): never {
    throw new UnreadableRecords(`record ${index + 1} ${what}`);
  }

  private record(attributes: number, timestamp: string, offset: number): FetchedRecord {
    return {
      magicByte: MAGIC,
      attributes,
      timestamp,
      offset: String(offset),
      key: this.bytes(),
      value: this.bytes(),
      headers: this.headers(),
      isControlRecord: this.context.isControlBatch,
      batchContext: this.context,
    };
  }

  private timestamp(): string {
    const delta = this.varlong();
    if (this.appendTime !== undefined) return this.appendTime;
    if (delta !== this.timestampDelta) {
      this.timestampDelta = delta;
      this.timestampText = String(this.firstTimestamp + BigInt(delta));
    }
    return this.timestampText;
  }

  /** A header without a value is null, one that is repeated a list: see soundHeaders. */
  private headers(): IHeaders {
    const count = this.varint();
    if (count === 0) return NO_HEADERS;
    if (count < 0 || count * 2 > this.body.length - this.at)
      throw new UnreadableRecords(`a record has ${count} headers`);
    const found = new Map<string, (Buffer | null)[]>();
    for (let index = 0; index < count; index += 1) {
      const name = this.bytes()?.toString('utf8');
      const value = this.bytes();
      if (name === undefined) throw new UnreadableRecords('a header has no name');
      const values = found.get(name);
      if (values) values.push(value);
      else found.set(name, [value]);
    }
    const headers = [...found].map(([name, values]) => [name, values.length === 1 ? values[0] : values]);
    return Object.fromEntries(headers) as IHeaders;
  }

  private bytes(): Buffer | null {
    const length = this.varint();
    if (length === -1) return null;
    const start = this.at;
    this.at += length;
    if (length < 0 || this.at > this.body.length)
      throw new UnreadableRecords(`a field has ${length} bytes, ${this.body.length - start} are left`);
    return this.body.subarray(start, this.at);
  }

  private byte(): number {
    const byte = this.body[this.at];
    if (byte === undefined) throw new UnreadableRecords('the last record is cut off');
    this.at += 1;
    return byte;
  }

  /** A zigzag varint of 32 bits. */
  private varint(): number {
    let value = 0;
    for (let shift = 0; shift <= BITS_OF_SMALL_VARINT; shift += 7) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return (value >>> 1) ^ -(value & 1);
    }
    throw new UnreadableRecords('a number has more than 32 bits');
  }

  /** A zigzag varint of 64 bits. */
  private varlong(): number | bigint {
    const start = this.at;
    let small = 0;
    for (let shift = 0; shift < BITS_OF_SMALL_VARINT; shift += 7) {
      const byte = this.byte();
      small |= (byte & 0x7f) << shift;
      if (byte < 0x80) return (small >>> 1) ^ -(small & 1);
    }
    this.at = start;
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, (value >> 1n) ^ -(value & 1n));
    }
    throw new UnreadableRecords('a number has more than 64 bits');
  }
}
