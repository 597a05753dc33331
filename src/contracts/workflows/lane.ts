/** The workflow of a subscription's lane. */

export interface LaneInput {
  subscriptionId: string;
}

/** What became of one time of sending what was due in a lane. */
export interface LaneStep {
  /** When to look again, in milliseconds; null when nothing waits. */
  waitMs: number | null;
  /** `work`: something is due. `time`: the next delivery's time. `rest`: nothing is sent to the subscriber. `places`: there was none. */
  waitsFor: 'work' | 'time' | 'rest' | 'places' | null;
  delivered: number;
  failed: number;
}

export interface LaneState {
  status: 'sending' | 'waiting';
  waitsFor: LaneStep['waitsFor'];
  nextLookAt: string | null;
  /** By this run of the workflow. */
  delivered: number;
  failed: number;
}
