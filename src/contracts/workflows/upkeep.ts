import type { ToDeliver } from './delivery';

/** The workflows that schedules start. */

/** What the scheduled reconciliation found, by check. */
export interface ReconciliationSummary {
  clean: boolean;
  found: Record<string, number>;
}

/** One step of the sweeps over overdue payments, then orders. */
export interface HousekeepingStep extends ToDeliver {
  expired: number;
  /** To be saved when the deliveries are started; null when nothing was left. */
  position: { job: string; at: string; id: string } | null;
}

/** Also where a run goes on that was continued as new. */
export interface HousekeepingResult {
  expired: number;
  purgedKeys: number;
}

/** Where a run of the sweep over replays goes on that continues another. */
export interface ReplaySweepInput {
  /** Replays that were started. */
  started: number;
  /** The last replay that was looked at. */
  after: { at: string; id: string } | null;
  /** All of them were: what is left is deliveries and lanes. */
  replaysDone?: boolean;
}

/** A run of the end by age, and where it goes on when it continues another. */
export interface RetentionInput {
  at: string;
  after: string;
  purged: number;
}

export interface RetentionResult {
  /** Events that were deleted, with their deliveries and attempts. */
  purged: number;
}
