import { setTimeout as sleep } from 'node:timers/promises';
import { HEADERS } from '../contracts/messages';
import { DeliveryDeadLetter, type AttemptOutcome, type DeliveryStatus } from '../contracts/webhooks';
import type { DeliveryRef } from '../contracts/workflows';
import {
  finishDelivery,
  isNextInOrder,
  loadAftermath,
  loadDeadLetter,
  loadDelivery,
  loadPending,
  recordAttempt,
  reservePlace,
  type Aftermath,
  type EndStatus,
  type HealthRules,
  type LoadedDelivery,
} from '../domain/deliveries';
import type { DeliveryRow } from '../domain/payments';
import { AttemptGate } from '../webhooks/attempt-gate';
import type { Config } from '../platform/config';
import type { OutgoingMessage } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import type { WebhookClient } from '../webhooks/client';
import {
  GONE,
  healthRules,
  makeAttempt,
  type AttemptPlan,
  type Deliverable,
  type MadeAttempt,
} from '../webhooks/attempt';
import { FirstAttempts } from '../webhooks/first-attempts';
import { withHeartbeat } from './heartbeat';

/** What delivery activities need of the outside world, handed in by the worker role. */
export interface DeliveryDeps {
  db: Pick<Database, 'pool' | 'prisma'>;
  keyring: Keyring;
  webhooks: Pick<WebhookClient, 'postWebhook'>;
  /** Resolves when all in-sync replicas have the message. */
  producer: { send(message: OutgoingMessage): Promise<void> };
  config: DeliveryConfig;
  log: Logger;
  /** Completes a delivery row with the retry policy that applies to it. */
  deliveryPolicy: (row: DeliveryRow, correlationId: string) => DeliveryRef;
  /** Shared with the consumer of published events, where one process has both; its own when left out. */
  firstAttempts?: Pick<FirstAttempts, 'make'>;
  /** The time, where a test plays it. */
  clock?: () => Date | Promise<Date>;
}

export type DeliveryConfig = Pick<
  Config,
  | 'TOPIC_WEBHOOK_DELIVERY_DLQ'
  | 'WEBHOOK_CONCURRENT_ATTEMPTS'
  | 'WEBHOOK_CONCURRENT_PER_SUBSCRIPTION'
  | 'WEBHOOK_SLOW_AFTER_MS'
  | 'WEBHOOK_LATER_BASE_MS'
  | 'WEBHOOK_LATER_CAP_MS'
  | 'WEBHOOK_THROTTLE_BASE_MS'
  | 'WEBHOOK_THROTTLE_CAP_MS'
  | 'WEBHOOK_ORDERED_POLL_MS'
  | 'WEBHOOK_FAILING_ATTEMPT'
  | 'WEBHOOK_PAUSE_AFTER_MS'
>;

export interface AttemptInput extends AttemptPlan {
  /** How often the delivery was sent again after it had ended. */
  generation?: number;
  /** An operator asks for it: it does not wait until a subscriber that is left alone has rested. */
  urgent?: boolean;
  /** How often this attempt was put off in a row. */
  laters?: number;
  /** The place in the subscription's rate that it was put off to (ISO 8601). */
  placeAt?: string;
}

export interface AttemptResult {
  /**
   * What follows for the delivery. `retry`: go on with the schedule. The others are final and stored already:
   * `delivered`, `exhausted` (the last attempt failed), `gone` (410: given up, the subscription is disabled),
   * `held` (the subscription is paused or disabled; a resume brings it back), `cancelled` (it is deleted, or an operator
   * cancelled). `later`: nothing was sent and nothing of the schedule is used up; ask again after `retryAfterMs`, for the
   * attempt that follows `attempts`.
   */
  verdict: 'delivered' | 'retry' | 'exhausted' | 'gone' | 'cancelled' | 'held' | 'later';
  /** What the attempt met, or why there was none. */
  result: AttemptOutcome | 'not_attempted';
  statusCode: number | null;
  /** Attempts recorded so far; more than asked for when a former run of the workflow made them. */
  attempts: number;
  /** How long the subscriber asks to be left alone, bounded; null when it does not ask. */
  retryAfterMs: number | null;
  /** Of a `later`: what it waits for; nothing when what was asked for was not what there was to do. */
  waitsFor?: 'places' | 'rest' | 'rate' | 'order';
  /** Of a `later` for the rate: the place that is reserved for it (ISO 8601). */
  placeAt?: string;
  /** Deliveries of the event that this attempt gave rise to, to be started. */
  deliveries?: DeliveryRef[];
  /** The ordered delivery that was waiting for this one to end, to be woken. */
  next?: DeliveryRef;
}

/** What one worker's activities share. */
interface Shared extends DeliveryDeps {
  gate: AttemptGate;
  rules: HealthRules;
  now(): Date | Promise<Date>;
}

/** Durable steps of the delivery workflow. */
export function createDeliveryActivities(deps: DeliveryDeps) {
  const { db, log, config, firstAttempts = new FirstAttempts(deps) } = deps;
  const shared: Shared = {
    ...deps,
    gate: new AttemptGate(config),
    rules: healthRules(config),
    now: deps.clock ?? (() => new Date()),
  };

  return {
    /**
     * Makes the first attempts of deliveries of one state change, in bulk, and stores them. Repeated, it attempts what is
     * pending still. @returns what needs a delivery workflow.
     */
    makeFirstAttempts: (deliveries: DeliveryRef[]): Promise<DeliveryRef[]> =>
      withHeartbeat<never, DeliveryRef[]>(async () => {
        const correlations = new Map(
          deliveries.map(({ deliveryId, correlationId }) => [deliveryId, correlationId]),
        );
        const pending = await loadPending(db, shared.keyring, [...correlations.keys()]);
        return firstAttempts.make(pending, (deliveryId) => correlations.get(deliveryId)!);
      }),

    /**
     * Makes one attempt and stores it. A subscriber's failure is a result; an outage of our own (database, key,
     * sockets) throws, to be retried by Temporal without using up the subscriber's schedule. Idempotent by
     * (delivery, attempt) once stored; between sending and storing, at least once.
     */
    attemptDelivery: (input: AttemptInput): Promise<AttemptResult> =>
      withHeartbeat<MadeAttempt, AttemptResult>(async (handover) => {
        if (!handover.left) {
          const found = await prepare(shared, input);
          if ('verdict' in found) return found;
          const at = await shared.now();
          const wait = await mustWait(shared, input, found, at);
          if (wait) return wait;
          const made = await takeTurn(shared, input, found, at);
          if ('verdict' in made) return made;
          handover.left = made;
        }
        return store(shared, input, handover.left);
      }),

    /** Ends a delivery without another attempt. Idempotent. */
    async finishDelivery(input: {
      deliveryId: string;
      status: EndStatus;
      reason: string;
    }): Promise<DeliveryStatus | null> {
      return finish(deps, input);
    },

    /** What waits for the end of an ordered delivery that ended without an attempt. Reads only. */
    async followersOf(input: {
      deliveryId: string;
      correlationId: string;
    }): Promise<Pick<AttemptResult, 'deliveries' | 'next'>> {
      const { deliveryId, correlationId } = input;
      return toStart(shared, await loadAftermath(db, { deliveryId, ordered: true }), correlationId);
    },

    /** Puts a given-up delivery on the DLQ, keyed by subscription. Repeating it may repeat the dead letter. */
    async deadLetterDelivery(input: { deliveryId: string; correlationId: string }): Promise<void> {
      const letter = await loadDeadLetter(db, input.deliveryId);
      if (!letter) {
        log.warn(input, 'an exhausted delivery is no longer kept and gets no dead letter');
        return;
      }
      await deps.producer.send(deadLetterMessage(deps, letter, input.correlationId));
      metrics.deadLetters.inc({ topic: deps.config.TOPIC_WEBHOOK_DELIVERY_DLQ, code: 'delivery_exhausted' });
    },
  };
}

export type DeliveryActivities = ReturnType<typeof createDeliveryActivities>;

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
    retryAfterMs: null,
    ...more,
  };
}

/** The delivery when the attempt is to be made; otherwise what there is to say without sending anything. */
async function prepare(
  deps: Shared,
  { deliveryId, attempt: wanted, maxAttempts, generation = 0, ordered = false, correlationId }: AttemptInput,
): Promise<AttemptResult | Deliverable> {
  const delivery = await loadDelivery(deps.db, deps.keyring, deliveryId);
  // Of an older generation: somebody had it sent again, and another workflow sees to it.
  if (!delivery || delivery.generation !== generation) return answerOf(delivery, 'cancelled');
  const answer = async (verdict: AttemptResult['verdict']): Promise<AttemptResult> =>
    answerOf(
      delivery,
      verdict,
      toStart(deps, await loadAftermath(deps.db, { deliveryId, ordered }), correlationId),
    );
  if (delivery.status !== 'pending')
    return answer(
      delivery.status === 'exhausted' && delivery.lastStatusCode === GONE ? 'gone' : delivery.status,
    );

  const end = async (status: EndStatus, reason: string) => {
    const now = await finish(deps, { deliveryId, status, reason });
    return answer(now === null || now === 'pending' ? status : now);
  };
  const { subscriptionState: state, body } = delivery;
  const again = async (): Promise<AttemptResult> => ({ ...(await answer('later')), retryAfterMs: 0 });
  if (state === 'paused' || state === 'disabled') {
    const status = await finish(deps, { deliveryId, status: 'held', reason: `the subscription is ${state}` });
    // Resumed since it was read.
    return status === 'pending' ? again() : answer(status ?? 'held');
  }
  if (state === 'deleted') return end('cancelled', 'the subscription is deleted');
  if (body === null) return end('cancelled', 'the event is no longer kept');
  if (delivery.attempts >= maxAttempts) return end('exhausted', 'every attempt was made before');
  // Former runs of the workflow made more than this one knows of, and it has had its pause.
  if (delivery.attempts > wanted) return again();
  // This attempt was stored, and only its answer to Temporal got lost.
  return delivery.attempts === wanted ? answer('retry') : { ...delivery, body };
}

/** A place that was reserved is good for this long after its time. */
const PLACE_GOOD_FOR_MS = 5_000;
/** A place that is so near is waited for here: putting an attempt off costs more. */
const NEAR_MS = 50;

/** Whether the attempt has to wait for the subscriber's rest, or for the deliveries before it. */
async function mustWait(
  { db, config, gate }: Shared,
  { urgent = false, ordered = false }: AttemptInput,
  delivery: Deliverable,
  at: Date,
): Promise<AttemptResult | undefined> {
  const restMs = (delivery.throttledUntil?.getTime() ?? 0) - at.getTime();
  if (restMs > 0 && !urgent)
    // One after the other, or all of them would come back in the same moment.
    return later(delivery, 'rest', gate.turn([delivery.subscriptionId], restMs * (1 + Math.random() * 0.1)));
  if (ordered && !(await isNextInOrder(db, delivery)))
    return later(delivery, 'order', config.WEBHOOK_ORDERED_POLL_MS * (0.8 + 0.4 * Math.random()));
  return undefined;
}

function later(
  delivery: Deliverable,
  waitsFor: NonNullable<AttemptResult['waitsFor']>,
  waitMs: number,
  placeAt?: string,
): AttemptResult {
  metrics.deliveriesPutOff.inc({ reason: waitsFor });
  return answerOf(delivery, 'later', {
    waitsFor,
    retryAfterMs: Math.ceil(waitMs),
    ...(placeAt !== undefined && { placeAt }),
  });
}

/** Makes the attempt when this worker has a place for it and the subscription's rate allows it. */
async function takeTurn(
  deps: Shared,
  input: AttemptInput,
  delivery: Deliverable,
  at: Date,
): Promise<AttemptResult | MadeAttempt> {
  const { subscriptionId, url, throttleLevel } = delivery;
  const lanes = [subscriptionId, new URL(url).origin];
  const place = deps.gate.enter(lanes, throttleLevel > 0);
  if (!place) {
    const { WEBHOOK_LATER_BASE_MS: baseMs, WEBHOOK_LATER_CAP_MS: capMs } = deps.config;
    const waitMs = Math.min(baseMs * 2 ** Math.min(input.laters ?? 0, 30), capMs);
    return later(delivery, 'places', deps.gate.turn(lanes, waitMs * (0.5 + Math.random())));
  }
  let durationMs: number | undefined;
  try {
    const wait = await paced(deps, input, delivery, at);
    if (wait) return wait;
    const made = await makeAttempt(deps, input, delivery, at);
    durationMs = made.durationMs;
    return made;
  } finally {
    place.leave(durationMs);
  }
}

/** Reserves a place in the subscription's rate, unless one is reserved already and not long past. */
async function paced(
  { db }: Shared,
  { placeAt }: AttemptInput,
  delivery: Deliverable,
  at: Date,
): Promise<AttemptResult | undefined> {
  const { rateLimitPerSecond, subscriptionId } = delivery;
  if (rateLimitPerSecond === null) return undefined;
  const ageMs = placeAt === undefined ? NaN : at.getTime() - Date.parse(placeAt);
  if (ageMs >= -NEAR_MS && ageMs <= PLACE_GOOD_FOR_MS) return undefined;
  const waitMs = await reservePlace(db, subscriptionId, rateLimitPerSecond);
  if (waitMs > NEAR_MS) return later(delivery, 'rate', waitMs, new Date(at.getTime() + waitMs).toISOString());
  await sleep(waitMs);
  return undefined;
}

async function store(deps: Shared, input: AttemptInput, made: MadeAttempt): Promise<AttemptResult> {
  const { startedAt, ...record } = made;
  const aftermath = await recordAttempt(
    deps.db,
    { ...record, startedAt: new Date(startedAt) },
    deps.rules,
    new Date(Date.parse(startedAt) + made.durationMs),
  );
  if (aftermath?.repeated) return stored(deps, input);
  if (made.status !== 'pending') metrics.deliveriesFinished.inc({ status: made.status });
  const { result, statusCode, retryAfterMs, gone, status } = made;
  return {
    verdict: gone ? 'gone' : status === 'pending' ? 'retry' : status,
    result,
    statusCode,
    attempts: input.attempt,
    retryAfterMs,
    ...toStart(deps, aftermath, input.correlationId),
  };
}

/** The answer when another try of the same attempt was stored first, as Temporal had taken its worker for dead. */
async function stored(deps: Shared, input: AttemptInput): Promise<AttemptResult> {
  const found = await prepare(deps, input);
  if ('verdict' in found) return found;
  throw new Error(`attempt ${input.attempt} of delivery ${input.deliveryId} is stored and not counted`);
}

function toStart(
  { deliveryPolicy }: Shared,
  aftermath: Aftermath | null,
  correlationId: string,
): Pick<AttemptResult, 'deliveries' | 'next'> {
  if (!aftermath) return {};
  const { deliveries, next } = aftermath;
  return {
    ...(deliveries.length > 0 && { deliveries: deliveries.map((row) => deliveryPolicy(row, correlationId)) }),
    ...(next && { next: deliveryPolicy(next, correlationId) }),
  };
}

async function finish(
  { db }: Pick<DeliveryDeps, 'db'>,
  input: { deliveryId: string; status: EndStatus; reason: string },
): Promise<DeliveryStatus | null> {
  const status = await finishDelivery(db, input);
  if (status === input.status) metrics.deliveriesFinished.inc({ status });
  return status ?? null;
}

function deadLetterMessage(
  { config }: DeliveryDeps,
  letter: DeliveryDeadLetter,
  correlationId: string,
): OutgoingMessage {
  const { delivery, lastAttempt } = letter;
  return {
    topic: config.TOPIC_WEBHOOK_DELIVERY_DLQ,
    key: delivery.subscriptionId,
    value: JSON.stringify(DeliveryDeadLetter.parse(letter)),
    headers: {
      [HEADERS.correlationId]: correlationId,
      [HEADERS.deadLetter.errorCode]: 'delivery_exhausted',
      [HEADERS.deadLetter.errorMessage]: (lastAttempt?.error ?? 'no attempt was made').slice(0, 500),
      [HEADERS.deadLetter.firstFailedAt]: delivery.createdAt,
      [HEADERS.deadLetter.attempts]: String(delivery.attempts),
    },
  };
}
