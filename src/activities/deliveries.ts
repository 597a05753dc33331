import { Context } from '@temporalio/activity';
import { HEADERS } from '../contracts/messages';
import { DeliveryDeadLetter, type AttemptOutcome, type DeliveryStatus } from '../contracts/webhooks';
import {
  finishDelivery,
  loadDeadLetter,
  loadDelivery,
  recordAttempt,
  type AttemptRecord,
  type LoadedDelivery,
} from '../domain/deliveries';
import { signWebhook } from '../domain/webhook-signature';
import type { Config } from '../platform/config';
import type { OutgoingMessage } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import type { WebhookClient, WebhookResponse } from '../platform/webhook-http';

/** What delivery activities need of the outside world, handed in by the worker role. */
export interface DeliveryDeps {
  db: Pick<Database, 'pool' | 'prisma'>;
  keyring: Keyring;
  webhooks: Pick<WebhookClient, 'postWebhook'>;
  /** Resolves when all in-sync replicas have the message. */
  producer: { send(message: OutgoingMessage): Promise<void> };
  config: Pick<Config, 'TOPIC_WEBHOOK_DELIVERY_DLQ'>;
  log: Logger;
}

export interface AttemptInput {
  deliveryId: string;
  /** 1 for the first. */
  attempt: number;
  /** The schedule's length: a failure of the last attempt exhausts the delivery. */
  maxAttempts: number;
  /** Longest wait for the subscriber, in milliseconds. */
  timeoutMs: number;
  correlationId: string;
}

export interface AttemptResult {
  /**
   * What follows for the delivery. `retry`: go on with the schedule. The others are final and stored already:
   * `delivered`, `exhausted` (the last attempt failed), `gone` (410: given up, the subscription is disabled),
   * `cancelled` (the subscription is deleted, disabled or paused, or an operator cancelled).
   */
  verdict: 'delivered' | 'retry' | 'exhausted' | 'gone' | 'cancelled';
  /** What the attempt met, or why there was none. */
  result: AttemptOutcome | 'not_attempted';
  statusCode: number | null;
  /** Attempts recorded so far; more than asked for when a former run of the workflow made them. */
  attempts: number;
  /** How long the subscriber asks to be left alone, bounded; null when it does not ask. */
  retryAfterMs: number | null;
}

/** Answers whose Retry-After is heeded: the subscriber is overloaded, or down for a while. */
const SLOW_DOWN = new Set([429, 502, 503, 504]);
const GONE = 410;

/** An attempt that was made but is not stored yet: carried to the activity's next try, so that it posts nothing twice. */
type Made = Omit<AttemptRecord, 'startedAt'> & { startedAt: string; retryAfterMs: number | null };

/** Durable steps of the delivery workflow. */
export function createDeliveryActivities(deps: DeliveryDeps) {
  const { db, keyring, log } = deps;

  return {
    /**
     * Makes one attempt and stores it. A subscriber's failure is a result; an outage of our own (database, key,
     * sockets) throws, to be retried by Temporal without using up the subscriber's schedule. Idempotent by
     * (delivery, attempt) once stored; between sending and storing, at least once.
     */
    async attemptDelivery(input: AttemptInput): Promise<AttemptResult> {
      const left = leftBehind();
      if (left) return store(deps, input, left);
      const found = await prepare(deps, input, await loadDelivery(db, keyring, input.deliveryId));
      return 'verdict' in found ? found : store(deps, input, await post(deps, input, found));
    },

    /** Ends a delivery without another attempt. Idempotent. */
    async finishDelivery(input: {
      deliveryId: string;
      status: 'exhausted' | 'cancelled';
      reason: string;
    }): Promise<DeliveryStatus | null> {
      return finish(deps, input);
    },

    /** Puts a given-up delivery on the DLQ, keyed by subscription. Repeating it may repeat the dead letter. */
    async deadLetterDelivery(input: { deliveryId: string; correlationId: string }): Promise<void> {
      const letter = await loadDeadLetter(db, input.deliveryId);
      if (!letter) {
        log.warn(input, 'an exhausted delivery is no longer kept and gets no dead letter');
        return;
      }
      await deps.producer.send(deadLetterMessage(deps, letter, input.correlationId));
      metrics.deadLetters.inc({ topic: 'deliveries', code: 'delivery_exhausted' });
    },
  };
}

export type DeliveryActivities = ReturnType<typeof createDeliveryActivities>;

type Deliverable = LoadedDelivery & { body: string };

/** The delivery when the attempt is to be made; otherwise what there is to say without sending anything. */
async function prepare(
  deps: DeliveryDeps,
  { deliveryId, attempt, maxAttempts }: AttemptInput,
  delivery: LoadedDelivery | undefined,
): Promise<AttemptResult | Deliverable> {
  const answer = (verdict: AttemptResult['verdict']): AttemptResult => ({
    verdict,
    result: delivery?.lastResult ?? 'not_attempted',
    statusCode: delivery?.lastStatusCode ?? null,
    attempts: delivery?.attempts ?? 0,
    retryAfterMs: null,
  });
  if (!delivery) return answer('cancelled');
  if (delivery.status !== 'pending')
    return answer(
      delivery.status === 'exhausted' && delivery.lastStatusCode === GONE ? 'gone' : delivery.status,
    );

  const end = async (status: 'exhausted' | 'cancelled', reason: string) => {
    const now = await finish(deps, { deliveryId, status, reason });
    return answer(now === null || now === 'pending' ? status : now);
  };
  if (delivery.subscriptionState !== 'active')
    return end('cancelled', `the subscription is ${delivery.subscriptionState}`);
  const { body } = delivery;
  if (body === null) return end('cancelled', 'the event is no longer kept');
  if (delivery.attempts >= maxAttempts) return end('exhausted', 'every attempt was made before');
  // This attempt was stored, and only its answer to Temporal got lost; or a former run of the workflow made it.
  return delivery.attempts >= attempt ? answer('retry') : { ...delivery, body };
}

async function post(
  { webhooks, log }: DeliveryDeps,
  { deliveryId, attempt, maxAttempts, timeoutMs, correlationId }: AttemptInput,
  delivery: Deliverable,
): Promise<Made> {
  const startedAt = new Date();
  const { eventId: id, subscriptionId, body, url } = delivery;
  const headers = { ...signWebhook({ id, at: startedAt, body, secrets: delivery.secrets() }) };
  const response = await webhooks.postWebhook({ url, headers, body, timeoutMs });
  metrics.deliveryAttempts.inc({ result: response.result });
  metrics.deliveryAttemptSeconds.observe(response.durationMs / 1e3);
  const { result, statusCode, durationMs, error, responseBody } = response;
  log.info(
    { correlationId, deliveryId, eventId: id, subscriptionId, attempt, result, statusCode, durationMs },
    'delivery attempt',
  );
  return {
    deliveryId,
    attempt,
    startedAt: startedAt.toISOString(),
    durationMs,
    result,
    statusCode,
    error,
    responseBody,
    status: statusAfter(response, attempt, maxAttempts),
    disableSubscription: statusCode === GONE,
    retryAfterMs: statusCode !== null && SLOW_DOWN.has(statusCode) ? response.retryAfterMs : null,
  };
}

function statusAfter(
  { result, statusCode }: WebhookResponse,
  attempt: number,
  maxAttempts: number,
): DeliveryStatus {
  if (result === 'delivered') return 'delivered';
  return statusCode === GONE || attempt >= maxAttempts ? 'exhausted' : 'pending';
}

async function store({ db }: DeliveryDeps, { attempt }: AttemptInput, made: Made): Promise<AttemptResult> {
  const { retryAfterMs, startedAt, ...record } = made;
  try {
    await recordAttempt(db, { ...record, startedAt: new Date(startedAt) });
  } catch (error) {
    leaveBehind(made);
    throw error;
  }
  if (made.status !== 'pending') metrics.deliveriesFinished.inc({ status: made.status });
  const verdict = made.disableSubscription ? 'gone' : made.status === 'pending' ? 'retry' : made.status;
  return { verdict, result: made.result, statusCode: made.statusCode, attempts: attempt, retryAfterMs };
}

/** The heartbeat of a failing try is what its next try can read. */
function leaveBehind(made: Made): void {
  Context.current().heartbeat(made);
}

function leftBehind(): Made | undefined {
  return (Context.current().info.heartbeatDetails as Made | undefined) ?? undefined;
}

async function finish(
  { db }: DeliveryDeps,
  input: { deliveryId: string; status: 'exhausted' | 'cancelled'; reason: string },
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
