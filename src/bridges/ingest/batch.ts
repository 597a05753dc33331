import type { IHeaders } from 'kafkajs';
import type { DeadLetterCode } from '../../contracts/errors';
import { soundHeaders } from '../../platform/kafka';
import { DEAD_LETTER_REASON_MAX } from '../dead-letters';
import type { IncomingMessage } from '../message';
import { ByteLog, type ChunkPool } from './chunks';
import type { SourceRecord } from './source';

const MIDDLE = Buffer.from(',"queuedAt":');
const NEWLINE = 10;
const COMMA = 44;
const OPENING_BRACE = 123;
const ZERO = 48;
const TWO_TO_32 = 4_294_967_296;

/** What closed a batch. */
export type ClosedBy = 'rows' | 'bytes' | 'time' | 'pressure' | 'recovered' | 'shutdown';

export interface Poison {
  message: IncomingMessage;
  code: DeadLetterCode;
  reason: string;
  /** What it is charged for. */
  bytes: number;
}

/**
 * Memory in addition to the bytes of keys and rows, generously (measured): the places of a row's key and offset, an entry of
 * `extras`, a header, a message that was set aside with all of its objects.
 */
const ROW_BYTES = 48;
const EXTRA_BYTES = 400;
const HEADER_BYTES = 200;
const POISON_BYTES = 1_200;

/** What can't be found again in a row's bytes. */
interface Extra {
  headers?: IHeaders;
  original?: Buffer;
}

/**
 * Contiguous offsets of one partition as they go into ClickHouse: one JSON object a line, the message's own bytes with
 * our columns put in front. In addition it keeps what a dead letter of a row needs: offset, key, headers, original.
 */
export class Batch {
  /** Rows that were appended; some may have been taken out again. */
  rows = 0;
  /** Last offset that belongs to the batch; set when it is closed. */
  last: number;
  closedBy: ClosedBy | undefined;
  /** Messages of the batch, with those that were set aside. */
  messages = 0;
  /** Set when its partition is no longer ours: what is done for it no longer counts. */
  abandoned = false;
  /** A request may still be reading from memory that it holds. */
  tainted = false;
  readonly openedAtMs = Date.now();

  private readonly lines: ByteLog;
  private readonly keys: ByteLog;
  private readonly keyAt: number[] = [];
  private readonly keyLength: number[] = [];
  private readonly runRow: number[] = [];
  private readonly runOffset: number[] = [];
  private nextOffset = -1;
  private readonly chunkFirstRow: number[] = [];
  private readonly extras = new Map<number, Extra>();
  private readonly removed = new Set<number>();
  private aside: Poison[] = [];
  /** What of its memory the messages that were set aside have. */
  asideBytes = 0;
  /** Bytes that the pool was charged for, for rows and for what was set aside. */
  private charged = 0;

  /**
   * @param log a short name of the log that the offsets are of, the same for nothing else (see `SourceListener`).
   * @param first the first offset that belongs to the batch, with or without a message.
   * @param head bytes of a row up to the offset's digits, from `rowHead`.
   */
  constructor(
    readonly topic: string,
    private readonly log: string,
    readonly partition: number,
    readonly first: number,
    private readonly head: Buffer,
    private readonly pool: ChunkPool,
  ) {
    this.last = first - 1;
    this.lines = new ByteLog(pool);
    this.keys = new ByteLog(pool);
  }

  /** The insert deduplication token: the same for every attempt, whatever became a dead letter. */
  get token(): string {
    return `${this.log}:${this.partition}:${this.first}-${this.last}`;
  }

  /** Rows that go into ClickHouse. */
  get liveRows(): number {
    return this.rows - this.removed.size;
  }

  /** Bytes of the insert. */
  get bytes(): number {
    return this.lines.bytes;
  }

  /** Memory that the batch holds, but for what its chunks leave empty. */
  get heldBytes(): number {
    return this.lines.bytes + this.keys.bytes + this.charged;
  }

  /** Dead letters that are not acknowledged yet. */
  get poison(): readonly Poison[] {
    return this.aside;
  }

  private charge(bytes: number): void {
    this.charged += bytes;
    this.pool.charge(bytes);
  }

  /**
   * Appends a message. `object` is one JSON object on one line, without space before its brace: the message's own
   * bytes, or (with `original`) what they were rewritten to.
   */
  append(record: SourceRecord, object: Buffer, original?: Buffer): void {
    const { lines, head } = this;
    const { offset } = record;
    const timestamp = isTime(record.timestamp) ? record.timestamp : '0';
    const prefixLength = head.length + offset.length + MIDDLE.length + timestamp.length + 1;
    const size = prefixLength + object.length;
    lines.reserve(size);
    const { chunk } = lines;
    const start = lines.end;
    if (start === 0) this.chunkFirstRow.push(this.rows);
    // The object first: its brace lies where the prefix ends, and becomes the prefix's last comma.
    chunk.set(object, start + prefixLength - 1);
    chunk.set(head, start);
    let at = putDigits(chunk, start + head.length, offset);
    chunk.set(MIDDLE, at);
    at = putDigits(chunk, at + MIDDLE.length, timestamp);
    chunk[at] = COMMA;
    chunk[start + size - 1] = NEWLINE;
    lines.end = start + size;
    this.remember(record, original);
    this.rows += 1;
    this.messages += 1;
  }

  private remember({ offset, key, headers }: SourceRecord, original: Buffer | undefined): void {
    const at = Number(offset);
    if (at !== this.nextOffset) {
      this.runRow.push(this.rows);
      this.runOffset.push(at);
    }
    this.nextOffset = at + 1;
    if (key === null) {
      this.keyAt.push(0);
      this.keyLength.push(-1);
    } else {
      this.keys.reserve(key.length);
      this.keys.chunk.set(key, this.keys.end);
      this.keyAt.push(this.keys.chunkIndex * TWO_TO_32 + this.keys.end);
      this.keyLength.push(key.length);
      this.keys.end += key.length;
    }
    if (original === undefined && !hasHeaders(headers)) return this.charge(ROW_BYTES);
    this.charge(ROW_BYTES + EXTRA_BYTES + headersBytes(headers) + (original?.length ?? 0));
    this.extras.set(this.rows, {
      ...(hasHeaders(headers) ? { headers: copyHeaders(headers) } : {}),
      ...(original ? { original: Buffer.from(original) } : {}),
    });
  }

  /** Sets a message aside for the DLQ, with copies of its bytes. */
  addPoison(record: SourceRecord, code: DeadLetterCode, reason: string): void {
    this.messages += 1;
    this.setAside(code, reason, {
      topic: this.topic,
      partition: this.partition,
      offset: record.offset,
      key: record.key && Buffer.from(record.key),
      value: record.value && Buffer.from(record.value),
      headers: hasHeaders(record.headers) ? copyHeaders(record.headers) : {},
      timestampMs: Number(record.timestamp),
      ...(record.unreadable ? { unreadable: record.unreadable } : {}),
    });
  }

  private setAside(code: DeadLetterCode, reason: string, message: IncomingMessage): void {
    const cut = shortText(reason);
    const { key, value, headers } = message;
    const bytes =
      POISON_BYTES + (key?.length ?? 0) + (value?.length ?? 0) + headersBytes(headers) + 2 * cut.length;
    this.charge(bytes);
    this.asideBytes += bytes;
    this.aside.push({ code, reason: cut, message, bytes });
  }

  /** These are in the DLQ. */
  forget(sent: ReadonlySet<Poison>): void {
    for (const { bytes } of sent) this.charge(-bytes);
    this.aside = this.aside.filter((poison) => !sent.has(poison));
  }

  /** Numbers of the rows that go into ClickHouse, in order: ClickHouse's row N is the (N-1)th of them. */
  liveRowNumbers(): number[] {
    const numbers: number[] = [];
    for (let row = 0; row < this.rows; row++) if (!this.removed.has(row)) numbers.push(row);
    return numbers;
  }

  /** Takes a row out of the batch and sets its message aside for the DLQ. */
  reject(row: number, code: DeadLetterCode, reason: string): void {
    this.setAside(code, reason, this.messageOf(row));
    this.removed.add(row);
  }

  /** The message of a row, byte for byte. */
  messageOf(row: number): IncomingMessage {
    let line: Buffer | undefined;
    this.eachLine(row, row + 1, (found) => (line = found));
    const offset = String(this.offsetOf(row));
    const timestampAt = this.head.length + offset.length + MIDDLE.length;
    const prefixEnd = line!.indexOf(COMMA, timestampAt);
    return {
      topic: this.topic,
      partition: this.partition,
      offset,
      key: this.keyOf(row),
      value: this.valueOf(row, line!, prefixEnd),
      headers: this.extras.get(row)?.headers ?? {},
      timestampMs: Number(line!.toString('latin1', timestampAt, prefixEnd)),
    };
  }

  /** Visits the values of all rows that go into ClickHouse, as they came. */
  eachValue(visit: (row: number, value: Buffer) => void): void {
    this.eachLine(0, this.rows, (line, row) => {
      if (this.removed.has(row)) return;
      const timestampAt = this.head.length + String(this.offsetOf(row)).length + MIDDLE.length;
      visit(row, this.valueOf(row, line, line.indexOf(COMMA, timestampAt)));
    });
  }

  private valueOf(row: number, line: Buffer, prefixEnd: number): Buffer {
    const original = this.extras.get(row)?.original;
    if (original !== undefined) return original;
    const value = Buffer.from(line.subarray(prefixEnd, line.length - 1));
    value[0] = OPENING_BRACE;
    return value;
  }

  offsetOf(row: number): number {
    let run = this.runRow.length - 1;
    while (this.runRow[run]! > row) run -= 1;
    return this.runOffset[run]! + row - this.runRow[run]!;
  }

  private keyOf(row: number): Buffer | null {
    const length = this.keyLength[row]!;
    if (length < 0) return null;
    const at = this.keyAt[row]!;
    const start = at % TWO_TO_32;
    const chunk = this.keys.chunkAt(Math.floor(at / TWO_TO_32));
    return Buffer.from(chunk.subarray(start, start + length));
  }

  /** The bytes of the rows that go into ClickHouse; they share memory with the batch. */
  body(): Buffer[] {
    if (this.removed.size === 0) return this.lines.parts();
    const pieces: Buffer[] = [];
    this.eachLine(0, this.rows, (line, row) => {
      if (!this.removed.has(row)) pieces.push(line);
    });
    return pieces;
  }

  /** Rows hold no newline but the one at their end, so they can be told apart without having noted where they are. */
  private eachLine(from: number, to: number, visit: (line: Buffer, row: number) => void): void {
    const parts = this.lines.parts();
    for (const [index, part] of parts.entries()) {
      let row = this.chunkFirstRow[index]!;
      const nextChunkRow = this.chunkFirstRow[index + 1] ?? this.rows;
      if (nextChunkRow <= from) continue;
      for (let start = 0; start < part.length && row < to; row++) {
        const end = part.indexOf(NEWLINE, start) + 1;
        if (row >= from) visit(part.subarray(start, end), row);
        start = end;
      }
      if (row >= to) return;
    }
  }

  /** Gives its memory back. The batch holds nothing afterwards. */
  release(): void {
    this.lines.release(!this.tainted);
    this.keys.release(true);
    this.charge(-this.charged);
    this.aside = [];
  }
}

/**
 * Bytes of every row of a partition up to the digits of its offset. The topic is left out where it is the default of
 * the table's column: a value that is the same in every row is not worth sending.
 */
export function rowHead(topic: string, partition: number, defaultTopic = ''): Buffer {
  const kafkaTopic = topic === defaultTopic ? '' : `"kafkaTopic":${JSON.stringify(topic)},`;
  return Buffer.from(`{${kafkaTopic}"kafkaPartition":${partition},"kafkaOffset":`);
}

/** Producers may set any 64-bit number; more than 13 digits (after the year 2286) no column of ours holds. */
function isTime(timestamp: string): boolean {
  return timestamp.length <= 13 && timestamp.charCodeAt(0) >= ZERO;
}

function putDigits(target: Buffer, start: number, digits: string): number {
  for (let i = 0; i < digits.length; i++) target[start + i] = digits.charCodeAt(i);
  return start + digits.length;
}

function hasHeaders(headers: IHeaders | undefined): headers is IHeaders {
  if (headers === undefined) return false;
  for (const _ in headers) return true;
  return false;
}

function headersBytes(headers: IHeaders | undefined): number {
  let bytes = 0;
  for (const [name, given] of Object.entries(headers ?? {}))
    for (const value of Array.isArray(given) ? given : [given])
      bytes += HEADER_BYTES + 2 * name.length + (value?.length ?? 0);
  return bytes;
}

/** A part of a text keeps all of the text in memory, so it is copied. */
function shortText(text: string): string {
  if (text.length <= DEAD_LETTER_REASON_MAX) return text;
  return Buffer.from(text.slice(0, DEAD_LETTER_REASON_MAX)).toString();
}

/** Header values are views into what a fetch brought; kept as they are, they would keep all of it in memory. */
function copyHeaders(headers: IHeaders): IHeaders {
  const copy = (value: Buffer | string) => (typeof value === 'string' ? value : Buffer.from(value));
  return Object.fromEntries(
    Object.entries(soundHeaders(headers)).map(([name, value]) => [
      name,
      value === undefined ? value : Array.isArray(value) ? value.map(copy) : copy(value),
    ]),
  );
}
