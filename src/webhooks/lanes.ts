import { setTimeout as sleep } from 'node:timers/promises';
import type { DeliveryRef, LaneStep } from '../contracts/workflows';
import { endWithoutEvents } from '../domain/delivery-ends';
import { loadPending, type DeliveryRow, type PendingDelivery } from '../domain/pending-deliveries';
import { holdLane, laneIsAwake, leaveLane, lookIntoLane, sleepLane, type LaneLook } from '../domain/lanes';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import type { MadeAttempt } from './attempt';
import { gateKeys, type Place } from './attempt-gate';
import type { Attempts } from './attempts';
import { Pacer } from './pacer';

/** Deliveries that are taken out of the rows at a time: a crash repeats no more than these. */
const BATCH = 100;
/** Sent side by side, to one subscription whose deliveries have no order; its places may be fewer. */
const SIDE_BY_SIDE = 16;
/** One call is over after this long, when there is more to do: the workflow calls again. */
const LONGEST_MS = 20_000;
/** What is due within this time is waited for here: a timer of the workflow would cost more. */
const WAIT_HERE_MS = 500;
/** While something is under way, new work is looked for this often. */
const POLL_MS = 250;
/** A lane that has run empty is looked into for so long, so often: a stream of events costs no workflow for each. */
const LINGER_MS = 500;
const LINGER_POLL_MS = 100;
/** Others learn this often that the lane is being worked on. */
const AWAKE_EVERY_MS = 5_000;
/** How long a delivery waits for a place. */
const PLACE_WAIT_MS = 2_000;
/** Rows that are held at a time. */
const HELD_AT_A_TIME = 1_000;

export interface LanesDeps {
  db: Pick<Database, 'pool'>;
  keyring: Keyring;
  log: Logger;
  attempts: Attempts;
  /** Completes a delivery row with the retry policy that applies to it. */
  deliveryPolicy: (row: DeliveryRow, correlationId: string) => DeliveryRef;
  /** Resolves when the workflow of each delivery is there. Idempotent. */
  startDeliveries: (deliveries: readonly DeliveryRef[]) => Promise<void>;
  /** Puts an exhausted delivery on the DLQ. */
  deadLetter: (input: { deliveryId: string; correlationId: string }) => Promise<void>;
}

/**
 * Sends what is due in a subscription's lane, in order and within its rate. The rows are the truth: what was taken and not
 * recorded when a worker was killed is due still. One at a time for each subscription: its workflow ensures that.
 */
export async function sendLane(
  deps: LanesDeps,
  subscriptionId: string,
  signal: AbortSignal = new AbortController().signal,
): Promise<LaneStep> {
  return new LaneSender(deps, subscriptionId, signal).send();
}

class LaneSender {
  private readonly until = performance.now() + LONGEST_MS;
  /** Under way, by key. */
  private readonly running = new Map<string, Promise<void>>();
  private readonly underWay = new Set<string>();
  private pacer: Pacer | undefined;
  private toldAt = -Infinity;
  /** When there was something to do last. */
  private busyAt = -Infinity;
  private failure: { error: unknown } | undefined;
  private withoutPlace = false;
  private delivered = 0;
  private failed = 0;

  constructor(
    private readonly deps: LanesDeps,
    private readonly subscriptionId: string,
    private readonly signal: AbortSignal,
  ) {}

  async send(): Promise<LaneStep> {
    const { db } = this.deps;
    try {
      while (this.goesOn()) {
        await this.tellAwake();
        const skip = [...this.underWay];
        const look = await lookIntoLane(db, { subscriptionId: this.subscriptionId, skip, limit: BATCH });
        await this.tidy(look);
        const begun = await this.begin(look);
        if (this.running.size > 0) {
          await this.someDone(begun);
          if (this.withoutPlace) await sleep(POLL_MS);
        } else if (this.withoutPlace) break;
        else if (!begun) {
          if (look.due.length > 0) continue;
          const nextMs = look.nextMs ?? Infinity;
          const lingers = performance.now() - this.busyAt < LINGER_MS || (this.pacer?.freeInMs() ?? 0) > 0;
          if (nextMs > WAIT_HERE_MS && (!lingers || look.resting)) break;
          await sleep(Math.min(Math.max(nextMs, 1), LINGER_POLL_MS));
        }
      }
    } finally {
      await Promise.allSettled(this.running.values());
    }
    // Whoever sends next does not know what was sent here, so the second is waited for.
    if (this.pacer) await sleep(this.pacer.freeInMs());
    if (this.failure) throw this.failure.error;
    return this.end();
  }

  private async tellAwake(): Promise<void> {
    if (performance.now() - this.toldAt < AWAKE_EVERY_MS) return;
    await laneIsAwake(this.deps.db, this.subscriptionId);
    this.toldAt = performance.now();
  }

  private goesOn(): boolean {
    return !this.signal.aborted && this.failure === undefined && performance.now() < this.until;
  }

  private async end(): Promise<LaneStep> {
    const { delivered, failed } = this;
    const { todo, nextMs, resting } = await sleepLane(this.deps.db, this.subscriptionId);
    if (todo && this.withoutPlace) return { waitMs: 1_000, waitsFor: 'places', delivered, failed };
    if (todo) return { waitMs: 0, waitsFor: 'work', delivered, failed };
    const waitsFor = nextMs === null ? null : resting ? 'rest' : 'time';
    return { waitMs: nextMs, waitsFor, delivered, failed };
  }

  /** Handles what is in the lane and is not to be sent. */
  private async tidy(look: LaneLook): Promise<void> {
    const { db } = this.deps;
    if (look.state !== 'active' && look.state !== 'failing') {
      const held = () =>
        holdLane(db, this.subscriptionId, { skip: [...this.underWay], limit: HELD_AT_A_TIME });
      while ((await held()) === HELD_AT_A_TIME);
      look.due = [];
    }
    if (look.over.length > 0) {
      const over = await loadPending(db, this.deps.keyring, look.over);
      await this.handOver(over.map((each) => this.refOf(each, waitOf(each))));
    }
    for (const deliveryId of look.ended) {
      await this.deps.deadLetter({ deliveryId, correlationId: deliveryId });
      await leaveLane(db, [deliveryId]);
    }
  }

  /** Failed and kept here by nothing: the next attempt is their workflows'. In this order, so that a crash loses none. */
  private async handOver(refs: readonly DeliveryRef[]): Promise<void> {
    await this.deps.startDeliveries(refs);
    await leaveLane(
      this.deps.db,
      refs.map(({ deliveryId }) => deliveryId),
    );
  }

  /** @returns whether anything was begun. */
  private async begin(look: LaneLook): Promise<boolean> {
    const { ratePerSecond: rate } = look;
    if (rate !== (this.pacer?.perSecond ?? null))
      this.pacer = rate === null ? undefined : new Pacer(rate, this.pacer);
    // No more than will be sent soon: a rate that is changed holds for what waits.
    if (rate !== null && this.pacer!.waiting > 0) return false;
    const due = rate === null ? look.due : look.due.slice(0, Math.ceil(rate * (WAIT_HERE_MS / 1_000)));
    // Where there was no place, one asks for the others.
    const crowded = this.withoutPlace;
    const most = look.throttled ? 1 : crowded ? this.running.size + 1 : SIDE_BY_SIDE;
    const room = most - this.running.size;
    const queues = new Map<string, string[]>();
    let next = 0;
    for (const { id, key } of due) {
      if (this.running.has(key) || this.underWay.has(id)) continue;
      if (key !== id) {
        if (queues.has(key)) queues.get(key)!.push(id);
        else if (queues.size < room) queues.set(key, [id]);
      } else if (queues.size < room) queues.set(key, [id]);
      // What has no order and finds no room of its own is sent behind others that have none.
      else if (!look.throttled && !crowded && room > 0) {
        const loose = [...queues.values()].filter(([first]) => queues.has(first!));
        if (loose.length > 0) loose[next++ % loose.length]!.push(id);
      }
    }
    if (queues.size === 0) return false;
    this.withoutPlace = false;
    const ids = [...queues.values()].flat();
    const loaded = await loadPending(this.deps.db, this.deps.keyring, ids);
    const byId = new Map(loaded.map((each) => [each.delivery.id, each]));
    // They ended meanwhile, or their events are no longer kept.
    if (byId.size < ids.length)
      await endWithoutEvents(
        this.deps.db,
        ids.filter((id) => !byId.has(id)),
      );
    this.busyAt = performance.now();
    for (const [key, queue] of queues) {
      const items = queue.flatMap((id) => byId.get(id) ?? []);
      // Those that have an order end with the first that is not through; so does a probe.
      const inOrder = !queues.has(queue[0]!) || look.throttled;
      const run = this.run(items, inOrder)
        .catch((error: unknown) => void (this.failure ??= { error }))
        .finally(() => {
          this.running.delete(key);
          for (const { delivery } of items) this.underWay.delete(delivery.id);
        });
      for (const { delivery } of items) this.underWay.add(delivery.id);
      this.running.set(key, run);
    }
    return true;
  }

  /** Until half of what was begun is through, so that the next look finds room; not for long. */
  private async someDone(begun: boolean): Promise<void> {
    const enough = begun ? Math.floor(this.running.size / 2) : this.running.size - 1;
    const until = performance.now() + POLL_MS;
    while (this.running.size > enough && performance.now() < until && this.failure === undefined)
      await Promise.race([...this.running.values(), sleep(Math.max(1, until - performance.now()))]);
  }

  private async run(items: readonly PendingDelivery[], inOrder: boolean): Promise<void> {
    const stored: Promise<void>[] = [];
    try {
      for (const item of items) {
        if (!this.goesOn()) return;
        const made = await this.attempt(item);
        if (made === undefined) return;
        const storing = this.store(item, made);
        // What was delivered is stored while the next one is sent.
        if (made.status === 'delivered') {
          stored.push(storing);
          storing.catch((error: unknown) => void (this.failure ??= { error }));
          continue;
        }
        await storing;
        if (inOrder) return;
      }
    } finally {
      await Promise.all(stored);
    }
  }

  /** @returns undefined when it could not be made: no place, the time is over, or it has changed since it was taken. */
  private async attempt(item: PendingDelivery): Promise<MadeAttempt | undefined> {
    const { delivery } = item;
    const { gate } = this.deps.attempts;
    const enter = async (): Promise<Place | undefined> => {
      const place =
        delivery.throttleLevel > 0
          ? gate.enter(gateKeys(delivery), true)
          : await gate.enterSoon(gateKeys(delivery), PLACE_WAIT_MS);
      if (!place) {
        this.withoutPlace = true;
        metrics.deliveriesPutOff.inc({ reason: 'places' });
        return undefined;
      }
      // What was taken out of the rows has waited here: for those before it, for its turn in the rate, for a place.
      return (await this.deps.attempts.claim(delivery, place)) ? place : undefined;
    };
    const turn = this.pacer
      ? await this.pacer.turn(enter, () => this.goesOn())
      : await enter().then((place) => place && { value: place, ended: () => undefined });
    if (turn === undefined) return undefined;
    let durationMs: number | undefined;
    try {
      const made = await this.deps.attempts.make(this.planOf(item), delivery, new Date());
      durationMs = made.durationMs;
      return made;
    } finally {
      turn.ended();
      turn.value.leave(durationMs);
    }
  }

  private planOf(item: PendingDelivery) {
    const { delivery } = item;
    const { attemptsBefore } = delivery;
    const { scheduleMs, timeoutMs, correlationId } = this.refOf(item);
    const made = delivery.attempts - attemptsBefore;
    return {
      deliveryId: delivery.id,
      attempt: delivery.attempts + 1,
      maxAttempts: attemptsBefore + scheduleMs.length,
      timeoutMs,
      correlationId,
      pauseMs: scheduleMs[made + 1] ?? 0,
    };
  }

  private refOf({ delivery, row, correlationId }: PendingDelivery, waitMs?: number): DeliveryRef {
    const ref = this.deps.deliveryPolicy(row, correlationId ?? delivery.id);
    const attemptsMade = delivery.attempts - delivery.attemptsBefore;
    return waitMs === undefined ? ref : { ...ref, attemptsMade, waitMs };
  }

  private async store(item: PendingDelivery, made: MadeAttempt): Promise<void> {
    const recorded = await this.deps.attempts.store(made);
    if (made.status === 'delivered') this.delivered += 1;
    else this.failed += 1;
    const { deliveryId, correlationId } = made;
    if (recorded !== 'decides') return;
    if (made.status === 'exhausted') {
      await this.deps.deadLetter({ deliveryId, correlationId });
      await leaveLane(this.deps.db, [deliveryId]);
    } else if (made.status === 'pending' && !item.delivery.keepsLane) {
      const attemptsMade = made.attempt - item.delivery.attemptsBefore;
      await this.handOver([{ ...this.refOf(item), attemptsMade, waitMs: made.waitMs }]);
    }
  }
}

const waitOf = ({ delivery }: PendingDelivery): number =>
  Math.max(0, (delivery.nextAttemptAt?.getTime() ?? 0) - Date.now());
