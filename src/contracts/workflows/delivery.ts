/** The workflow of a delivery. */

/** A delivery row that a state change wrote in its own transaction, to be carried out by a delivery workflow. */
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
  /** Attempts of former generations: attempts count on, the schedule begins anew. */
  attemptsBefore?: number;
  /** Attempts of this generation that were made before the workflow was there; none when left out. */
  attemptsMade?: number;
  /** How long the subscriber asked to be left alone by the last of them, in milliseconds. */
  retryAfterMs?: number;
  correlationId: string;
}

export interface DeliveryState {
  status: 'waiting' | 'attempting' | 'delivered' | 'exhausted' | 'cancelled' | 'held';
  /** Of all generations. */
  attempts: number;
  maxAttempts: number;
  nextAttemptAt: string | null;
  lastResult: string | null;
}
