/** The workflows that schedules start. */

/** What the scheduled reconciliation found, by check. */
export interface ReconciliationSummary {
  clean: boolean;
  found: Record<string, number>;
}

/** One step of expiring overdue payments, then orders. */
export interface ExpiryStep {
  expired: number;
  /** To be saved; null when nothing was left. */
  position: { job: string; at: string; id: string } | null;
}

/** Also where a run resumes that was continued as new. */
export interface ExpiryResult {
  expired: number;
  purgedKeys: number;
}

/** Where a recovery run continues that took over from another. */
export interface RecoveryInput {
  /** Replays that were started. */
  started: number;
  /** The last replay that was looked at. */
  after: { at: string; id: string } | null;
  /** All of them were: what is left is deliveries and lanes. */
  replaysDone?: boolean;
}

/** Where a retention run continues that took over from another. */
export interface RetentionInput {
  at: string;
  after: string;
  purged: number;
}

export interface RetentionResult {
  /** Events that were deleted, with their deliveries and attempts. */
  purged: number;
}
