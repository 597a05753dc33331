import { LRUCache } from 'lru-cache';
import Decoder from 'kafkajs/src/protocol/decoder';
import decodeMessageSet from 'kafkajs/src/protocol/messageSet/decoder';
import {
  BATCH_HEADER_BYTES,
  checksumFits,
  contextOf,
  endOfSoundMessages,
  INFLATED_MAX_BYTES,
  magicAt,
  maxTimestampOf,
  readHeader,
  readRecords,
  UnreadableRecords,
  type BatchHeader,
  type FetchedRecord,
} from './record-batch';

/**
 * Reads the answer to a fetch (version 11), in the place of kafkajs's own decoder: see docs/adr/0013. A batch that can't
 * be read becomes one record that says so (`unreadable`), so that its partition goes on behind it.
 */

export interface FetchedPartition {
  partition: number;
  errorCode: number;
  highWatermark: string;
  lastStableOffset: string;
  lastStartOffset: string;
  abortedTransactions: { producerId: string; firstOffset: string }[];
  preferredReadReplica: number;
  messages: FetchedRecord[];
}

export interface FetchAnswer {
  throttleTime: number;
  clientSideThrottleTime: number;
  errorCode: number;
  sessionId: number;
  responses: { topicName: string; partitions: FetchedPartition[] }[];
}

/** Where a fetch asked each partition to begin. */
export interface Asked {
  topics: readonly {
    topic: string;
    partitions: readonly { partition: number; fetchOffset: string }[];
  }[];
}

/** One answer becomes at most so many records; what is left is fetched again from there. */
const RECORDS_MAX = 250_000;
/** Of a batch that can't be read, at most so much is kept: what fits a dead-letter topic that remit made. */
const KEPT_MAX_BYTES = 15 * 1_048_576;

/** What one answer may still become. */
class Budget {
  private records = RECORDS_MAX;
  private bytes = INFLATED_MAX_BYTES;

  get recordsLeft(): number {
    return this.records;
  }

  get isSpent(): boolean {
    return this.records <= 0 || this.bytes <= 0;
  }

  spend(records: number, bytes: number): void {
    this.records -= records;
    this.bytes -= bytes;
  }
}

/** @throws when the answer itself, around the batches, is not what the protocol says: it is fetched again. */
export async function readFetchAnswer(payload: Buffer, asked: Asked): Promise<FetchAnswer> {
  const decoder = new Decoder(payload);
  const clientSideThrottleTime = decoder.readInt32();
  const errorCode = decoder.readInt16();
  const sessionId = decoder.readInt32();
  const budget = new Budget();
  const responses = await decoder.readArrayAsync(async () => {
    const topicName = decoder.readString() ?? '';
    const offsets = new Map(
      asked.topics
        .filter(({ topic }) => topic === topicName)
        .flatMap(({ partitions }) =>
          partitions.map(({ partition, fetchOffset }) => [partition, Number(fetchOffset)]),
        ),
    );
    const partitions = await decoder.readArrayAsync(() => readPartition(decoder, topicName, offsets, budget));
    return { topicName, partitions };
  });
  // The broker does not throttle where it tells the client to.
  return { throttleTime: 0, clientSideThrottleTime, errorCode, sessionId, responses };
}

async function readPartition(
  decoder: Decoder,
  topic: string,
  offsets: ReadonlyMap<number, number>,
  budget: Budget,
): Promise<FetchedPartition> {
  const partition = decoder.readInt32();
  const errorCode = decoder.readInt16();
  const highWatermark = decoder.readInt64().toString();
  const lastStableOffset = decoder.readInt64().toString();
  const lastStartOffset = decoder.readInt64().toString();
  const abortedTransactions = decoder.readArray(() => ({
    producerId: decoder.readInt64().toString(),
    firstOffset: decoder.readInt64().toString(),
  }));
  const preferredReadReplica = decoder.readInt32();
  const set = decoder.readBytes() ?? Buffer.alloc(0);
  const reader = new RecordSetReader(set, {
    topic,
    partition,
    fromOffset: offsets.get(partition) ?? 0,
    highWatermark: Number(highWatermark),
  });
  const messages = errorCode === 0 ? await reader.read(budget) : [];
  return {
    partition,
    errorCode,
    highWatermark,
    lastStableOffset,
    lastStartOffset,
    abortedTransactions,
    preferredReadReplica,
    messages,
  };
}

interface Place {
  topic: string;
  partition: number;
  /** Where the fetch began. */
  fromOffset: number;
  highWatermark: number;
}

/**
 * Batches that did not have their checksum when they came first. The log is what counts, so they are fetched once more
 * before they are given up: something on the way may have damaged them.
 */
const suspects = new LRUCache<string, true>({ max: 1_000 });

/** What a record says of its batch when nothing that the batch says can be believed. */
const NO_CONTEXT = { producerId: '-1', inTransaction: false, isControlBatch: false };

/** The batches that a fetch brought of one partition. The last one may be cut off. */
class RecordSetReader {
  private readonly records: FetchedRecord[] = [];

  constructor(
    private readonly set: Buffer,
    private readonly place: Place,
  ) {}

  async read(budget: Budget): Promise<FetchedRecord[]> {
    const { set } = this;
    let previous = -1;
    for (let at = 0; at < set.length && !budget.isSpent;) {
      const magic = magicAt(set, at);
      if (magic !== undefined && magic < 2) return this.readMessageSet(at);
      const header = readHeader(set, at);
      if (!header) return this.giveUp(at, 'its header makes no sense');
      const batch = set.subarray(at, at + header.bytes);
      if (!(await checksumFits(batch))) return this.giveUp(at, 'its checksum (CRC-32C) does not fit');
      // Its first offset stands before what the checksum is of.
      if (header.baseOffset <= previous || header.lastOffset >= this.place.highWatermark)
        return this.giveUp(at, `it can't have the offsets ${header.baseOffset} to ${header.lastOffset} here`);
      if (!(await this.readBatch(batch, header, budget))) break;
      previous = header.lastOffset;
      at += header.bytes;
    }
    return this.records;
  }

  /** @returns whether the next batch may be read. */
  private async readBatch(batch: Buffer, header: BatchHeader, budget: Budget): Promise<boolean> {
    const { fromOffset } = this.place;
    const { baseOffset, lastOffset } = header;
    // Nothing that was asked for is in it.
    if (lastOffset < fromOffset) return true;
    try {
      const { records, bytes, complete } = await readRecords(batch, header, {
        fromOffset,
        maxRecords: budget.recordsLeft,
      });
      budget.spend(records.length, bytes);
      for (const record of records) this.records.push(record);
      // Offsets without a record (compaction) end this batch: a record that kafkajs hands to nobody moves it past them.
      if (complete && records.at(-1)?.offset !== String(lastOffset))
        this.records.push({ ...this.marker(batch, lastOffset, header), isControlRecord: true });
      return complete;
    } catch (error) {
      if (!(error instanceof UnreadableRecords)) throw error;
      this.addUnreadable(batch, Math.max(baseOffset, fromOffset), lastOffset, error.message, header);
      return true;
    }
  }

  private addUnreadable(
    batch: Buffer,
    firstOffset: number,
    lastOffset: number,
    reason: string,
    header?: BatchHeader,
  ): void {
    this.records.push({
      ...this.marker(batch, lastOffset, header),
      // A copy: what it is a view of would stay in memory with it.
      value: Buffer.from(batch.subarray(0, KEPT_MAX_BYTES)),
      unreadable: {
        firstOffset: String(firstOffset),
        lastOffset: String(lastOffset),
        reason,
        bytes: batch.length,
      },
    });
  }

  /** A record that stands for a whole batch; `header` when it can be believed. */
  private marker(batch: Buffer, offset: number, header: BatchHeader | undefined): FetchedRecord {
    return {
      magicByte: 2,
      attributes: 0,
      timestamp: header ? maxTimestampOf(batch) : '0',
      offset: String(offset),
      key: null,
      value: null,
      headers: {},
      isControlRecord: false,
      batchContext: header ? contextOf(batch, header.attributes) : NO_CONTEXT,
    };
  }

  /**
   * A batch that can't be believed, its length and offsets included. What comes before it is handed on first; a broker
   * sends at least the first batch whole, so this may also be one that is cut off. Then it is fetched once more, and
   * only when it comes again as it was, it is given up.
   */
  private async giveUp(at: number, reason: string): Promise<FetchedRecord[]> {
    if (at > 0) return this.records;
    const { topic, partition, fromOffset } = this.place;
    const name = `${topic}/${partition}/${fromOffset}`;
    if (!suspects.has(name)) {
      suspects.set(name, true);
      return [];
    }
    const { bytes, lastOffset } = await this.extent();
    this.addUnreadable(this.set.subarray(0, bytes), fromOffset, lastOffset, reason);
    return this.records;
  }

  /** How far the first batch goes, of which nothing can be believed. */
  private async extent(): Promise<{ bytes: number; lastOffset: number }> {
    const { fromOffset, highWatermark } = this.place;
    const claimed = readHeader(this.set, 0);
    const next = (claimed && (await this.batchAt(claimed.bytes))) ?? (await this.findBatch());
    if (next) return { bytes: next.at, lastOffset: next.header.baseOffset - 1 };
    const plausible =
      claimed &&
      claimed.baseOffset <= fromOffset &&
      claimed.lastOffset >= fromOffset &&
      claimed.lastOffset < highWatermark;
    return plausible
      ? { bytes: claimed.bytes, lastOffset: claimed.lastOffset }
      : { bytes: this.set.length, lastOffset: fromOffset };
  }

  private async findBatch(): Promise<{ at: number; header: BatchHeader } | undefined> {
    for (let at = 1; at <= this.set.length - BATCH_HEADER_BYTES; at += 1) {
      const found = magicAt(this.set, at) === 2 ? await this.batchAt(at) : undefined;
      if (found) return found;
    }
    return undefined;
  }

  /** A batch that has its checksum and may follow in this partition. */
  private async batchAt(at: number): Promise<{ at: number; header: BatchHeader } | undefined> {
    const { fromOffset, highWatermark } = this.place;
    const header = readHeader(this.set, at);
    if (!header || header.baseOffset <= fromOffset || header.baseOffset >= highWatermark) return undefined;
    return (await checksumFits(this.set.subarray(at, at + header.bytes))) ? { at, header } : undefined;
  }

  /** What was written before Kafka 0.11, as kafkajs reads it. */
  private async readMessageSet(at: number): Promise<FetchedRecord[]> {
    const sound = this.set.subarray(at, await endOfSoundMessages(this.set, at));
    if (sound.length === 0) return this.giveUp(at, 'the checksum of a message does not fit');
    try {
      for (const message of await decodeMessageSet(new Decoder(sound), sound.length))
        this.records.push({
          ...message,
          timestamp: message.timestamp ?? '0',
          headers: {},
          isControlRecord: false,
          batchContext: NO_CONTEXT,
        });
      return this.records;
    } catch (error) {
      return this.giveUp(at, error instanceof Error ? error.message : String(error));
    }
  }
}
