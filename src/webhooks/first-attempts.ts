import type { DeliveryRef } from '../contracts/workflows';
import type { PendingDelivery } from '../domain/deliveries';
import { parkDeliveries, wakeSleepingLanes } from '../domain/lanes';
import type { DeliveryRow } from '../domain/deliveries';
import { Coalescer } from '../platform/coalescer';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { isDatabaseUnavailable } from '../platform/postgres-errors';
import type { MadeAttempt } from './attempt';
import { gateKeys } from './attempt-gate';
import type { Attempts } from './attempts';

/**
 * First attempts, in bulk. Most deliveries succeed at once, and what is delivered is done: no workflow, one row for the
 * delivery and one for the attempt. What failed gets its delivery workflow, which goes on where this ended (docs/adr/0023);
 * what has to wait for its subscription (order, rate, a subscriber that rests, no place in time) waits in its lane
 * (docs/adr/0024).
 */

/** A first attempt that would take longer is made by the delivery's workflow: nothing here waits longer for a subscriber. */
const TIMEOUT_MAX_MS = 15_000;
/** How long a delivery waits for a place before its lane does. */
const PLACE_WAIT_MS = 2_000;
/** One that was read longer ago, as it waited for its place, may have been cancelled since: it is asked for once more. */
const FRESH_MS = 10;
/** Deliveries that one statement parks. Two calls at a time: while one waits for Temporal to wake lanes, the other writes. */
const PARK_BATCH = 500;
const PARK_CALLS = 2;

export interface FirstAttemptDeps {
  db: Pick<Database, 'pool'>;
  log: Logger;
  attempts: Attempts;
  /** Completes a delivery row with the retry policy that applies to it. */
  deliveryPolicy: (row: DeliveryRow, correlationId: string) => DeliveryRef;
  /** Resolves when the workflow of each lane is there and has been told to look. Idempotent. */
  wakeLanes: (subscriptionIds: readonly string[]) => Promise<void>;
}

interface Parked {
  deliveryId: string;
  subscriptionId: string;
  /** Null for one that is in its lane already. */
  at: Date | null;
}

export class FirstAttempts {
  private readonly parking: Coalescer<Parked, void>;

  constructor(private readonly deps: FirstAttemptDeps) {
    this.parking = new Coalescer({
      maxItems: PARK_BATCH,
      maxCalls: PARK_CALLS,
      mayBeOneItems: (error) => !isDatabaseUnavailable(error),
      run: (parked) => this.parkAll(parked),
    });
  }

  /**
   * Attempts deliveries side by side. At least once: between sending and storing, a crash sends again. Those that have to
   * wait are in their lanes when this resolves, and the lanes know.
   * @returns what needs a delivery workflow.
   * @throws when what was met could not be stored, or a lane not be woken.
   */
  async make(
    pending: readonly PendingDelivery[],
    correlationOf: (deliveryId: string) => string,
  ): Promise<DeliveryRef[]> {
    // All to their ends, also when one fails: whoever tries again must not find others still under way.
    const left = await Promise.allSettled(
      pending.map((each) => this.one(each, correlationOf(each.delivery.id))),
    );
    return left.flatMap((each) => {
      if (each.status === 'rejected') throw each.reason;
      return each.value;
    });
  }

  private async one(pending: PendingDelivery, correlationId: string): Promise<DeliveryRef[]> {
    const { delivery, row } = pending;
    const { id: deliveryId, subscriptionId, attemptsBefore } = delivery;
    const ref = this.deps.deliveryPolicy(row, correlationId);
    const made = delivery.attempts - attemptsBefore;
    if (delivery.inLane) return this.park({ deliveryId, subscriptionId, at: null });
    if (made > 0) {
      const waitMs = Math.max(0, (delivery.nextAttemptAt?.getTime() ?? 0) - Date.now());
      return [{ ...ref, attemptsMade: made, waitMs }];
    }
    if (ref.timeoutMs > TIMEOUT_MAX_MS || (ref.scheduleMs[0] ?? 0) > 0) return [ref];
    if (!mayGoAtOnce(pending)) return this.park({ deliveryId, subscriptionId, at: new Date() });
    const askedAt = performance.now();
    const place = await this.deps.attempts.gate.enterSoon(gateKeys(delivery), PLACE_WAIT_MS);
    if (place === undefined) {
      metrics.deliveriesPutOff.inc({ reason: 'places' });
      return this.park({ deliveryId, subscriptionId, at: new Date() });
    }
    // What has changed is for its lane to see, and one that has ended is in none.
    if (performance.now() - askedAt > FRESH_MS && !(await this.deps.attempts.claim(delivery, place)))
      return this.park({ deliveryId, subscriptionId, at: new Date() });
    let attempt: MadeAttempt | undefined;
    try {
      const plan = {
        deliveryId,
        attempt: delivery.attempts + 1,
        maxAttempts: attemptsBefore + ref.scheduleMs.length,
        timeoutMs: ref.timeoutMs,
        correlationId,
        pauseMs: ref.scheduleMs[1] ?? 0,
      };
      attempt = await this.deps.attempts.make(plan, delivery, new Date());
    } catch (error) {
      // No sockets, or a key that is missing: its workflow waits that out where an operator sees it.
      this.deps.log.warn({ err: error, deliveryId: delivery.id, correlationId }, 'no attempt could be made');
      return [ref];
    } finally {
      place.leave(attempt?.durationMs);
    }
    return this.store(attempt, ref);
  }

  private async store(attempt: MadeAttempt, ref: DeliveryRef): Promise<DeliveryRef[]> {
    const recorded = await this.deps.attempts.store(attempt);
    if (recorded === 'repeated') return [ref];
    if (recorded === 'overtaken') return [];
    if (attempt.status === 'delivered' || attempt.status === 'held') return [];
    // Given up after the first: its workflow finds that out at once, and writes the dead letter.
    if (attempt.status !== 'pending') return [ref];
    return [{ ...ref, attemptsMade: 1, waitMs: attempt.waitMs }];
  }

  private async park(parked: Parked): Promise<[]> {
    await this.parking.add(parked);
    return [];
  }

  private async parkAll(parked: readonly Parked[]): Promise<void[]> {
    const { db, wakeLanes } = this.deps;
    const fresh = parked.flatMap(({ deliveryId, at }) => (at === null ? [] : [{ deliveryId, at }]));
    if (fresh.length > 0) await parkDeliveries(db, fresh);
    await wakeSleepingLanes(
      db,
      wakeLanes,
      parked.map(({ subscriptionId }) => subscriptionId),
    );
    return parked.map(() => undefined);
  }
}

/** Whether nothing asks the delivery to wait for its subscription. */
function mayGoAtOnce({ delivery }: PendingDelivery): boolean {
  const { subscriptionState: state, throttleLevel, keepsLane } = delivery;
  return (state === 'active' || state === 'failing') && throttleLevel === 0 && !keepsLane;
}
