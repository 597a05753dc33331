import { setTimeout as sleep } from 'node:timers/promises';
import { Semaphore } from 'async-mutex';
import type { DeliveryRef } from '../contracts/workflows';
import type { DeliveryRow, PendingDelivery } from '../domain/pending-deliveries';
import { parkDeliveries, wakeSleepingLanes } from '../domain/lanes';
import type { FanOutStep } from '../domain/fan-out';
import { Coalescer } from '../platform/coalescer';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import type { MadeAttempt } from './attempt';
import { gateKeys } from './attempt-gate';
import type { Attempts } from './attempts';
import { EventRows } from './first-rows';

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
const FRESH_MS = 50;
/**
 * The rows of an event are written this long after it was begun, whatever is still under way: until then nobody sees its
 * deliveries, or can cancel them, and deliveries in order that come after the event wait for it.
 */
const WRITE_AFTER_MS = 300;
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
  /** WRITE_AFTER_MS, where a test says so. */
  writeAfterMs?: number;
}

interface Parked {
  deliveryId: string;
  subscriptionId: string;
  /** Null for one that is in its lane already. */
  at: Date | null;
}

export class FirstAttempts {
  private readonly parking: Coalescer<Parked, void>;
  /** Of deliveries whose rows are not written yet, no more are begun than there are places; the others wait in Kafka. */
  private readonly begun: Semaphore;

  constructor(private readonly deps: FirstAttemptDeps) {
    this.begun = new Semaphore(deps.attempts.places);
    this.parking = new Coalescer({
      maxItems: PARK_BATCH,
      maxCalls: PARK_CALLS,
      run: (parked) => this.parkAll(parked),
    });
  }

  /**
   * Attempts what a step of an event's fan-out has to see to, side by side. At least once: between sending and storing, a
   * crash sends again. When this resolves, each delivery has its row; those that have to wait are in their lanes, and the
   * lanes know.
   * @param onWritten called as soon as only subscribers are waited for.
   * @returns what needs a delivery workflow.
   * @throws when what was met could not be stored, or a lane not be woken.
   */
  async makeStep(
    eventId: string,
    step: FanOutStep,
    { correlationId, onWritten }: { correlationId: string; onWritten?: (() => void) | undefined },
  ): Promise<DeliveryRef[]> {
    const { fresh, stored, next, handedOut } = step;
    const { attempts, writeAfterMs: afterMs = WRITE_AFTER_MS } = this.deps;
    const count = Math.min(Math.max(1, fresh.length + stored.length), attempts.places);
    const [, release] = await this.begun.acquire(count);
    const hasRows = handedOut || (fresh.length === 0 && next !== null);
    const rows = hasRows
      ? undefined
      : new EventRows((given) => attempts.storeFirst(given), {
          ...{ fresh, afterMs },
          handedOut: next === null ? eventId : null,
        });
    if (rows && attempts.cannotWrite) {
      // Else all would be sent again and again, for as long as the database can be read but not written.
      rows.writeNow();
      await rows.written.finally(release);
    }
    // All to their ends, also when one fails: those who try again must not find others still under way.
    const made = Promise.allSettled([
      ...stored.map((each) => this.one(each, step, correlationId, undefined)),
      ...fresh.map((each) => this.one(each, step, correlationId, rows)),
    ]);
    if (fresh.some(({ delivery }) => delivery.keepsLane)) rows?.writeNow();
    // Whoever hangs holds up nobody for longer than that.
    const written = rows?.written.catch(() => undefined) ?? sleep(afterMs, undefined, { ref: false });
    void Promise.race([made, written]).then(() => {
      release();
      onWritten?.();
    });
    const results = await made;
    // Nor must they find a write that is still to come.
    if (results.some(({ status }) => status === 'rejected')) {
      rows?.writeNow();
      await rows?.written.catch(() => undefined);
    }
    const left = results.flatMap((each) => {
      if (each.status === 'rejected') throw each.reason;
      return each.value;
    });
    await rows?.written;
    return left;
  }

  /** @param rows where the delivery gets its row; undefined when it has one. */
  private async one(
    pending: PendingDelivery,
    { readAt }: FanOutStep,
    correlationId: string,
    rows: EventRows | undefined,
  ): Promise<DeliveryRef[]> {
    const { delivery, row } = pending;
    const { id: deliveryId, subscriptionId, attemptsBefore } = delivery;
    const ref = this.deps.deliveryPolicy(row, correlationId);
    const made = delivery.attempts - attemptsBefore;
    if (delivery.inLane) return this.parkStored({ deliveryId, subscriptionId, at: null });
    if (made > 0) {
      const waitMs = Math.max(0, (delivery.nextAttemptAt?.getTime() ?? 0) - Date.now());
      return [{ ...ref, attemptsMade: made, waitMs }];
    }
    if (rows && delivery.keepsLane) return this.park(ref, rows, row.scheduleMs?.[0]);
    if (ref.timeoutMs > TIMEOUT_MAX_MS || (ref.scheduleMs[0] ?? 0) > 0) return this.leave(ref, rows);
    if (!mayGoAtOnce(pending)) return this.park(ref, rows);
    const place = await this.deps.attempts.gate.enterSoon(gateKeys(delivery), PLACE_WAIT_MS);
    if (place === undefined) {
      metrics.deliveriesPutOff.inc({ reason: 'places' });
      return this.park(ref, rows);
    }
    // What has changed is for its lane to see, and one that has ended is in none.
    if (performance.now() - readAt > FRESH_MS) {
      const asRead = { ...delivery, isStored: rows === undefined || rows.areStored };
      if (!(await this.deps.attempts.claim(asRead, place))) return this.park(ref, rows);
    }
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
      return this.leave(ref, rows);
    } finally {
      place.leave(attempt?.durationMs);
    }
    return this.store(attempt, ref, rows);
  }

  private async store(
    attempt: MadeAttempt,
    ref: DeliveryRef,
    rows: EventRows | undefined,
  ): Promise<DeliveryRef[]> {
    const { deliveryId } = ref;
    if (rows) {
      // What failed is recorded on its row, so that it is judged as every later attempt is.
      const written = await rows.write(deliveryId, attempt.status === 'delivered' ? { attempt } : {});
      if (written.id !== deliveryId) return [{ ...ref, deliveryId: written.id }];
      if (written.withAttempt) return [];
    }
    const recorded = await this.deps.attempts.store(attempt);
    if (recorded === 'repeated') return [ref];
    if (recorded === 'overtaken') return [];
    if (attempt.status === 'delivered' || attempt.status === 'held') return [];
    // Given up after the first: its workflow finds that out at once, and writes the dead letter.
    if (attempt.status !== 'pending') return [ref];
    return [{ ...ref, attemptsMade: 1, waitMs: attempt.waitMs }];
  }

  /** To its workflow, as a row that is pending. */
  private async leave(ref: DeliveryRef, rows: EventRows | undefined): Promise<DeliveryRef[]> {
    return [rows ? { ...ref, deliveryId: (await rows.write(ref.deliveryId, {})).id } : ref];
  }

  /** Into its lane, to be attempted from then on. */
  private async park(ref: DeliveryRef, rows: EventRows | undefined, laneAfterMs = 0): Promise<DeliveryRef[]> {
    const { deliveryId, subscriptionId } = ref;
    const at = new Date(Date.now() + laneAfterMs);
    if (!rows) return this.parkStored({ deliveryId, subscriptionId, at });
    const written = await rows.write(deliveryId, { laneAfterMs });
    // Its workflow finds out what there is to do for one that somebody else has written.
    if (written.id !== deliveryId) return [{ ...ref, deliveryId: written.id }];
    return this.parkStored({ deliveryId, subscriptionId, at: written.inLane ? null : at });
  }

  private async parkStored(parked: Parked): Promise<[]> {
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
