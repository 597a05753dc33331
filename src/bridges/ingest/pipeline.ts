import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../platform/config';
import type { Logger } from '../../platform/logging';
import { metrics } from '../../platform/metrics';
import { unreadableReason } from '../../platform/record-batch';
import { PoisonMessage } from '../message';
import { Backoff } from '../../platform/backoff';
import type { Batch, ClosedBy } from './batch';
import { Abandoned, type BatchWriter } from './batch-writer';
import { ChunkPool } from './chunks';
import { PartitionState } from './partition-state';
import type { RowFormat } from './row-format';
import type { Committed, Fetched, MessageSource, SourceListener, SourceRecord } from './source';

const LAST_COMMIT_ATTEMPTS = 5;

export interface PipelineOptions {
  source: MessageSource;
  writer: Pick<BatchWriter, 'store'>;
  format: RowFormat;
  /** Default of the table's `kafkaTopic`. */
  defaultTopic: string;
  config: Config;
  log: Logger;
  /** Aborted when what can't be stored at the next try is to be given up. */
  stopping: AbortController;
}

/** How often batches are looked at for their age; a batch is late by at most this. */
const TICKS_PER_FLUSH = 20;
const TICK_MIN_MS = 5;
/** Reading goes on when memory in use has fallen to this share of its limit. */
const RESUME_SHARE = 0.75;
/** An announced range of which nothing more comes for so long has lost its messages (a broker lost its log). */
const RECOVERY_STALL_MS = 60_000;

/**
 * From fetched messages to stored batches and committed offsets. One event loop turn does one thing to this state, and
 * only here; writers work on closed batches alone.
 *
 * fetched → batch of its partition → closed (rows, bytes, time) → announced (its range is in the group's committed
 * metadata) → stored and dead-lettered → committed. A repetition of a batch therefore always has the range and the
 * token of the first attempt, whoever makes it.
 */
export class IngestPipeline implements SourceListener {
  private states = new Map<number, PartitionState>();
  /** Names the log that is read, in the tokens of its batches. */
  private log = '';
  private readonly pool: ChunkPool;
  private readonly queue: Batch[] = [];
  private readonly running = new Set<Promise<void>>();
  private readonly stateOf = new WeakMap<Batch, PartitionState>();
  private stopped = false;
  private tickTimer: NodeJS.Timeout | undefined;
  private commitTimer: NodeJS.Timeout | undefined;
  private committing: Promise<void> | undefined;
  private commitWanted = false;
  private readonly commitBackoff: Backoff;
  private lastCommitAtMs = Date.now();
  /** No commit between the end of one generation of the group and the beginning of the next. */
  private inGroup = false;

  constructor(private readonly options: PipelineOptions) {
    const { config } = options;
    this.pool = new ChunkPool(config.INGEST_IN_FLIGHT_BYTES);
    this.commitBackoff = new Backoff(config.INGEST_RETRY_BASE_MS, config.INGEST_RETRY_CAP_MS);
  }

  /** Memory of all batches. */
  get inFlightBytes(): number {
    return this.pool.usedBytes;
  }

  async start(): Promise<void> {
    this.showGauges(Date.now());
    await this.options.source.start(this);
  }

  onAssigned(log: string, partitions: readonly number[], committed: ReadonlyMap<number, Committed>): void {
    this.abandonAll();
    this.log = log;
    this.states = new Map(
      partitions.map((partition) => [partition, this.newState(partition, committed.get(partition))]),
    );
    this.inGroup = true;
    this.lastCommitAtMs = Date.now();
    // The client remembers pauses of an earlier generation.
    if (this.stopped) this.options.source.pause(partitions);
    else this.options.source.resume(partitions);
  }

  onLogReplaced(log: string): void {
    const partitions = [...this.states.keys()];
    for (const state of this.states.values()) state.abandonUnannounced();
    this.states = new Map();
    const fromTheBeginning = partitions.map((partition) => ({ partition, offset: 0, metadata: '' }));
    this.onAssigned(log, partitions, new Map(fromTheBeginning.map((each) => [each.partition, each])));
  }

  onRebalancing(): void {
    // What is stored by now need not be read again by whoever gets the partition.
    void this.commitNow();
    this.inGroup = false;
  }

  onLost(): void {
    this.inGroup = false;
    this.abandonAll();
  }

  onFetched(fetched: Fetched): number {
    const state = this.states.get(fetched.partition);
    if (!state || this.stopped || !this.continues(state, fetched)) return 0;
    state.lastFetchAtMs = Date.now();
    this.tickWhileBusy();
    const { records } = fetched;
    let taken = 0;
    while (taken < records.length && this.mayTake(state)) this.take(state, records[taken++]!);
    if (taken === records.length) state.position = fetched.nextOffset;
    this.closeWhenDue(state);
    this.balance();
    return taken;
  }

  /** Small messages may take many times their bytes in memory, so that a fetch can be too much for what is left. */
  private mayTake(state: PartitionState): boolean {
    return this.pool.usedBytes < this.options.config.INGEST_IN_FLIGHT_BYTES || state.mustEndAt !== undefined;
  }

  /**
   * A fetch that does not begin where reading stands was made for an earlier generation, or the messages in between
   * are gone (retention). Which of both, a second look tells.
   */
  private continues(state: PartitionState, { fromOffset, partition }: Fetched): boolean {
    if (state.position === undefined) state.startAt(fromOffset);
    if (state.position === fromOffset) return true;
    if (state.strayFrom !== fromOffset) {
      state.strayFrom = fromOffset;
      this.options.source.seek(partition, state.position!);
      return false;
    }
    const { log, source } = this.options;
    log.warn(
      { topic: source.topic, partition, expected: state.position, found: fromOffset },
      'offsets were skipped: their messages are no longer in the topic',
    );
    state.strayFrom = undefined;
    if (fromOffset > state.position!) return true;
    // The log was cut and starts again: what was read of it does not count.
    state.abandon();
    const fresh = this.newState(partition, undefined);
    fresh.startAt(fromOffset);
    this.states.set(partition, fresh);
    return false;
  }

  private newState(partition: number, committed: Committed | undefined): PartitionState {
    const { config, source } = this.options;
    const options = {
      defaultTopic: this.options.defaultTopic,
      batchRows: config.INGEST_BATCH_ROWS,
      batchBytes: config.INGEST_BATCH_BYTES,
      batchesAhead: config.INGEST_BATCHES_AHEAD,
    };
    return new PartitionState(source.topic, this.log, partition, committed, options, this.pool);
  }

  private take(state: PartitionState, record: SourceRecord): void {
    const offset = Number(record.offset);
    for (let end = state.mustEndAt; end !== undefined && offset > end; end = state.mustEndAt)
      this.close(state, end, 'recovered');
    const batch = state.open();
    this.addTo(batch, record);
    state.position = offset + 1;
    this.closeWhenDue(state);
  }

  private addTo(batch: Batch, record: SourceRecord): void {
    const { format, config, source } = this.options;
    const { value, unreadable } = record;
    if (unreadable)
      return batch.addPoison(record, 'unreadable_batch', unreadableReason(unreadable, value?.length ?? 0));
    if (value !== null && value.length <= config.KAFKA_MESSAGE_MAX_BYTES) {
      if (format.takesBytes(value)) return batch.append(record, value);
      metrics.ingestSlowPath.inc({ topic: source.topic });
      try {
        return batch.append(record, Buffer.from(format.rewrite(value)), value);
      } catch (error) {
        if (!(error instanceof PoisonMessage)) throw error;
        return batch.addPoison(record, error.code, error.message);
      }
    }
    if (value === null) return batch.addPoison(record, 'invalid_json', 'the message has no value');
    batch.addPoison(
      record,
      'message_too_large',
      `${value.length} bytes, more than ${config.KAFKA_MESSAGE_MAX_BYTES} (KAFKA_MESSAGE_MAX_BYTES)`,
    );
  }

  private closeWhenDue(state: PartitionState): void {
    for (let reason = state.closeReason; reason !== undefined; reason = state.closeReason)
      this.close(state, state.mustEndAt ?? state.position! - 1, reason);
  }

  private close(state: PartitionState, last: number, reason: ClosedBy): void {
    const announced = state.mustEndAt === last;
    const batch = state.close(last, reason);
    this.stateOf.set(batch, state);
    if (announced) this.enqueue(batch);
    else this.wantCommit();
  }

  private enqueue(batch: Batch): void {
    this.queue.push(batch);
    this.pump();
  }

  private pump(): void {
    while (this.running.size < this.options.config.INGEST_WRITERS) {
      const batch = this.queue.shift();
      if (!batch) return;
      if (batch.abandoned) {
        batch.release();
        continue;
      }
      const work = this.store(batch).finally(() => {
        this.running.delete(work);
        this.pump();
        this.balance();
      });
      this.running.add(work);
    }
  }

  private async store(batch: Batch): Promise<void> {
    const { topic } = batch;
    const deadLetters = batch.poison.length;
    try {
      await this.options.writer.store(batch);
    } catch (error) {
      batch.release();
      if (error instanceof Abandoned) return;
      throw error;
    }
    metrics.ingestRows.inc({ topic }, batch.liveRows);
    metrics.ingestBytes.inc({ topic }, batch.bytes);
    metrics.ingestBatchRows.observe({ topic }, batch.liveRows + deadLetters);
    metrics.ingestBatches.inc({ topic, closed_by: batch.closedBy ?? 'rows' });
    batch.release();
    if (batch.abandoned) return;
    this.stateOf.get(batch)?.settle(batch);
    this.commitTimer ??= setTimeout(() => {
      this.commitTimer = undefined;
      this.wantCommit();
    }, this.options.config.INGEST_COMMIT_INTERVAL_MS);
  }

  /** Nothing has to be looked at before something is fetched, nor after all of it is stored and committed. */
  private tickWhileBusy(): void {
    if (this.tickTimer) return;
    const { INGEST_FLUSH_MS: flushMs } = this.options.config;
    this.lastCommitAtMs = Date.now();
    this.tickTimer = setInterval(() => this.tick(), Math.max(TICK_MIN_MS, flushMs / TICKS_PER_FLUSH));
  }

  private get isBusy(): boolean {
    const states = [...this.states.values()];
    return (
      this.running.size > 0 ||
      this.pool.usedBytes > 0 ||
      states.some((state) => state.filling !== undefined || state.ahead > 0 || state.paused)
    );
  }

  /** Closes what is old enough, and shows how things stand. */
  private tick(): void {
    const { config, source, log } = this.options;
    const now = Date.now();
    for (const state of this.states.values()) {
      const { filling } = state;
      if (state.mustEndAt !== undefined) {
        if (state.paused || now - state.lastFetchAtMs < RECOVERY_STALL_MS || !filling) continue;
        log.warn(
          { topic: source.topic, partition: state.partition },
          'an announced batch is no longer complete',
        );
        state.forgetRecovered();
      }
      if (filling && now - filling.openedAtMs >= config.INGEST_FLUSH_MS && state.hasRoom)
        this.close(state, state.position! - 1, 'time');
    }
    this.balance();
    this.showGauges(now);
    if (!this.isBusy) this.stopTicking();
  }

  private stopTicking(): void {
    clearInterval(this.tickTimer);
    this.tickTimer = undefined;
  }

  private showGauges(now: number): void {
    const { topic } = this.options.source;
    const states = [...this.states.values()];
    metrics.ingestInFlightBytes.set({ topic }, this.pool.usedBytes);
    metrics.ingestPausedPartitions.set({ topic }, states.filter((state) => state.paused).length);
    const uncommitted = states.some((state) => state.filling !== undefined || state.ahead > 0);
    if (!uncommitted) this.lastCommitAtMs = now;
    metrics.ingestLastCommitAge.set({ topic }, (now - this.lastCommitAtMs) / 1_000);
  }

  /** Pauses what may not grow, resumes what may, and makes sure that full memory empties again. */
  private balance(): void {
    if (this.stopped) return;
    const { config, source } = this.options;
    const limit = config.INGEST_IN_FLIGHT_BYTES;
    const full = this.pool.usedBytes >= limit;
    const roomy = this.pool.usedBytes < limit * RESUME_SHARE;
    if (full && this.queue.length === 0 && this.running.size === 0) this.closeLargest();
    const pause: number[] = [];
    const resume: number[] = [];
    for (const state of this.states.values()) {
      // An announced range has to be read to its end: only then can it be stored and make room.
      const completing = state.mustEndAt !== undefined && state.filling !== undefined;
      const stop = !completing && (full || !state.hasRoom);
      if (stop && !state.paused) pause.push(state.partition);
      const go = completing || (roomy && state.hasRoom);
      if (go && state.paused) resume.push(state.partition);
      state.paused = stop || (state.paused && !go);
    }
    if (pause.length > 0) source.pause(pause);
    if (resume.length > 0) source.resume(resume);
  }

  private closeLargest(): void {
    let largest: PartitionState | undefined;
    for (const state of this.states.values())
      if (state.filling && state.mustEndAt === undefined && state.hasRoom)
        if (!largest || state.filling.heldBytes > largest.filling!.heldBytes) largest = state;
    if (largest) this.close(largest, largest.position! - 1, 'pressure');
  }

  /** Commits as soon as the turn is over; what is wanted meanwhile shares the request, or the next one. */
  private wantCommit(): void {
    this.commitWanted = true;
    this.committing ??= new Promise<void>((resolve) => setImmediate(resolve))
      .then(() => this.commitWhileWanted())
      .finally(() => {
        this.committing = undefined;
        if (this.commitWanted && this.inGroup && !this.options.stopping.signal.aborted) this.wantCommit();
      });
  }

  private async commitWhileWanted(): Promise<void> {
    let triesWhileStopping = 0;
    while (this.commitWanted && this.inGroup) {
      this.commitWanted = false;
      if (await this.commitNow()) {
        this.commitBackoff.reset();
        continue;
      }
      this.commitWanted = true;
      await this.commitBackoff.pause(this.options.stopping.signal);
      // While stopping, pauses end at once: a few more tries let announced batches still be stored.
      if (this.options.stopping.signal.aborted && ++triesWhileStopping > LAST_COMMIT_ATTEMPTS) return;
    }
  }

  /** @returns false when it has to be tried again. */
  private async commitNow(): Promise<boolean> {
    if (!this.inGroup) return true;
    const states = this.states;
    const due = [...states.values()].flatMap((state) => {
      const commit = state.due();
      return commit ? [{ state, commit }] : [];
    });
    if (due.length === 0) return true;
    try {
      await this.options.source.commit(due.map(({ commit }) => commit.committed));
    } catch (error) {
      this.options.log.debug({ err: error }, 'offsets were not committed');
      return false;
    }
    // A generation that ended meanwhile had its partitions taken away; its batches are read again.
    if (states !== this.states) return true;
    this.lastCommitAtMs = Date.now();
    for (const { state, commit } of due) for (const batch of state.markCommitted(commit)) this.enqueue(batch);
    return true;
  }

  private abandonAll(): void {
    for (const state of this.states.values()) state.abandon();
    this.states = new Map();
  }

  /** First half of stopping: takes nothing more in, and closes what is there. */
  stopTaking(): void {
    if (this.stopped) return;
    this.options.source.pause([...this.states.keys()]);
    this.stopped = true;
    for (const state of this.states.values())
      if (state.filling && state.mustEndAt === undefined) this.close(state, state.position! - 1, 'shutdown');
  }

  /**
   * Second half: what can be stored at the first try is stored and committed; the rest is given up, to be read again by
   * whoever gets the partition. Then leaves the group. Takes at most `limitMs`, and what the brokers take to answer.
   */
  async stop(limitMs: number): Promise<void> {
    this.stopTaking();
    this.options.stopping.abort();
    const limit = new AbortController();
    const late = sleep(limitMs, undefined, { signal: limit.signal }).catch(() => undefined);
    await Promise.race([this.drain(), late]);
    limit.abort();
    clearTimeout(this.commitTimer);
    this.stopTicking();
    await this.committing;
    // Nobody comes after the last commit: a coordinator that is moving gets more than one chance.
    for (let attempt = 1; attempt <= LAST_COMMIT_ATTEMPTS && !(await this.commitNow()); attempt++);
    this.abandonAll();
    await this.options.source.stop();
  }

  private async drain(): Promise<void> {
    while (this.inGroup && [...this.states.values()].some((state) => state.ahead > 0)) {
      await this.committing;
      if (this.running.size === 0) return;
      await Promise.race(this.running);
    }
  }
}
