import type { AttemptOutcome, DeliveryStatus } from '../contracts/webhooks';
import { finishDelivery, type DeliveryEnd, type EndStatus } from '../domain/delivery-ends';
import { loadDelivery, type LoadedDelivery } from '../domain/pending-deliveries';
import { AT_ONCE, parkDeliveries, wakeSleepingLanes } from '../domain/lanes';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import type { AttemptPlan, Deliverable, MadeAttempt } from './attempt';
import { gateKeys } from './attempt-gate';
import type { Attempts } from './attempts';

/** The attempts of a delivery's own workflow: what follows the first, of a delivery that waits for nothing but its time. */

export interface AttemptInput extends AttemptPlan {
  /** How often the delivery was sent again after it had ended. */
  generation?: number;
  /** An operator asks for it: it does not wait until a subscriber that is left alone has rested. */
  urgent?: boolean;
}

export interface AttemptResult {
  /**
   * What follows for the delivery. `retry`: go on with the schedule after `waitMs`. `in_lane`: it has to wait for its
   * subscription (order, rate, rest, no place), whose lane goes on with it; nothing was sent. The others are final and
   * stored already: `delivered`, `exhausted` (the last attempt failed), `held` (the subscription is paused, or disabled, by
   * a 410 to this attempt perhaps; a resume brings it back), `cancelled` (it is deleted, or an operator cancelled).
   * `later`: nothing was sent; ask again after `waitMs`, for the attempt that follows `attempts`.
   */
  verdict: 'delivered' | 'retry' | 'exhausted' | 'cancelled' | 'held' | 'in_lane' | 'later';
  /** What the attempt met, or why there was none. */
  result: AttemptOutcome | 'not_attempted';
  statusCode: number | null;
  /** Attempts recorded so far; more than asked for when a former run of the workflow made them. */
  attempts: number;
  /** Of a `retry` or a `later`: until then, with jitter, and as long as the subscriber asks for patience. */
  waitMs: number;
}

/** What the attempts of delivery workflows need. */
export interface DeliveryAttemptDeps {
  db: Pick<Database, 'pool' | 'prisma'>;
  keyring: Keyring;
  attempts: Attempts;
  /** Resolves when the workflow of each lane is there and has been told to look. Idempotent. */
  wakeLanes: (subscriptionIds: readonly string[]) => Promise<void>;
  now(): Date | Promise<Date>;
}

function answerOf(
  delivery: LoadedDelivery | undefined,
  verdict: AttemptResult['verdict'],
  more: Partial<AttemptResult> = {},
): AttemptResult {
  return {
    verdict,
    result: delivery?.lastResult ?? 'not_attempted',
    statusCode: delivery?.lastStatusCode ?? null,
    attempts: delivery?.attempts ?? 0,
    waitMs: 0,
    ...more,
  };
}

/** The delivery when the attempt is to be made; otherwise what there is to say without sending anything. */
export async function prepare(
  deps: DeliveryAttemptDeps,
  { deliveryId, attempt: wanted, maxAttempts, generation = 0, urgent = false }: AttemptInput,
): Promise<AttemptResult | Deliverable> {
  const delivery = await loadDelivery(deps.db, deps.keyring, deliveryId);
  // Of an older generation: somebody had it sent again, and another workflow handles it.
  if (!delivery || delivery.generation !== generation) return answerOf(delivery, 'cancelled');
  const answer = (verdict: AttemptResult['verdict'], more: Partial<AttemptResult> = {}) =>
    answerOf(delivery, verdict, more);
  if (delivery.status !== 'pending') return answer(delivery.status);

  const end = async (status: EndStatus, reason: string) => {
    const now = await finish(deps, { deliveryId, status, reason, generation });
    return answer(now === null || now === 'pending' ? status : now);
  };
  const { subscriptionState: state, body, nextAttemptAt } = delivery;
  if (state === 'paused' || state === 'disabled') {
    const status = await finish(deps, {
      ...{ deliveryId, generation, status: 'held' as const },
      reason: `the subscription is ${state}`,
    });
    // Resumed since it was read.
    return status === 'pending' ? answer('later') : answer(status ?? 'held');
  }
  if (state === 'deleted') return end('cancelled', 'the subscription is deleted');
  if (body === null) return end('cancelled', 'the event is no longer kept');
  if (delivery.attempts >= maxAttempts) return end('exhausted', 'every attempt was made before');
  const now = await deps.now();
  const waitMs = Math.max(0, (nextAttemptAt?.getTime() ?? 0) - now.getTime());
  // Others made more than this one knows of: it goes on behind them, when their pause is over.
  if (delivery.attempts > wanted) return answer('later', { waitMs });
  // This attempt was stored, and only its answer to Temporal got lost.
  if (delivery.attempts === wanted) return answer('retry', { waitMs });
  const rests = (delivery.throttledUntil?.getTime() ?? 0) > now.getTime();
  if (delivery.inLane || delivery.keepsLane || (rests && !urgent))
    return queue(deps, delivery, urgent, rests ? 'rest' : 'lane');
  return { ...delivery, body };
}

/** Leaves the delivery to its subscription's lane. */
async function queue(
  { db, wakeLanes }: DeliveryAttemptDeps,
  delivery: LoadedDelivery,
  urgent: boolean,
  reason: 'rest' | 'lane' | 'places',
): Promise<AttemptResult> {
  const { id: deliveryId, subscriptionId, inLane } = delivery;
  metrics.deliveriesPutOff.inc({ reason });
  if (!inLane || urgent) await parkDeliveries(db, [{ deliveryId, at: urgent ? AT_ONCE : new Date() }]);
  await wakeSleepingLanes(db, (asleep) => wakeLanes(urgent ? [subscriptionId] : asleep), [subscriptionId]);
  return answerOf(delivery, 'in_lane');
}

/** Makes the attempt when this worker has a place for it. */
export async function takeTurn(
  deps: DeliveryAttemptDeps,
  input: AttemptInput,
  delivery: Deliverable,
): Promise<AttemptResult | MadeAttempt> {
  const place = deps.attempts.gate.enter(gateKeys(delivery), delivery.throttleLevel > 0);
  if (!place) return queue(deps, delivery, input.urgent ?? false, 'places');
  let durationMs: number | undefined;
  try {
    const made = await deps.attempts.make(input, delivery, await deps.now());
    durationMs = made.durationMs;
    return made;
  } finally {
    place.leave(durationMs);
  }
}

/** Stores an attempt, and says what follows for the delivery. Idempotent. */
export async function store(
  deps: DeliveryAttemptDeps,
  input: AttemptInput,
  made: MadeAttempt,
): Promise<AttemptResult> {
  // Once: when it fails, Temporal tries again, with what was made.
  if ((await deps.attempts.store(made, 1)) !== 'decides') return stored(deps, input);
  const { result, statusCode, status, waitMs } = made;
  return {
    verdict: status === 'pending' ? 'retry' : status,
    result,
    statusCode,
    attempts: input.attempt,
    waitMs,
  };
}

/**
 * The answer when another try of the same attempt was stored first, as Temporal had taken its worker for dead, or when the
 * delivery had ended or was sent again meanwhile.
 */
async function stored(deps: DeliveryAttemptDeps, input: AttemptInput): Promise<AttemptResult> {
  const found = await prepare(deps, input);
  if ('verdict' in found) return found;
  throw new Error(`attempt ${input.attempt} of delivery ${input.deliveryId} is stored and not counted`);
}

/** Ends a delivery without another attempt. Idempotent. @returns what it is then; null when there is none. */
export async function finish(
  { db }: Pick<DeliveryAttemptDeps, 'db'>,
  input: DeliveryEnd,
): Promise<DeliveryStatus | null> {
  const status = await finishDelivery(db, input);
  if (status === input.status) metrics.deliveriesFinished.inc({ status });
  return status ?? null;
}
