import { Context } from '@temporalio/activity';
import { HEADERS } from '../contracts/messages';
import { DeliveryDeadLetter, type AttemptOutcome, type DeliveryStatus } from '../contracts/webhooks';
import type { DeliveryRef, LaneStep } from '../contracts/workflows';
import {
  finishDelivery,
  loadAftermath,
  loadDeadLetter,
  loadDelivery,
  loadPending,
  recordAttempt,
  type Aftermath,
  type EndStatus,
  type LoadedDelivery,
} from '../domain/deliveries';
import { AT_ONCE, lanesToWake, parkDeliveries } from '../domain/lanes';
import type { DeliveryRow } from '../domain/payments';
import type { Config } from '../platform/config';
import type { OutgoingMessage } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { type AttemptPlan, type Deliverable, type MadeAttempt } from '../webhooks/attempt';
import { gateKeys } from '../webhooks/attempt-gate';
import { Attempts } from '../webhooks/attempts';
import type { WebhookClient } from '../webhooks/client';
import { FirstAttempts } from '../webhooks/first-attempts';
import { sendLane, type LanesDeps } from '../webhooks/lanes';
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
  attempts?: Attempts;
  firstAttempts?: Pick<FirstAttempts, 'make'>;
  /** Resolves when the workflow of each lane is there and has been told to look. Idempotent. */
  wakeLanes: (subscriptionIds: readonly string[]) => Promise<void>;
  /** Resolves when the workflow of each delivery is there. Idempotent. */
  startDeliveries: (deliveries: readonly DeliveryRef[]) => Promise<void>;
  /** The time, where a test plays it. */
  clock?: () => Date | Promise<Date>;
}

export type DeliveryConfig = Pick<
  Config,
  | 'TOPIC_WEBHOOK_DELIVERY_DLQ'
  | 'WEBHOOK_CONCURRENT_ATTEMPTS'
  | 'WEBHOOK_CONCURRENT_PER_SUBSCRIPTION'
  | 'WEBHOOK_SLOW_AFTER_MS'
  | 'WEBHOOK_THROTTLE_BASE_MS'
  | 'WEBHOOK_THROTTLE_CAP_MS'
  | 'WEBHOOK_FAILING_ATTEMPT'
  | 'WEBHOOK_PAUSE_AFTER_MS'
>;

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
  /** Deliveries of the event that this attempt gave rise to, to be started. */
  deliveries?: DeliveryRef[];
}

/** What one worker's activities share. */
interface Shared extends DeliveryDeps {
  attempts: Attempts;
  now(): Date | Promise<Date>;
}

/** Durable steps of the delivery workflow. */
export function createDeliveryActivities(deps: DeliveryDeps) {
  const { db, attempts = new Attempts(deps) } = deps;
  const firstAttempts = deps.firstAttempts ?? new FirstAttempts({ ...deps, attempts });
  const shared: Shared = { ...deps, attempts, now: deps.clock ?? (() => new Date()) };
  const deadLetter = (input: { deliveryId: string; correlationId: string }) => writeDeadLetter(deps, input);
  const lanes: LanesDeps = { ...deps, attempts, deadLetter };

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
          const made = await takeTurn(shared, input, found);
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

    /**
     * Sends what is due in a subscription's lane, for a while. Repeated after a crash it sends what was not recorded.
     * @returns when there is something to do again.
     */
    sendLane: ({ subscriptionId }: { subscriptionId: string }): Promise<LaneStep> =>
      withHeartbeat<never, LaneStep>(() =>
        sendLane(lanes, subscriptionId, Context.current().cancellationSignal),
      ),

    /** Puts an exhausted delivery on the DLQ, keyed by subscription. Repeating it may repeat the dead letter. */
    deadLetterDelivery: deadLetter,
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
    waitMs: 0,
    ...more,
  };
}

/** The delivery when the attempt is to be made; otherwise what there is to say without sending anything. */
async function prepare(
  deps: Shared,
  { deliveryId, attempt: wanted, maxAttempts, generation = 0, urgent = false, correlationId }: AttemptInput,
): Promise<AttemptResult | Deliverable> {
  const delivery = await loadDelivery(deps.db, deps.keyring, deliveryId);
  // Of an older generation: somebody had it sent again, and another workflow handles it.
  if (!delivery || delivery.generation !== generation) return answerOf(delivery, 'cancelled');
  const answer = async (
    verdict: AttemptResult['verdict'],
    more: Partial<AttemptResult> = {},
  ): Promise<AttemptResult> =>
    answerOf(delivery, verdict, {
      ...toStart(deps, await loadAftermath(deps.db, deliveryId), correlationId),
      ...more,
    });
  if (delivery.status !== 'pending') return answer(delivery.status);

  const end = async (status: EndStatus, reason: string) => {
    const now = await finish(deps, { deliveryId, status, reason });
    return answer(now === null || now === 'pending' ? status : now);
  };
  const { subscriptionState: state, body, nextAttemptAt } = delivery;
  if (state === 'paused' || state === 'disabled') {
    const status = await finish(deps, { deliveryId, status: 'held', reason: `the subscription is ${state}` });
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
  { db, wakeLanes }: Shared,
  delivery: LoadedDelivery,
  urgent: boolean,
  reason: 'rest' | 'lane' | 'places',
): Promise<AttemptResult> {
  const { id: deliveryId, subscriptionId, inLane } = delivery;
  metrics.deliveriesPutOff.inc({ reason });
  if (!inLane || urgent) await parkDeliveries(db, [{ deliveryId, at: urgent ? AT_ONCE : new Date() }]);
  const asleep = await lanesToWake(db, [subscriptionId]);
  await wakeLanes(urgent ? [subscriptionId] : asleep);
  return answerOf(delivery, 'in_lane');
}

/** Makes the attempt when this worker has a place for it. */
async function takeTurn(
  deps: Shared,
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

async function store(deps: Shared, input: AttemptInput, made: MadeAttempt): Promise<AttemptResult> {
  const { startedAt, waitMs, ...record } = made;
  const aftermath = await recordAttempt(
    deps.db,
    { ...record, startedAt: new Date(startedAt) },
    deps.attempts.rules,
    new Date(Date.parse(startedAt) + made.durationMs),
  );
  if (aftermath?.repeated) return stored(deps, input);
  if (made.status !== 'pending') metrics.deliveriesFinished.inc({ status: made.status });
  const { result, statusCode, status } = made;
  return {
    verdict: status === 'pending' ? 'retry' : status,
    result,
    statusCode,
    attempts: input.attempt,
    waitMs,
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
): Pick<AttemptResult, 'deliveries'> {
  if (!aftermath || aftermath.deliveries.length === 0) return {};
  return { deliveries: aftermath.deliveries.map((row) => deliveryPolicy(row, correlationId)) };
}

async function finish(
  { db }: Pick<DeliveryDeps, 'db'>,
  input: { deliveryId: string; status: EndStatus; reason: string },
): Promise<DeliveryStatus | null> {
  const status = await finishDelivery(db, input);
  if (status === input.status) metrics.deliveriesFinished.inc({ status });
  return status ?? null;
}

async function writeDeadLetter(
  deps: DeliveryDeps,
  input: { deliveryId: string; correlationId: string },
): Promise<void> {
  const letter = await loadDeadLetter(deps.db, input.deliveryId);
  if (!letter) {
    deps.log.warn(input, 'an exhausted delivery is no longer kept and gets no dead letter');
    return;
  }
  await deps.producer.send(deadLetterMessage(deps, letter, input.correlationId));
  metrics.deadLetters.inc({ topic: deps.config.TOPIC_WEBHOOK_DELIVERY_DLQ, code: 'delivery_exhausted' });
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
