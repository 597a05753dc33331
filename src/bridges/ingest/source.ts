import type { IHeaders } from 'kafkajs';
import type { UnreadableBatch } from '../../platform/record-batch';

/**
 * The port to the log that batches are read from. An adapter for another Kafka client implements `MessageSource` and
 * calls a `SourceListener`. Offsets are numbers: exact up to 2^53, which no partition reaches.
 */

export interface SourceRecord {
  offset: string;
  key: Buffer | null;
  value: Buffer | null;
  headers?: IHeaders | undefined;
  /** Milliseconds since 1970, in digits. */
  timestamp: string;
  /** Set when it stands for a batch that could not be read: `offset` is the last of it, `value` its bytes. */
  unreadable?: UnreadableBatch | undefined;
}

/** What one fetch brought of one partition. */
export interface Fetched {
  partition: number;
  /** Where the fetch began. Between it and the first record there may be offsets without one (compaction). */
  fromOffset: number;
  /** Where the next fetch begins: past the last record and past offsets that have none (control records). */
  nextOffset: number;
  /** In the order of their offsets, all from `fromOffset` on. Valid only during the call. */
  records: readonly SourceRecord[];
}

/** What is committed of a partition. */
export interface Committed {
  partition: number;
  offset: number;
  metadata: string;
}

export interface SourceListener {
  /**
   * A new generation of the group: from now on exactly these partitions of this log are read, each from what is
   * committed of it (from its beginning when nothing is). Whatever was read before is no longer this member's to commit.
   * @param log a short name of the log: another one when the topic was created again, or is of another cluster.
   */
  onAssigned(log: string, partitions: readonly number[], committed: ReadonlyMap<number, Committed>): void;
  /**
   * The topic was deleted and created again: the same partitions of this log are read from their beginning, and whatever
   * was read and not announced was perhaps of the former.
   */
  onLogReplaced(log: string): void;
  /**
   * Takes over the records, or the first of them. @returns how many; the next fetch begins at the first that was not
   * taken, or where `seek` said.
   */
  onFetched(fetched: Fetched): number;
  /** The group is about to be joined again: the last chance to commit what is settled. */
  onRebalancing(): void;
  /** The client lost its group and joins again by itself; nothing can be committed until `onAssigned`. */
  onLost(): void;
}

export interface MessageSource {
  readonly topic: string;
  readonly group: string;
  /** Joins the group. Rejects when the brokers or the topic can't be reached. */
  start(listener: SourceListener): Promise<void>;
  /**
   * Commits for the current generation, once it is sure that what was fetched until now is of the log that was named
   * last. Rejects when it is not, or not (any more) this member's to commit, or the coordinator can't be reached; it may
   * then have been committed all the same.
   */
  commit(partitions: readonly Committed[]): Promise<void>;
  pause(partitions: readonly number[]): void;
  resume(partitions: readonly number[]): void;
  /** The next fetch of this partition begins here. */
  seek(partition: number, offset: number): void;
  /** Rejects unless the group is joined and heartbeats are acknowledged. */
  check(): Promise<void>;
  /** Leaves the group, so that others get its partitions at once. */
  stop(): Promise<void>;
}
