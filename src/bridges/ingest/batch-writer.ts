import { ClickHouseError } from '@clickhouse/client';
import type { Config } from '../../platform/config';
import type { MessageProducer } from '../../platform/kafka';
import type { Logger } from '../../platform/logging';
import { metrics } from '../../platform/metrics';
import { sendDeadLetter } from '../dead-letters';
import { Backoff } from '../../platform/backoff';
import type { Batch } from './batch';
import type { BatchInserts } from './inserts';
import { refusalOf, type Refusal } from './refusal';
import type { RowFormat } from './row-format';
import { RowJudge } from './row-judge';

/** Thrown when a batch was given up because its partition moved or the process stops. It will be read again. */
export class Abandoned extends Error {}

export interface BatchWriterOptions {
  inserts: BatchInserts;
  producer: Pick<MessageProducer, 'send'>;
  config: Config;
  log: Logger;
  /** What the rows of the batch were made with. */
  format: RowFormat;
  /** What every message has to hold to; asked when ClickHouse refuses a row that `format` did not look into. */
  strictFormat: RowFormat;
  /** Given when the process stops: what can't be stored at the next try is given up. */
  stopping: AbortSignal;
}

/** Makes batches durable: every message of a batch ends as a row in ClickHouse or as a dead letter. */
export class BatchWriter {
  /** Batches that wait, and what for. */
  private readonly waiting = new Map<Batch, string>();

  constructor(private readonly options: BatchWriterOptions) {}

  /**
   * Resolves when each message of the batch is stored or dead-lettered. May be called again for the same offsets,
   * by this or another process, and then stores nothing twice; dead letters may be repeated.
   * @throws Abandoned only.
   */
  async store(batch: Batch): Promise<void> {
    try {
      // Both to their ends, also when one gives up: what they hold of the batch is in use until then.
      for (const part of await Promise.allSettled([this.storeRows(batch), this.sendPoison(batch)]))
        if (part.status === 'rejected') throw part.reason;
      // Rows that ClickHouse refused meanwhile.
      await this.sendPoison(batch);
    } finally {
      this.waiting.delete(batch);
    }
  }

  /** Rejects while a batch waits, and says what for. */
  check(): Promise<void> {
    const [reason] = this.waiting.values();
    return reason === undefined
      ? Promise.resolve()
      : Promise.reject(new Error(`${this.waiting.size} batches wait: ${reason}`));
  }

  private async storeRows(batch: Batch): Promise<void> {
    const { config } = this.options;
    const backoff = new Backoff(config.INGEST_RETRY_BASE_MS, config.INGEST_RETRY_CAP_MS);
    const judge = new RowJudge(this.options, batch);
    while (batch.liveRows > 0) {
      const stop = metrics.ingestInsertSeconds.startTimer({ topic: batch.topic });
      try {
        await this.options.inserts.store(batch);
        stop({ outcome: 'stored' });
        return;
      } catch (error) {
        batch.tainted = true;
        const refusal = refusalOf(error);
        stop({ outcome: refusal ? 'refused' : 'retry' });
        if (refusal && (await judge.takeOutBad(refusal))) continue;
        await this.waitForClickHouse(batch, backoff, error, refusal);
      }
    }
  }

  private waitForClickHouse(
    batch: Batch,
    backoff: Backoff,
    error: unknown,
    refusal: Refusal | undefined,
  ): Promise<void> {
    const { config, log } = this.options;
    const { token } = batch;
    // The message may quote rows: it belongs into the log, not into what a readiness probe shows.
    const said = error instanceof ClickHouseError ? `${error.type} (${error.code})` : String(error);
    if (refusal === undefined) {
      log.warn(
        { err: error, token, url: config.CLICKHOUSE_URL },
        'ClickHouse did not take a batch; trying again',
      );
      return this.wait(batch, backoff, 'clickhouse', `ClickHouse did not take them: ${said}`);
    }
    const row = batch.liveRowNumbers()[refusal.row - 1];
    const offset = row === undefined ? undefined : batch.offsetOf(row);
    log.error(
      { token, offset, reason: refusal.reason },
      'the table refuses a valid row: is it as the migrations created it? Waiting, and nothing is dead-lettered',
    );
    return this.wait(batch, backoff, 'refused_rows', `the table refuses valid rows: ${said}`);
  }

  private async sendPoison(batch: Batch): Promise<void> {
    const { config, producer, log } = this.options;
    const backoff = new Backoff(config.INGEST_RETRY_BASE_MS, config.INGEST_RETRY_CAP_MS);
    while (batch.poison.length > 0) {
      const due = batch.poison.slice(0, config.KAFKA_PRODUCER_BATCH_MESSAGES);
      const results = await Promise.allSettled(
        due.map(({ message, code, reason }) => sendDeadLetter(producer, config, message, code, reason)),
      );
      batch.forget(new Set(due.filter((_, i) => results[i]!.status === 'fulfilled')));
      const failure = results.find((result) => result.status === 'rejected');
      if (failure === undefined) continue;
      log.warn(
        { err: failure.reason as Error },
        'the dead letter queue did not take a message; trying again',
      );
      const said = (failure.reason as Error).message;
      await this.wait(
        batch,
        backoff,
        'dead_letter_queue',
        `the dead letter queue did not take them: ${said}`,
      );
    }
  }

  private async wait(batch: Batch, backoff: Backoff, reason: string, said: string): Promise<void> {
    metrics.ingestRetries.inc({ topic: batch.topic, reason });
    this.waiting.set(batch, said);
    const { stopping } = this.options;
    if (stopping.aborted || batch.abandoned) throw new Abandoned(reason);
    await backoff.pause(stopping);
    if (stopping.aborted || batch.abandoned) throw new Abandoned(reason);
  }
}
