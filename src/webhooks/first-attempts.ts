import type { DeliveryRef } from '../contracts/workflows';
import {
  recordAttempts,
  type Aftermath,
  type AttemptRecord,
  type HealthRules,
  type PendingDelivery,
} from '../domain/deliveries';
import type { DeliveryRow } from '../domain/payments';
import { AttemptGate, type AttemptGateSettings } from './attempt-gate';
import { Backoff } from '../platform/backoff';
import { Coalescer } from '../platform/coalescer';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { isDatabaseUnavailable } from '../platform/postgres-errors';
import type { WebhookClient } from './client';
import { healthRules, makeAttempt, type AttemptPlan, type MadeAttempt } from './attempt';

/**
 * First attempts, in bulk. Most deliveries succeed at once, and what is delivered is done: no workflow, one row for the
 * delivery and one for the attempt. What was not delivered, or may not be sent yet (order, rate, a subscriber that rests,
 * no place in time), gets its delivery workflow, which goes on where this ended (docs/adr/0022).
 */

/** A first attempt that would take longer is made by the delivery's workflow: nothing here waits longer for a subscriber. */
const TIMEOUT_MAX_MS = 15_000;
/** How long a delivery waits for a place before its workflow does. */
const PLACE_WAIT_MS = 2_000;
/** Attempts that one statement stores, and statements at a time. */
const RECORD_BATCH = 200;
const RECORD_CALLS = 2;
/** While the database is away an attempt that was made is kept in memory for so long; then it may be made again. */
const RECORD_TRIES = 8;
const RECORD_RETRY_BASE_MS = 250;
const RECORD_RETRY_CAP_MS = 32_000;

export interface FirstAttemptDeps {
  db: Pick<Database, 'pool'>;
  webhooks: Pick<WebhookClient, 'postWebhook'>;
  log: Logger;
  config: AttemptGateSettings & Parameters<typeof healthRules>[0];
  /** Completes a delivery row with the retry policy that applies to it. */
  deliveryPolicy: (row: DeliveryRow, correlationId: string) => DeliveryRef;
}

export class FirstAttempts {
  private readonly gate: AttemptGate;
  private readonly rules: HealthRules;
  private readonly records: Coalescer<{ record: AttemptRecord; at: Date }, Aftermath | null>;

  constructor(private readonly deps: FirstAttemptDeps) {
    this.gate = new AttemptGate(deps.config);
    this.rules = healthRules(deps.config);
    this.records = new Coalescer({
      maxItems: RECORD_BATCH,
      maxCalls: RECORD_CALLS,
      mayBeOneItems: (error) => !isDatabaseUnavailable(error),
      run: (attempts) => recordAttempts(deps.db, attempts, this.rules),
    });
  }

  /**
   * Attempts deliveries side by side. At least once: between sending and storing, a crash sends again.
   * @returns what needs a delivery workflow: of these deliveries, and of the events that the attempts gave rise to.
   * @throws when what was met could not be stored.
   */
  async make(
    pending: readonly PendingDelivery[],
    correlationOf: (deliveryId: string) => string,
  ): Promise<DeliveryRef[]> {
    const left = await Promise.all(pending.map((each) => this.one(each, correlationOf(each.delivery.id))));
    return left.flat();
  }

  private async one(pending: PendingDelivery, correlationId: string): Promise<DeliveryRef[]> {
    const { delivery, row, attemptsBefore } = pending;
    const ref = this.deps.deliveryPolicy(row, correlationId);
    const made = delivery.attempts - attemptsBefore;
    if (made > 0) return [{ ...ref, attemptsMade: made }];
    if (!mayGoAtOnce(pending, ref)) return [ref];
    const place = await this.gate.enterSoon(
      [delivery.subscriptionId, new URL(delivery.url).origin],
      PLACE_WAIT_MS,
    );
    if (place === undefined) {
      metrics.deliveriesPutOff.inc({ reason: 'places' });
      return [ref];
    }
    let attempt: MadeAttempt | undefined;
    try {
      const plan: AttemptPlan = {
        deliveryId: delivery.id,
        attempt: delivery.attempts + 1,
        maxAttempts: attemptsBefore + ref.scheduleMs.length,
        timeoutMs: ref.timeoutMs,
        correlationId,
      };
      attempt = await makeAttempt(this.deps, plan, delivery, new Date());
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
    const startedAt = new Date(attempt.startedAt);
    const record = { ...attempt, startedAt };
    const at = new Date(startedAt.getTime() + attempt.durationMs);
    const after = await this.untilStored(() => this.records.add({ record, at }));
    const emitted = (after?.deliveries ?? []).map((row) =>
      this.deps.deliveryPolicy(row, attempt.correlationId),
    );
    if (after?.repeated) return [ref, ...emitted];
    if (attempt.status !== 'pending') metrics.deliveriesFinished.inc({ status: attempt.status });
    if (attempt.status === 'delivered') return emitted;
    // Given up after the first: its workflow finds that out at once, and writes the dead letter.
    if (attempt.status !== 'pending') return [ref, ...emitted];
    const { retryAfterMs } = attempt;
    return [{ ...ref, attemptsMade: 1, ...(retryAfterMs !== null && { retryAfterMs }) }, ...emitted];
  }

  private async untilStored<T>(store: () => Promise<T>): Promise<T> {
    const backoff = new Backoff(RECORD_RETRY_BASE_MS, RECORD_RETRY_CAP_MS);
    for (let tries = 1; ; tries += 1) {
      try {
        return await store();
      } catch (error) {
        if (tries === RECORD_TRIES) throw error;
        this.deps.log.warn({ err: error, tries }, 'attempts could not be stored; trying again');
        await backoff.pause();
      }
    }
  }
}

/** Whether nothing asks the delivery to wait: those that wait do so in a workflow, as a timer that one sees. */
function mayGoAtOnce({ delivery }: PendingDelivery, ref: DeliveryRef): boolean {
  const { subscriptionState: state, throttleLevel, rateLimitPerSecond } = delivery;
  const takes = state === 'active' || state === 'failing';
  return (
    takes &&
    throttleLevel === 0 &&
    rateLimitPerSecond === null &&
    ref.ordered !== true &&
    ref.timeoutMs <= TIMEOUT_MAX_MS &&
    (ref.scheduleMs[0] ?? 0) === 0
  );
}
