/** The workflow of a replay. */

/** A replay as its workflow carries it on; what it replays is in its row. */
export interface ReplayInput {
  replayId: string;
  subscriptionId: string;
  ratePerSecond: number;
  correlationId: string;
  /** Where it continues; left out at the start. */
  progress?: ReplayProgress;
}

export interface ReplayProgress {
  /** The last row that was looked at. */
  at: string;
  after: string;
  examined: number;
  replayed: number;
  paused: boolean;
}

export interface ReplayState extends ReplayProgress {
  status: 'running' | 'paused' | 'done' | 'cancelled' | 'stopped';
  reason: string | null;
}
