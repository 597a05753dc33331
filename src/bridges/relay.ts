import type { Kafka } from 'kafkajs';
import type { Pool, PoolClient } from 'pg';
import { BACKUP_SLOT } from '../platform/backup-slot';
import { backoffMs } from '../platform/backoff';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import { withClient } from '../platform/postgres-pool';
import { OutboxPublisher, type OutboxRow, type RefusedRow } from './outbox-publisher';
import { RelayTurn } from './relay-turn';

/** How much of the outbox is counted for the metric; beyond it the gauge stays at this. */
const COUNT_LIMIT_ROWS = 100_000;
/** A relay that stands by looks this much less often than one that publishes. */
const STANDBY_FACTOR = 10;
/**
 * One that has found nothing for a while looks less often: a question costs as much as a row. What comes after a silence waits for
 * at most this share of it, and for 250 ms.
 */
const SILENCE_SHARE = 1 / 50;
const SILENCE_MAX_MS = 250;

/** @returns the pause, in milliseconds, of a relay that found nothing for `silenceMs`. */
export function pauseAfterSilence(silenceMs: number, pollMs: number): number {
  return Math.max(pollMs, Math.min(silenceMs * SILENCE_SHARE, SILENCE_MAX_MS));
}

/** `more`: the round was full. `standby`: another relay is publishing. */
export type RoundResult = 'more' | 'done' | 'empty' | 'standby';

export interface RelayOptions {
  pool: Pool;
  kafka: Kafka;
  config: Config;
  log: Logger;
  /** What publishes; tests put failures in its way. */
  publisher?: Pick<OutboxPublisher, 'publish' | 'stop'>;
}

/**
 * Moves the outbox to Kafka, in the order of its ids. A round is one transaction: take the lock, read, publish with
 * `acks=all`, delete, commit. A crash in between repeats the round and loses nothing: consumers see a message at least
 * once. One relay at a time keeps the order of each key; the others stand by.
 */
export class OutboxRelay {
  private readonly publisher: Pick<OutboxPublisher, 'publish' | 'stop'>;
  private running: Promise<void> | undefined;
  private gauges: NodeJS.Timeout | undefined;
  private stopping = false;
  private wake: () => void = () => undefined;
  private failures = 0;
  private failingSinceMs = 0;
  private lastError: unknown;

  constructor(private readonly options: RelayOptions) {
    this.publisher = options.publisher ?? new OutboxPublisher(options.kafka, options.config);
  }

  start(): void {
    this.running ??= this.loop();
    this.gauges ??= setInterval(() => {
      this.measure().catch((error: unknown) =>
        this.options.log.debug({ err: error }, 'the outbox could not be counted'),
      );
    }, this.options.config.RELAY_METRICS_INTERVAL_MS).unref();
  }

  /** Finishes the round that runs, then disconnects. */
  async stop(): Promise<void> {
    this.stopping = true;
    clearInterval(this.gauges);
    this.wake();
    await this.running;
    await this.publisher.stop();
  }

  /** Rejects while rounds fail, with the reason. */
  check(): Promise<void> {
    if (this.failures === 0) return Promise.resolve();
    const reason = this.lastError instanceof Error ? this.lastError.message : String(this.lastError);
    return Promise.reject(new Error(`the outbox is not being published: ${reason}`));
  }

  private async loop(): Promise<void> {
    const { RELAY_POLL_INTERVAL_MS: pollMs } = this.options.config;
    let busyAtMs = Date.now();
    while (!this.stopping) {
      let pauseMs = pollMs;
      try {
        const result = await this.round();
        this.noteSuccess();
        if (result === 'more') {
          busyAtMs = Date.now();
          continue;
        }
        if (result === 'standby') pauseMs = pollMs * STANDBY_FACTOR;
        if (result !== 'empty') busyAtMs = Date.now();
        else pauseMs = pauseAfterSilence(Date.now() - busyAtMs, pollMs);
      } catch (error) {
        pauseMs = this.noteFailure(error);
      }
      await this.pause(pauseMs);
    }
  }

  private pause(ms: number): Promise<void> {
    if (this.stopping) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private noteSuccess(): void {
    if (this.failures > 0)
      this.options.log.info(
        { durationMs: Date.now() - this.failingSinceMs },
        'the outbox is published again',
      );
    this.failures = 0;
  }

  /** @returns the pause before the next round: growing, capped, half of it chance. */
  private noteFailure(error: unknown): number {
    const { RELAY_RETRY_BASE_MS: base, RELAY_RETRY_CAP_MS: cap } = this.options.config;
    if (this.failures === 0) {
      this.failingSinceMs = Date.now();
      this.options.log.warn({ err: error }, 'the outbox can’t be published; trying again until it can');
    }
    this.lastError = error;
    this.failures += 1;
    return backoffMs(this.failures, base, cap);
  }

  /** One round. Idempotent in effect: rows are gone from the outbox only after Kafka has them. */
  async round(): Promise<RoundResult> {
    const { pool } = this.options;
    // One cheap statement while there is nothing to do, instead of a transaction.
    const probe = await pool.query('SELECT 1 FROM outbox ORDER BY id LIMIT 1');
    if (probe.rowCount === 0) return 'empty';
    // Closed, not returned, when a round fails: its transaction, and with it the lock, ends.
    return withClient(pool, (client) => this.publishUnderLock(client));
  }

  private async publishUnderLock(client: PoolClient): Promise<RoundResult> {
    const { config } = this.options;
    const turn = await RelayTurn.take(client, config);
    if (!turn) return 'standby';
    // Read after the lock is held: a snapshot from before would still show what the last holder has just deleted.
    const { rows, read } = await this.readRows(client);
    const refused =
      rows.length === 0
        ? []
        : await turn.holdWhile(() => this.publisher.publish(rows, () => turn.assertHeld()));
    await moveAside(client, refused);
    await client.query('DELETE FROM outbox WHERE id = ANY($1::bigint[])', [rows.map((row) => row.id)]);
    await client.query('COMMIT');
    for (const { row, reason } of refused)
      this.options.log.error(
        { outboxId: row.id, topic: row.topic, key: row.key, reason },
        'an outbox row can’t be published and was moved to outbox_refused',
      );
    return rows.length < read || read >= config.RELAY_BATCH_ROWS ? 'more' : 'done';
  }

  /** The oldest rows, up to the limits of a round; the first one always. `read` counts them before the byte limit. */
  private async readRows(client: PoolClient): Promise<{ rows: OutboxRow[]; read: number }> {
    const { RELAY_BATCH_ROWS: limit, RELAY_BATCH_BYTES: limitBytes } = this.options.config;
    const { rows } = await client.query<OutboxRow & { read: number }>(
      `SELECT id, topic, key, value, headers, read FROM (
         SELECT *, count(*) OVER ()::int AS read, row_number() OVER (ORDER BY id) AS n,
                sum(octet_length(value) + octet_length(key) + 200) OVER (ORDER BY id) AS bytes
           FROM (SELECT * FROM outbox ORDER BY id LIMIT $1) AS oldest) AS measured
        WHERE n = 1 OR bytes <= $2 ORDER BY id`,
      [limit, limitBytes],
    );
    return { rows, read: rows[0]?.read ?? 0 };
  }

  /** Sets the gauges of the outbox, and of the log that waits to be backed up. */
  async measure(): Promise<void> {
    const { rows } = await this.options.pool.query<{
      pending: number;
      refused: number;
      oldest: number;
      behind: number | null;
    }>(
      `SELECT (SELECT count(*)::int FROM (SELECT 1 FROM outbox LIMIT ${COUNT_LIMIT_ROWS}) AS counted) AS pending,
              (SELECT count(*)::int FROM (SELECT 1 FROM outbox_refused LIMIT ${COUNT_LIMIT_ROWS}) AS aside) AS refused,
              coalesce((SELECT extract(epoch FROM now() - created_at)::float8 FROM outbox ORDER BY id LIMIT 1), 0)
                AS oldest,
              -- Nothing is kept for a backup where there is none; all of it, where it was given up.
              (SELECT coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 'Infinity')::float8
                 FROM pg_replication_slots WHERE slot_name = '${BACKUP_SLOT}') AS behind`,
    );
    metrics.outboxPending.set(rows[0]?.pending ?? 0);
    metrics.outboxRefused.set(rows[0]?.refused ?? 0);
    metrics.outboxOldestSeconds.set(Math.max(0, rows[0]?.oldest ?? 0));
    metrics.backupLogBehind.set(rows[0]?.behind ?? 0);
  }
}

/** Rows that Kafka will never take go to `outbox_refused`, in the same transaction that takes them out of the outbox. */
async function moveAside(client: PoolClient, refused: readonly RefusedRow[]): Promise<void> {
  for (const { row, reason } of refused)
    await client.query(
      `INSERT INTO outbox_refused (id, topic, key, value, headers, created_at, reason)
       SELECT id, topic, key, value, headers, created_at, $2 FROM outbox WHERE id = $1`,
      [row.id, reason],
    );
}
