/** The workflow of a replay. */

/** A replay as its workflow carries it on; what it replays is in its row. */
export interface ReplayInput {
  replayId: string;
  /** Null for a retry of all of a tenant's. */
  subscriptionId: string | null;
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
  /** When the next slice begins (ISO 8601); none at the start. */
  nextAt?: string;
  /** It has cancelled deliveries, whose workflows are told of it in the end; behind which of them it has come in that. */
  cancels?: true;
  told?: { at: string; after: string };
}

/** Before the first row. */
export const REPLAY_START: ReplayProgress = {
  at: '1970-01-01T00:00:00Z',
  after: '',
  examined: 0,
  replayed: 0,
  paused: false,
};

export interface ReplayState extends ReplayProgress {
  status: 'running' | 'paused' | 'done' | 'cancelled' | 'stopped';
  reason: string | null;
}
