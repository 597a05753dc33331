import { messageBytes, type IncomingMessage, type PoisonMessage } from './message';

/** One message on its way through a bridge. */
export interface Task {
  readonly message: IncomingMessage;
  readonly bytes: number;
  readonly key: string | null;
  /** The offset to commit once this and all messages before it are settled. */
  commitTo: bigint;
  /** Tries that failed so far. */
  failures: number;
  /** Set once the handler has refused the message: from then on only its dead letter is missing. */
  poison: PoisonMessage | undefined;
  settled: boolean;
}

/**
 * The messages of one partition between fetch and commit. It alone decides what may run (one message of a key at a
 * time, in order) and what may be committed (the contiguous prefix of settled messages). Does no I/O.
 */
export class PartitionWork {
  /** Fetched and not yet covered by the prefix, in offset order. */
  private tracked: Task[] = [];
  private ready: Task[] = [];
  /** Messages that wait behind the one of their key that is ready, running or backing off. */
  private readonly followers = new Map<string, Task[]>();
  private readonly idleWaiters: (() => void)[] = [];
  private bufferedBytes = 0;
  private running = 0;
  private nextOffset = -1n;
  private readonly drainWaiters: (() => void)[] = [];
  private closed = false;

  /** What may be committed: every message before this offset is settled. Undefined until one is. */
  committable: bigint | undefined;
  /** What the broker acknowledged. */
  committed: bigint | undefined;
  /** End of the partition when it was last fetched. */
  highWatermark: bigint | undefined;
  /** Fetching is paused because too much is buffered. */
  paused = false;
  /** Its predecessor in this process still has messages in flight: nothing starts before they are through. */
  blocked = false;

  constructor(
    readonly topic: string,
    readonly partition: number,
    private readonly limits: { messages: number; bytes: number },
  ) {}

  get isClosed(): boolean {
    return this.closed;
  }

  /** The first offset that it has not been given; undefined before it was given any. */
  get position(): bigint | undefined {
    return this.nextOffset < 0n ? undefined : this.nextOffset;
  }

  get isFull(): boolean {
    return this.tracked.length >= this.limits.messages || this.bufferedBytes >= this.limits.bytes;
  }

  /** Whether enough has left to fetch again: half, so that fetching does not stutter. */
  get hasRoom(): boolean {
    return this.tracked.length <= this.limits.messages / 2 && this.bufferedBytes <= this.limits.bytes / 2;
  }

  /**
   * Takes fetched messages, in offset order. Offsets that it has already are ignored: after a rebalance in which the
   * partition stays here, Kafka sends again what is not committed. `lastOffset` also covers control records.
   */
  add(messages: readonly IncomingMessage[], lastOffset: bigint): void {
    messages.forEach((message, index) => {
      const offset = BigInt(message.offset);
      if (offset < this.nextOffset) return;
      const commitTo = (index === messages.length - 1 && lastOffset > offset ? lastOffset : offset) + 1n;
      const key = message.key?.toString('latin1') ?? null;
      const bytes = messageBytes(message);
      const task: Task = { message, bytes, key, commitTo, failures: 0, poison: undefined, settled: false };
      this.nextOffset = offset + 1n;
      this.tracked.push(task);
      this.bufferedBytes += bytes;
      this.enqueue(task);
    });
  }

  /** There are no messages up to this offset, behind those that it has. */
  pass(offset: bigint): void {
    if (offset < this.nextOffset) return;
    this.nextOffset = offset + 1n;
    const last = this.tracked.at(-1);
    if (last) last.commitTo = offset + 1n;
    else this.committable = offset + 1n;
  }

  private enqueue(task: Task): void {
    if (task.key === null) return void this.ready.push(task);
    const waiting = this.followers.get(task.key);
    if (waiting) return void waiting.push(task);
    this.followers.set(task.key, []);
    this.ready.push(task);
  }

  /** The next message that may run. It must come back through `settle` or `giveBack`. */
  take(): Task | undefined {
    if (this.blocked) return undefined;
    const task = this.ready.shift();
    if (task) this.running += 1;
    return task;
  }

  /** The message is through: what it caused is durable. Frees the next one of its key. */
  settle(task: Task): void {
    task.settled = true;
    let covered = 0;
    for (const each of this.tracked) {
      if (!each.settled) break;
      this.committable = each.commitTo;
      this.bufferedBytes -= each.bytes;
      covered += 1;
    }
    if (covered > 0) this.tracked = this.tracked.slice(covered);
    if (this.tracked.length === 0) for (const resolve of this.drainWaiters.splice(0)) resolve();
    if (task.key !== null && !this.closed) {
      const next = this.followers.get(task.key)?.shift();
      if (next) this.ready.push(next);
      else this.followers.delete(task.key);
    }
    this.left();
  }

  /** The message did not get through; it keeps its place and its key until `retry`. */
  giveBack(task: Task): void {
    task.failures += 1;
    this.left();
  }

  retry(task: Task): void {
    if (!this.closed) this.ready.unshift(task);
  }

  /** Starts nothing any more. What runs may still settle and be committed. */
  close(): void {
    this.closed = true;
    for (const resolve of this.drainWaiters.splice(0)) resolve();
    this.ready = [];
    this.followers.clear();
  }

  /** Resolves when all that it was given is settled, or nothing of it runs and it is closed. */
  async drained(): Promise<void> {
    if (this.tracked.length > 0 && !this.closed)
      await new Promise<void>((resolve) => this.drainWaiters.push(resolve));
    await this.idle();
  }

  /** Resolves when nothing of it runs. */
  idle(): Promise<void> {
    return this.running === 0 ? Promise.resolve() : new Promise((resolve) => this.idleWaiters.push(resolve));
  }

  private left(): void {
    this.running -= 1;
    if (this.running === 0) for (const resolve of this.idleWaiters.splice(0)) resolve();
  }
}
