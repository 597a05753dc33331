import { Readable } from 'node:stream';
import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import type { Config } from '../../platform/config';
import type { MessageProducer } from '../../platform/kafka';
import type { Logger } from '../../platform/logging';
import { metrics } from '../../platform/metrics';
import { sendDeadLetter } from '../dead-letters';
import { PoisonMessage } from '../message';
import { Backoff } from './backoff';
import type { Batch } from './batch';
import { refusalOf, type Refusal } from './refusal';
import type { RowFormat } from './row-format';

/** Up to this many rows one insert is one block, and one token names all of it (`max_insert_block_size`). */
const BLOCK_ROWS = 1_048_449;

/**
 * Every setting that the guarantees stand on is said, whatever the server's or the user's profile says.
 * `optimize_on_insert` off: a row is stored for every message, and only FINAL or a merge makes one of repeated events.
 */
const INSERT_SETTINGS: ClickHouseSettings = {
  async_insert: 0,
  wait_end_of_query: 1,
  insert_deduplicate: 1,
  deduplicate_blocks_in_dependent_materialized_views: 1,
  optimize_on_insert: 0,
  max_insert_block_size: String(BLOCK_ROWS),
  min_insert_block_size_rows: String(BLOCK_ROWS),
  min_insert_block_size_bytes: '0',
  max_partitions_per_insert_block: '0',
  // Writers run side by side already, and a row's number is then the row's number.
  input_format_parallel_parsing: 0,
  input_format_skip_unknown_fields: 0,
  input_format_null_as_default: 0,
  input_format_json_read_numbers_as_strings: 0,
  input_format_json_read_bools_as_numbers: 0,
  input_format_json_read_bools_as_strings: 0,
  input_format_allow_errors_num: '0',
  input_format_allow_errors_ratio: 0,
  date_time_input_format: 'best_effort',
};

/** Thrown when a batch was given up because its partition moved or the process stops. It will be read again. */
export class Abandoned extends Error {}

export interface BatchWriterOptions {
  clickhouse: Pick<ClickHouseClient, 'exec'>;
  producer: Pick<MessageProducer, 'send'>;
  config: Config;
  log: Logger;
  table: string;
  /** What the rows of the batch were made with. */
  format: RowFormat;
  /** What every message has to hold to; asked when ClickHouse refuses a row that `format` did not look into. */
  strictFormat: RowFormat;
  /** Given when the process stops: what can't be stored at the next try is given up. */
  stopping: AbortSignal;
}

/** Makes batches durable: every message of a batch ends as a row in ClickHouse or as a dead letter. */
export class BatchWriter {
  constructor(private readonly options: BatchWriterOptions) {}

  /**
   * Resolves when each message of the batch is stored or dead-lettered. May be called again for the same offsets,
   * by this or another process, and then stores nothing twice; dead letters may be repeated.
   * @throws Abandoned only.
   */
  async store(batch: Batch): Promise<void> {
    await Promise.all([this.storeRows(batch), this.sendPoison(batch)]);
    // Rows that ClickHouse refused meanwhile.
    await this.sendPoison(batch);
  }

  private async storeRows(batch: Batch): Promise<void> {
    const { config, log } = this.options;
    const backoff = new Backoff(config.INGEST_RETRY_BASE_MS, config.INGEST_RETRY_CAP_MS);
    let refused = 0;
    for (;;) {
      if (batch.liveRows === 0) return;
      const refusal = await this.insertUntilAnswered(batch, backoff);
      if (refusal === undefined) return;
      refused += 1;
      if (refused > config.INGEST_REFUSED_ROWS_MAX) {
        log.error(
          { token: batch.token, refused, reason: refusal.reason },
          'ClickHouse refuses row after row of this batch: is the table as migrations made it? Waiting',
        );
        await this.wait(batch, backoff, 'refused_rows');
      } else if (refused === 1 && this.recheck(batch)) continue;
      else if (!this.rejectNamed(batch, refusal))
        return this.storeHalves(batch, 0, batch.rows, refusal, backoff);
    }
  }

  /**
   * A trusted producer was not right: everything in the batch that breaks the schema goes at once, not row after row,
   * and for a while every message is checked.
   */
  private recheck(batch: Batch): boolean {
    const { format, strictFormat } = this.options;
    if (format.distrust === undefined) return false;
    format.distrust();
    const bad: { row: number; error: PoisonMessage }[] = [];
    batch.eachValue((row, value) => {
      if (strictFormat.takesBytes(value)) return;
      try {
        strictFormat.rewrite(value);
      } catch (error) {
        if (!(error instanceof PoisonMessage)) throw error;
        bad.push({ row, error });
      }
    });
    for (const { row, error } of bad) batch.reject(row, error.code, error.message);
    return bad.length > 0;
  }

  private rejectNamed(batch: Batch, { row, reason }: Refusal): boolean {
    if (row === undefined) return false;
    const number = batch.liveRowNumbers()[row - 1];
    if (number === undefined) return false;
    batch.reject(number, 'row_refused', reason);
    return true;
  }

  /**
   * The error names no row: halves of the rows are stored on their own until the bad one is alone. Halves are cut by
   * the offsets of the batch alone, and have tokens of their own, so that a repetition after a crash repeats them.
   */
  private async storeHalves(
    batch: Batch,
    from: number,
    to: number,
    refusal: Refusal,
    backoff: Backoff,
  ): Promise<void> {
    if (to - from === 1) return batch.reject(from, 'row_refused', refusal.reason);
    const middle = from + Math.ceil((to - from) / 2);
    for (const [start, end] of [
      [from, middle],
      [middle, to],
    ] as const) {
      const again = await this.insertUntilAnswered(batch, backoff, start, end);
      if (again !== undefined) await this.storeHalves(batch, start, end, again, backoff);
    }
  }

  /** Undefined when the rows are stored; what ClickHouse has against them when it refuses them. Waits out all else. */
  private async insertUntilAnswered(
    batch: Batch,
    backoff: Backoff,
    from = 0,
    to = batch.rows,
  ): Promise<Refusal | undefined> {
    const { config, log } = this.options;
    for (;;) {
      const body = batch.body(from, to);
      if (body.length === 0) return undefined;
      const whole = from === 0 && to === batch.rows;
      const token = whole ? batch.token : `${batch.token}/${batch.offsetOf(from)}-${batch.offsetOf(to - 1)}`;
      const stop = metrics.ingestInsertSeconds.startTimer({ topic: batch.topic });
      try {
        await this.insert(body, token);
        stop({ outcome: 'stored' });
        backoff.reset();
        return undefined;
      } catch (error) {
        batch.tainted = true;
        const refusal = refusalOf(error);
        stop({ outcome: refusal ? 'refused' : 'retry' });
        if (refusal) return refusal;
        log.warn(
          { err: error, token, url: config.CLICKHOUSE_URL },
          'ClickHouse did not take a batch; trying again',
        );
        await this.wait(batch, backoff, 'clickhouse');
      }
    }
  }

  private async insert(body: Buffer[], token: string): Promise<void> {
    const result = await this.options.clickhouse.exec({
      query: `INSERT INTO ${this.options.table} FORMAT JSONEachRow`,
      values: Readable.from(body, { objectMode: false }),
      clickhouse_settings: { ...INSERT_SETTINGS, insert_deduplication_token: token },
    });
    // An unread answer would keep its connection.
    for await (const _ of result.stream);
  }

  private async sendPoison(batch: Batch): Promise<void> {
    const { config, producer, log } = this.options;
    const backoff = new Backoff(config.INGEST_RETRY_BASE_MS, config.INGEST_RETRY_CAP_MS);
    while (batch.poison.length > 0) {
      const due = batch.poison.slice(0, config.KAFKA_PRODUCER_BATCH_MESSAGES);
      const results = await Promise.allSettled(
        due.map(({ message, code, reason }) => sendDeadLetter(producer, config, message, code, reason)),
      );
      const sent = new Set(due.filter((_, i) => results[i]!.status === 'fulfilled'));
      const left = batch.poison.filter((poison) => !sent.has(poison));
      batch.poison.splice(0, batch.poison.length, ...left);
      const failure = results.find((result) => result.status === 'rejected');
      if (failure === undefined) continue;
      log.warn(
        { err: failure.reason as Error },
        'the dead letter queue did not take a message; trying again',
      );
      await this.wait(batch, backoff, 'dead_letter_queue');
    }
  }

  private async wait(batch: Batch, backoff: Backoff, reason: string): Promise<void> {
    metrics.ingestRetries.inc({ topic: batch.topic, reason });
    const { stopping } = this.options;
    if (stopping.aborted || batch.abandoned) throw new Abandoned(reason);
    await backoff.pause(stopping);
    if (stopping.aborted || batch.abandoned) throw new Abandoned(reason);
  }
}
