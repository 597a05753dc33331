import { Batch, rowHead, type ClosedBy } from './batch';
import type { ChunkPool } from './chunks';
import { decodePending, encodePending } from './pending';
import type { Committed } from './source';

export interface PartitionOptions {
  /** Default of the table's `kafkaTopic`. */
  defaultTopic: string;
  batchRows: number;
  batchBytes: number;
  /** Closed batches that wait or are being stored. */
  batchesAhead: number;
}

type Stage = 'closed' | 'announced' | 'settled';

/** A commit to be made, and the batches that may be sent once it is durable. */
export interface Due {
  committed: Committed;
  announces: Batch[];
}

interface Entry {
  batch: Batch;
  stage: Stage;
}

/** At most so many batches are announced at a time, so that the metadata stays small. */
const ANNOUNCED_MAX = 64;

/**
 * One partition of this member: where reading stands, the batch that is being filled, the closed ones in order, and
 * what of it all is to be committed. A batch is announced (its range is in the committed metadata) before it is sent,
 * and a range that a predecessor announced is cut out again exactly, whatever the limits say.
 */
export class PartitionState {
  /** The next offset to read; unknown until the first fetch when nothing is committed. */
  position: number | undefined;
  filling: Batch | undefined;
  paused = false;
  /** The last fetch that began elsewhere than at `position`. */
  strayFrom: number | undefined;
  lastFetchAtMs = Date.now();
  /** Where the next batch begins: batches leave no offset out, also where offsets have no message. */
  private nextFirst: number | undefined;
  private readonly entries: Entry[] = [];
  /** Ends of announced ranges that are not read again yet. */
  private readonly recovered: number[];
  private committed: Committed | undefined;
  private readonly head: Buffer;

  constructor(
    readonly topic: string,
    private readonly log: string,
    readonly partition: number,
    committed: Committed | undefined,
    private readonly options: PartitionOptions,
    private readonly pool: ChunkPool,
  ) {
    this.head = rowHead(topic, partition, options.defaultTopic);
    if (committed) this.startAt(committed.offset);
    this.recovered = committed ? decodePending(committed.offset, committed.metadata) : [];
    this.committed = committed;
  }

  /** Reading begins here; nothing of the partition is in memory. */
  startAt(offset: number): void {
    this.position = offset;
    this.nextFirst = offset;
  }

  /** The batch for the next message; a fresh one begins where the last one ended. */
  open(): Batch {
    this.filling ??= new Batch(this.topic, this.log, this.partition, this.nextFirst!, this.head, this.pool);
    return this.filling;
  }

  /** The offset that must be the last of the batch being filled, because a predecessor announced so. */
  get mustEndAt(): number | undefined {
    return this.recovered[0];
  }

  /** Why the batch that is being filled has to be closed now, if so. `position` is past its last message. */
  get closeReason(): ClosedBy | undefined {
    const { filling, position } = this;
    const end = this.recovered[0];
    if (end !== undefined) return position! > end ? 'recovered' : undefined;
    if (!filling) return undefined;
    if (filling.messages >= this.options.batchRows) return 'rows';
    return filling.bytes + filling.asideBytes >= this.options.batchBytes ? 'bytes' : undefined;
  }

  /** Closes the batch at `last`. A range that turned out to be empty (its messages are gone) is closed as well. */
  close(last: number, closedBy: ClosedBy): Batch {
    const batch = this.open();
    this.filling = undefined;
    batch.last = last;
    this.nextFirst = last + 1;
    batch.closedBy = closedBy;
    const announced = this.recovered[0] === last;
    if (announced) this.recovered.shift();
    this.entries.push({ batch, stage: announced ? 'announced' : 'closed' });
    return batch;
  }

  /** Forgets what a predecessor announced: the messages it announced do not exist any more. */
  forgetRecovered(): void {
    this.recovered.length = 0;
  }

  /** Closed batches that are not settled. */
  get ahead(): number {
    return this.entries.length;
  }

  get hasRoom(): boolean {
    return this.entries.length < this.options.batchesAhead;
  }

  /** Settled batches at the front leave; the others wait for those before them. */
  settle(batch: Batch): void {
    for (const entry of this.entries) if (entry.batch === batch) entry.stage = 'settled';
    while (this.entries[0]?.stage === 'settled') this.entries.shift();
  }

  /**
   * What is to be committed, when that differs from what is: everything before the offset is stored or dead-lettered,
   * and the metadata holds the ranges of the batches from there on. A closed batch keeps its range for good, so every
   * commit announces all of them, sent or not.
   */
  due(): Due | undefined {
    const { position, partition } = this;
    if (position === undefined) return undefined;
    // Offsets without a message need no batch when nothing is waiting before them.
    if (this.entries.length === 0 && !this.filling && this.recovered.length === 0) this.nextFirst = position;
    const offset = this.entries[0]?.batch.first ?? this.filling?.first ?? this.nextFirst!;
    const included = this.entries.slice(0, ANNOUNCED_MAX);
    // While announced ranges are still to be read, nothing was closed behind them.
    const metadata = encodePending(offset, [...included.map(({ batch }) => batch.last), ...this.recovered]);
    if (this.committed?.offset === offset && this.committed.metadata === metadata) return undefined;
    const announces = included.filter(({ stage }) => stage === 'closed').map(({ batch }) => batch);
    return { committed: { partition, offset, metadata }, announces };
  }

  /** The commit is durable. @returns the batches that it announced and that may be sent now. */
  markCommitted({ committed, announces }: Due): Batch[] {
    this.committed = committed;
    return this.entries.flatMap((entry) => {
      if (entry.stage !== 'closed' || !announces.includes(entry.batch)) return [];
      entry.stage = 'announced';
      return [entry.batch];
    });
  }

  /** Forgets everything: the partition went to another member, or comes again in a new generation. */
  abandon(): void {
    this.abandonUnannounced();
    for (const { batch } of this.entries) batch.abandoned = true;
  }

  /** Forgets what may be of another log; what was announced was not, and may still be stored. */
  abandonUnannounced(): void {
    this.filling?.release();
    this.filling = undefined;
    for (const { batch, stage } of this.entries) {
      if (stage !== 'closed') continue;
      batch.abandoned = true;
      batch.release();
    }
  }
}
