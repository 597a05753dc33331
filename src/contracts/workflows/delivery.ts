/** The workflow of a delivery. */

/** A delivery row, to be carried out by a delivery workflow. */
export interface DeliveryRef {
  deliveryId: string;
  eventId: string;
  subscriptionId: string;
  eventType: string;
  /** Delay before each attempt, in milliseconds, without jitter; its length is the number of attempts. */
  scheduleMs: number[];
  /** Longest attempt, in milliseconds. */
  timeoutMs: number;
  /** Deliver in the order of the events: the subscription or the event type asks for it. Left out when it does not. */
  ordered?: boolean;
  /** How often it was sent again after it had ended; none when left out. */
  generation?: number;
  /** Attempts of former generations: attempts count on, the schedule starts again. */
  attemptsBefore?: number;
  /** Attempts of this generation that were made before the workflow was there; none when left out. */
  attemptsMade?: number;
  /** Until the next attempt, in milliseconds: the rest of a pause that has begun. The schedule's when left out. */
  waitMs?: number;
  correlationId: string;
}

export interface DeliveryState {
  /** `in_lane`: it waits for its subscription, whose lane attempts it. */
  status: 'waiting' | 'attempting' | 'delivered' | 'exhausted' | 'cancelled' | 'held' | 'in_lane';
  /** Of all generations. */
  attempts: number;
  maxAttempts: number;
  nextAttemptAt: string | null;
  lastResult: string | null;
}
