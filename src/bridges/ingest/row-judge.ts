import type { Logger } from '../../platform/logging';
import { PoisonMessage } from '../message';
import type { Batch } from './batch';
import type { BatchInserts } from './inserts';
import { refusalOf, type Refusal } from './refusal';
import type { RowFormat } from './row-format';

/** So many rows of one batch at most are dead letters for what ClickHouse says; when there are more, it waits. */
const REFUSED_ROWS_MAX = 100;

export interface JudgeOptions {
  inserts: BatchInserts;
  /** What the rows of the batch were made with. */
  format: RowFormat;
  /** What every message has to hold to. */
  strictFormat: RowFormat;
  log: Logger;
}

/**
 * Decides what becomes of a row that ClickHouse refuses. Only what is wrong by itself is taken out of the batch: what
 * breaks the schema, or (should the schema and ClickHouse ever disagree) what ClickHouse can't read as columns of the
 * types that migrations make. Everything else is the table's fault, and the batch waits until that is fixed.
 */
export class RowJudge {
  private rechecked = false;
  private takenOut = 0;

  constructor(
    private readonly options: JudgeOptions,
    private readonly batch: Batch,
  ) {}

  /** @returns whether rows were taken out, so that the rest is worth another try at once. */
  async takeOutBad(refusal: Refusal): Promise<boolean> {
    return this.recheck() || (await this.tryAlone(refusal));
  }

  /**
   * A trusted producer was not right: everything in the batch that breaks the schema goes at once, not row after row,
   * and for a while every message is checked.
   */
  private recheck(): boolean {
    const { format, strictFormat } = this.options;
    if (format.distrust === undefined || this.rechecked) return false;
    this.rechecked = true;
    format.distrust();
    const bad: { row: number; error: PoisonMessage }[] = [];
    this.batch.eachValue((row, value) => {
      if (strictFormat.takesBytes(value)) return;
      try {
        strictFormat.rewrite(value);
      } catch (error) {
        if (!(error instanceof PoisonMessage)) throw error;
        bad.push({ row, error });
      }
    });
    for (const { row, error } of bad) this.batch.reject(row, error.code, error.message);
    return bad.length > 0;
  }

  /** Whether the same rows are refused also where no table is; then the one that is named goes. */
  private async tryAlone(refusal: Refusal): Promise<boolean> {
    const { inserts, log } = this.options;
    if (this.takenOut >= REFUSED_ROWS_MAX) return false;
    let refused: Refusal | undefined;
    try {
      await inserts.tryWithoutTable(this.batch);
    } catch (error) {
      refused = refusalOf(error);
      if (refused === undefined)
        log.warn({ err: error }, 'a refused row could not be tried without the table');
    }
    const row = refused && this.batch.liveRowNumbers()[refused.row - 1];
    if (row === undefined) return false;
    log.error(
      { refusal, offset: this.batch.offsetOf(row) },
      'ClickHouse can not read a row that passed the schema',
    );
    this.takenOut += 1;
    this.batch.reject(row, 'row_refused', refused!.reason);
    return true;
  }
}
