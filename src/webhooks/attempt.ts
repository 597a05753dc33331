import type { AttemptRecord, HealthRules } from '../domain/attempt-records';
import type { LoadedDelivery } from '../domain/pending-deliveries';
import { idsOf, readTraceparent, TRACEPARENT } from '../contracts/tracing';
import type { DeliveryStatus } from '../contracts/webhooks';
import { shownBody, shownRequestHeaders, shownResponseHeaders } from './shown-headers';
import { signWebhook } from './signature';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import { inEntrySpan, tracing, type TraceSpan } from '../platform/tracing';
import type { WebhookClient, WebhookResponse } from './client';

/** One HTTP request to a subscriber: the same code makes first attempts, in bulk, and those of delivery workflows. */

/** An attempt that was made but is not stored yet. JSON, so that an activity can hand it to its next try. */
export type MadeAttempt = Omit<AttemptRecord, 'startedAt'> & {
  startedAt: string;
  /** Until the next attempt, in milliseconds from the end of this one; 0 when there is none. */
  waitMs: number;
};

/** A delivery whose event is still kept. */
export type Deliverable = LoadedDelivery & { body: string };

export interface AttemptPlan {
  deliveryId: string;
  /** 1 for the first. */
  attempt: number;
  /** The schedule's length: a failure of the last attempt exhausts the delivery. */
  maxAttempts: number;
  /** Longest wait for the subscriber, in milliseconds. */
  timeoutMs: number;
  correlationId: string;
  /** The scheduled pause before the attempt that follows this one, in milliseconds, without jitter. */
  pauseMs: number;
}

/** Answers that slow the whole subscription down and whose Retry-After is heeded: it is overloaded, or down for a while. */
const SLOW_DOWN = new Set([429, 502, 503, 504]);
const GONE = 410;

/** WEBHOOK_FAILING_ATTEMPT and the others that say what attempts mean for their subscription. */
export function healthRules(
  config: Pick<
    Config,
    | 'WEBHOOK_FAILING_ATTEMPT'
    | 'WEBHOOK_PAUSE_AFTER_MS'
    | 'WEBHOOK_THROTTLE_BASE_MS'
    | 'WEBHOOK_THROTTLE_CAP_MS'
  >,
): HealthRules {
  return {
    failingAttempt: config.WEBHOOK_FAILING_ATTEMPT,
    pauseAfterMs: config.WEBHOOK_PAUSE_AFTER_MS,
    throttleBaseMs: config.WEBHOOK_THROTTLE_BASE_MS,
    throttleCapMs: config.WEBHOOK_THROTTLE_CAP_MS,
  };
}

/**
 * Signs and posts a webhook once. A subscriber's failure of any kind is a result.
 * @throws what is wrong on our side: no sockets left, no key for the secrets.
 */
export function makeAttempt(
  deps: AttemptDeps,
  plan: AttemptPlan,
  delivery: Deliverable,
  startedAt: Date,
): Promise<MadeAttempt> {
  const traces = tracing();
  if (!traces) return attemptOnce(deps, plan, delivery, startedAt);
  const { within, links } = placeOf(traces.current(), delivery.traceparent);
  return inEntrySpan(
    () => ({
      name: 'POST webhook',
      kind: 'client',
      parent: within,
      links,
      attributes: {
        ...idsOf(delivery),
        'remit.correlation_id': plan.correlationId,
        'remit.delivery_id': plan.deliveryId,
        'remit.attempt': plan.attempt,
        'http.request.method': 'POST',
        'server.address': URL.canParse(delivery.url) ? new URL(delivery.url).hostname : null,
      },
    }),
    (span) => attemptOnce(deps, plan, delivery, startedAt, span),
  );
}

interface AttemptDeps {
  webhooks: Pick<WebhookClient, 'postWebhook'>;
  log: Logger;
}

/**
 * Where an attempt belongs: to the trace of its event, whatever made it. What runs in another trace (a lane, a replay, a
 * shared batch) or in none is linked to.
 */
function placeOf(
  current: TraceSpan | undefined,
  published: string | null,
): { within: TraceSpan | string | null; links: TraceSpan[] } {
  const event = readTraceparent(published);
  if (!event || event.traceId === current?.traceId) return { within: current ?? null, links: [] };
  return { within: published, links: current ? [current] : [] };
}

async function attemptOnce(
  { webhooks, log }: AttemptDeps,
  { deliveryId, attempt, maxAttempts, timeoutMs, correlationId, pauseMs }: AttemptPlan,
  delivery: Deliverable,
  startedAt: Date,
  span?: TraceSpan,
): Promise<MadeAttempt> {
  const { eventId: id, subscriptionId, body, url, generation, attemptsBefore } = delivery;
  const own = delivery.headers();
  const signed = {
    ...signWebhook({ id, at: startedAt, body, secrets: delivery.secrets(startedAt) }),
    ...(span && { [TRACEPARENT]: span.traceparent }),
  };
  const response = await webhooks.postWebhook({ url, headers: { ...own, ...signed }, body, timeoutMs });
  span?.set({ 'http.response.status_code': response.statusCode, 'remit.result': response.result });
  if (response.error !== null) span?.fail(response.error);
  metrics.deliveryAttempts.inc({ result: response.result });
  metrics.deliveryAttemptSeconds.observe(response.durationMs / 1e3);
  const { result, statusCode, durationMs, error, responseBody } = response;
  log.info(
    { correlationId, deliveryId, eventId: id, subscriptionId, attempt, result, statusCode, durationMs },
    'delivery attempt',
  );
  const overloaded = statusCode !== null && SLOW_DOWN.has(statusCode);
  const retryAfterMs = overloaded ? response.retryAfterMs : null;
  const status = statusAfter(response, attempt, maxAttempts);
  const waitMs = status === 'pending' ? delayMs(pauseMs, retryAfterMs ?? 0) : 0;
  return {
    deliveryId,
    attempt,
    generation,
    attemptsBefore,
    startedAt: startedAt.toISOString(),
    durationMs,
    result,
    statusCode,
    error,
    responseBody: responseBody === null ? null : shownBody(responseBody, own, signed),
    url,
    requestHeaders: shownRequestHeaders(own, signed),
    responseHeaders: response.responseHeaders && shownResponseHeaders(response.responseHeaders, own),
    status,
    gone: statusCode === GONE,
    slowDown: overloaded || result === 'timeout',
    retryAfterMs,
    waitMs,
    nextAttemptAt:
      status === 'pending' ? new Date(startedAt.getTime() + durationMs + waitMs).toISOString() : null,
    correlationId,
  };
}

/** The scheduled pause with ±20 % jitter, so that a recovering subscriber is not hit by all at once; Retry-After only lengthens it. */
export function delayMs(scheduledMs: number, retryAfterMs: number): number {
  const jittered = Math.round(scheduledMs * (0.8 + 0.4 * Math.random()));
  return Math.max(jittered, retryAfterMs);
}

/** One that met a 410 is held: its subscription is disabled, and whoever enables it again gets it too. */
function statusAfter(
  { result, statusCode }: WebhookResponse,
  attempt: number,
  maxAttempts: number,
): DeliveryStatus {
  if (result === 'delivered') return 'delivered';
  if (statusCode === GONE) return 'held';
  return attempt >= maxAttempts ? 'exhausted' : 'pending';
}
