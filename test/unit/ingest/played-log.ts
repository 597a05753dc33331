import type { Batch } from '../../../src/bridges/ingest/batch';
import { Abandoned } from '../../../src/bridges/ingest/batch-writer';
import type {
  Committed,
  MessageSource,
  SourceListener,
  SourceRecord,
} from '../../../src/bridges/ingest/source';

/** Random numbers that a seed repeats. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** The log and the group's offsets: what outlives every process. */
export class PlayedCluster {
  committed = new Map<number, Committed>();
  generation = 0;
  log = 'log1';

  constructor(public records: ReadonlyMap<number, readonly SourceRecord[]>) {}

  /** The topic is deleted and created again; its group's offsets go with it. */
  makeAnew(records: ReadonlyMap<number, readonly SourceRecord[]>): void {
    this.records = records;
    this.log = `log${Number(this.log.slice(3)) + 1}`;
    this.committed = new Map();
  }
}

/** One member that has all partitions, until the next one joins. Fetches bring a random number of records. */
export class PlayedSource implements MessageSource {
  readonly topic = 'purchases';
  readonly group = 'test';
  private readonly positions = new Map<number, number>();
  private readonly paused = new Set<number>();
  /** The log that this member believes to read. */
  private log = '';
  private listener: SourceListener | undefined;
  private generation = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly cluster: PlayedCluster,
    private readonly random: (below: number) => number,
    private readonly fetchRecords = 40,
  ) {}

  start(listener: SourceListener): Promise<void> {
    this.listener = listener;
    this.join();
    this.timer = setInterval(() => this.fetch(), 1);
    return Promise.resolve();
  }

  /** Also what a rebalance in which this member keeps its partitions looks like. */
  join(): void {
    this.generation = this.cluster.generation += 1;
    for (const partition of this.cluster.records.keys())
      this.positions.set(partition, this.cluster.committed.get(partition)?.offset ?? 0);
    this.log = this.cluster.log;
    this.listener!.onAssigned(this.log, [...this.cluster.records.keys()], new Map(this.cluster.committed));
  }

  rebalance(): void {
    this.listener!.onRebalancing();
    this.join();
  }

  private verifyLog(): boolean {
    if (this.log === this.cluster.log) return true;
    this.log = this.cluster.log;
    for (const partition of this.cluster.records.keys()) this.positions.set(partition, 0);
    this.listener!.onLogReplaced(this.log);
    return false;
  }

  private fetch(): void {
    if (this.random(30) === 0 && this.generation === this.cluster.generation) this.verifyLog();
    for (const [partition, all] of this.cluster.records) {
      if (this.paused.has(partition) || this.generation !== this.cluster.generation) continue;
      const from = this.positions.get(partition)!;
      const start = all.findIndex(({ offset }) => Number(offset) >= from);
      if (start < 0) continue;
      const records = all.slice(start, start + 1 + this.random(this.fetchRecords));
      const nextOffset = Number(records.at(-1)!.offset) + 1;
      const taken = this.listener!.onFetched({ partition, fromOffset: from, nextOffset, records });
      if (taken === records.length) this.positions.set(partition, nextOffset);
      else if (taken > 0) this.positions.set(partition, Number(records[taken - 1]!.offset) + 1);
    }
  }

  async commit(partitions: readonly Committed[]): Promise<void> {
    const { generation } = this;
    await new Promise((resolve) => setTimeout(resolve, this.random(3)));
    if (generation !== this.cluster.generation) throw new Error('ILLEGAL_GENERATION');
    if (!this.verifyLog()) throw new Error('the topic was created again');
    if (this.random(10) === 0) throw new Error('COORDINATOR_NOT_AVAILABLE');
    for (const each of partitions) this.cluster.committed.set(each.partition, each);
    if (this.random(10) === 0) throw new Error('the answer was lost');
  }

  pause(partitions: readonly number[]): void {
    for (const partition of partitions) this.paused.add(partition);
  }

  resume(partitions: readonly number[]): void {
    for (const partition of partitions) this.paused.delete(partition);
  }

  seek(partition: number, offset: number): void {
    this.positions.set(partition, offset);
  }

  check(): Promise<void> {
    return Promise.resolve();
  }

  /** As `kill -9` would: nothing more is fetched or committed. */
  die(): void {
    clearInterval(this.timer);
    this.generation = -1;
  }

  stop(): Promise<void> {
    this.die();
    return Promise.resolve();
  }
}

/** A batch is stored within so long. */
const STORING_MS = 4;

/** A table that deduplicates by token and by nothing else, so that a batch that is cut otherwise shows as repetition. */
export class PlayedTable {
  readonly tokens = new Map<string, readonly string[]>();
  readonly dead = new Set<string>();
  /** The most bytes, and the most batches, that were being stored at a time. */
  storing = 0;
  storingMax = 0;

  constructor(private readonly random: (below: number) => number) {}

  get rows(): string[] {
    return [...this.tokens.values()].flat();
  }

  /** A writer whose process can die: then it hangs, having stored the batch or not. */
  writer(alive: () => boolean) {
    return {
      store: async (batch: Batch): Promise<void> => {
        this.storing += 1;
        this.storingMax = Math.max(this.storingMax, this.storing);
        const { token } = batch;
        const log = token.split(':')[0]!;
        const rows = batch.liveRowNumbers().map((row) => `${log}/${batch.partition}/${batch.offsetOf(row)}`);
        await new Promise((resolve) => setTimeout(resolve, this.random(STORING_MS)));
        this.storing -= 1;
        if (!alive() && this.random(2) === 0) return new Promise(() => undefined);
        if (alive() && this.random(20) === 0 && batch.abandoned) throw new Abandoned('moved');
        if (!this.tokens.has(token)) this.tokens.set(token, rows);
        for (const { message } of batch.poison)
          this.dead.add(`${log}/${message.partition}/${message.offset}`);
        if (!alive()) return new Promise(() => undefined);
      },
    };
  }
}
