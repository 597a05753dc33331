import type { Config } from '../platform/config';

export type AttemptGateSettings = Pick<
  Config,
  'WEBHOOK_CONCURRENT_ATTEMPTS' | 'WEBHOOK_CONCURRENT_PER_SUBSCRIPTION' | 'WEBHOOK_SLOW_AFTER_MS'
>;

/** A place for one attempt; given back when it is over. */
export interface Place {
  /** @param durationMs how long the subscriber took, which tells slow ones from the others; undefined when not asked. */
  leave(durationMs: number | undefined): void;
}

/** The attempts in flight of one subscription, origin, or tenant at an origin. */
interface Bulkhead {
  inFlight: number;
  /** Its last attempt took long, so that each place it has is taken for long. */
  slow: boolean;
  /** Since when nothing has come to an end while attempts are in flight. */
  busySince: number;
}

interface Waiter {
  keys: readonly string[];
  admit(place: Place | undefined): void;
}

/** A subscriber from which nothing comes back for so long, with all its places taken, is not waited for. */
const STALLED_AFTER_MS = 250;
/** Subscriptions that are asked, when a place becomes free, whether it fits one of theirs. */
const SUBSCRIPTIONS_ASKED = 32;

/**
 * Keeps slow subscribers from taking all attempts that one worker makes at a time. A subscription has at most
 * WEBHOOK_CONCURRENT_PER_SUBSCRIPTION places; once it has been slow, an eighth of that; and all slow ones together at most
 * half of the worker's places, so that the other half is always there for those that answer. An origin has half of the
 * places whatever it does: one subscription that hangs does not make its neighbours on the same host wait, who may be
 * another tenant's; and of an origin's places one tenant has half, so that its subscriptions together do not either. Who is
 * refused comes again later and loses nothing.
 * Counts are of this process: with n workers, n times as much may be in flight.
 */
export class AttemptGate {
  private readonly bulkheads = new Map<string, Bulkhead>();
  private slowInFlight = 0;
  private readonly perSubscription: number;
  private readonly perSlowSubscription: number;
  private readonly slowTogether: number;
  private readonly perOrigin: number;
  private readonly perTenantAtOrigin: number;
  private inFlight = 0;
  /** Who waits for a place, by subscription; the one that was admitted last is asked last. */
  private readonly waiting = new Map<string, Waiter[]>();

  constructor(private readonly settings: AttemptGateSettings) {
    const all = settings.WEBHOOK_CONCURRENT_ATTEMPTS;
    this.perSubscription = Math.min(settings.WEBHOOK_CONCURRENT_PER_SUBSCRIPTION, all);
    this.perSlowSubscription = Math.max(1, Math.floor(this.perSubscription / 8));
    this.slowTogether = Math.max(1, Math.floor(all / 2));
    this.perOrigin = Math.max(this.perSubscription, Math.floor(all / 2));
    this.perTenantAtOrigin = Math.max(1, Math.floor(this.perOrigin / 2));
  }

  /**
   * A place as soon as there is one, at most one of all of the worker's at a time. Subscriptions that wait are served in
   * turn, whatever each of them has waiting.
   * @param keys as for `enter`.
   * @returns undefined when there is none in time, or the subscription is slow or stalled and has all it may have.
   */
  enterSoon(keys: readonly string[], maxWaitMs: number): Promise<Place | undefined> {
    const own = keys[0]!;
    if (!this.waiting.has(own)) {
      const place = this.enterWithinAll(keys);
      if (place || this.bulkheads.get(own)?.slow) return Promise.resolve(place);
    }
    if (this.isStalled(own)) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const waiter: Waiter = {
        keys,
        admit: (place) => {
          clearTimeout(timer);
          resolve(place);
        },
      };
      const until = performance.now() + maxWaitMs;
      const giveUp = () => {
        if (performance.now() < until && !this.isStalled(own)) {
          timer = setTimeout(giveUp, Math.min(STALLED_AFTER_MS, maxWaitMs));
          return;
        }
        this.withdraw(own, waiter);
        resolve(undefined);
      };
      let timer = setTimeout(giveUp, Math.min(STALLED_AFTER_MS, maxWaitMs));
      const queue = this.waiting.get(own);
      if (queue) queue.push(waiter);
      else this.waiting.set(own, [waiter]);
    });
  }

  /** All its places are taken, and for a while nothing has come back from it: it hangs, or is about to. */
  private isStalled(own: string): boolean {
    const bulkhead = this.bulkheads.get(own);
    return (
      bulkhead !== undefined &&
      bulkhead.inFlight >= this.perSubscription &&
      performance.now() - bulkhead.busySince >= STALLED_AFTER_MS
    );
  }

  private enterWithinAll(keys: readonly string[]): Place | undefined {
    return this.inFlight < this.settings.WEBHOOK_CONCURRENT_ATTEMPTS ? this.enter(keys, false) : undefined;
  }

  private withdraw(own: string, waiter: Waiter): void {
    const queue = this.waiting.get(own) ?? [];
    const left = queue.filter((each) => each !== waiter);
    if (left.length > 0) this.waiting.set(own, left);
    else this.waiting.delete(own);
  }

  /** Gives a place that became free to the next subscription that it fits. */
  private admitNext(): void {
    let asked = 0;
    for (const [own, queue] of this.waiting) {
      if (asked++ === SUBSCRIPTIONS_ASKED) return;
      const first = queue[0]!;
      const place = this.enterWithinAll(first.keys);
      // Behind the others in any case: those that nothing fits must not stand before those that something would.
      this.waiting.delete(own);
      if (place || this.bulkheads.get(own)?.slow) queue.shift();
      if (queue.length > 0) this.waiting.set(own, queue);
      if (queue[0] === first) continue;
      first.admit(place);
      if (place) return;
    }
  }

  /**
   * @param keys the subscription's own, its origin, and its tenant at that origin (see gateKeys).
   * @param probing the subscription is only now tried again after a bad time: one attempt of it at a time. Others that
   *   share its origin are not held up by that.
   * @returns undefined when one of the keys, or the slow ones together, have all their places taken.
   */
  enter(keys: readonly string[], probing: boolean): Place | undefined {
    const bulkheads = keys.map((key) => this.bulkhead(key));
    const slow = bulkheads[0]?.slow === true;
    const own = probing ? 1 : slow ? this.perSlowSubscription : this.perSubscription;
    const most = [own, this.perOrigin, this.perTenantAtOrigin];
    const full = bulkheads.some((bulkhead, index) => bulkhead.inFlight >= most[index]!);
    if (full || (slow && this.slowInFlight >= this.slowTogether)) {
      this.forget(keys);
      return undefined;
    }
    for (const bulkhead of bulkheads) {
      if (bulkhead.inFlight === 0) bulkhead.busySince = performance.now();
      bulkhead.inFlight++;
    }
    if (slow) this.slowInFlight++;
    this.inFlight++;
    let left = false;
    return {
      leave: (durationMs) => {
        if (left) return;
        left = true;
        if (slow) this.slowInFlight--;
        this.inFlight--;
        for (const bulkhead of bulkheads) {
          bulkhead.inFlight--;
          bulkhead.busySince = performance.now();
          if (durationMs === undefined) continue;
          bulkhead.slow = durationMs >= this.settings.WEBHOOK_SLOW_AFTER_MS;
        }
        this.forget(keys);
        this.admitNext();
      },
    };
  }

  private bulkhead(key: string): Bulkhead {
    let bulkhead = this.bulkheads.get(key);
    if (!bulkhead) this.bulkheads.set(key, (bulkhead = { inFlight: 0, slow: false, busySince: 0 }));
    return bulkhead;
  }

  /** Bulkheads that are empty and not slow are dropped; of the slow ones, the oldest when there are too many. */
  private forget(keys: readonly string[]): void {
    for (const key of keys) {
      const bulkhead = this.bulkheads.get(key);
      if (bulkhead?.inFlight === 0 && !bulkhead.slow) this.bulkheads.delete(key);
    }
    if (this.bulkheads.size <= MAX_BULKHEADS) return;
    for (const [key, bulkhead] of this.bulkheads) {
      if (bulkhead.inFlight === 0) this.bulkheads.delete(key);
      if (this.bulkheads.size <= MAX_BULKHEADS) return;
    }
  }
}

const MAX_BULKHEADS = 10_000;

/** What an attempt needs a place of. */
export function gateKeys({
  subscriptionId,
  tenantId,
  url,
}: {
  subscriptionId: string;
  tenantId: string;
  url: string;
}): string[] {
  const { origin } = new URL(url);
  return [subscriptionId, origin, `${tenantId} at ${origin}`];
}
