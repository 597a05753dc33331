import { Readable } from 'node:stream';
import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import type { Batch } from './batch';
import { insertStatement, trialStatement, type IngestTable } from './tables';

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

/** The rows of batches, on their way into ClickHouse. All methods throw what the client throws. */
export class BatchInserts {
  private checking: Promise<void> | undefined;

  constructor(
    private readonly clickhouse: Pick<ClickHouseClient, 'exec'>,
    private readonly table: IngestTable,
  ) {}

  /** Stores the rows under the batch's token: the same batch again stores nothing twice, whatever became of the first. */
  store(batch: Batch): Promise<void> {
    const statement = insertStatement(this.table, batch.topic);
    return this.insert(statement, batch.body(), { insert_deduplication_token: batch.token });
  }

  /** Has ClickHouse read the rows as what migrations make of the columns, without the table and what hangs on it. */
  tryWithoutTable(batch: Batch): Promise<void> {
    return this.insert(trialStatement(this.table, batch.topic), batch.body());
  }

  /**
   * Inserts nothing: rejects when ClickHouse is away, refuses the login or the right to insert, or the table or one of
   * its columns is missing. Probes that come meanwhile share one question.
   */
  check(topic: string): Promise<void> {
    return (this.checking ??= this.insert(insertStatement(this.table, topic), []).finally(
      () => (this.checking = undefined),
    ));
  }

  private async insert(query: string, body: Buffer[], settings: ClickHouseSettings = {}): Promise<void> {
    const result = await this.clickhouse.exec({
      query,
      values: Readable.from(body, { objectMode: false }),
      clickhouse_settings: { ...INSERT_SETTINGS, ...settings },
    });
    // An unread answer would keep its connection.
    for await (const _ of result.stream);
  }
}
