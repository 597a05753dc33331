import { randomUUID } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { request } from 'undici';
import type { Provider, Sample, SampleSubject } from '../providers/provider';

export interface ProviderWebhook {
  /** Base URL of the API. */
  url: string;
  /** `whsec_…`; unsigned without it, which an API refuses unless told otherwise. */
  secret?: string | undefined;
  provider: string;
  transactionId: string;
  status: string;
  /** Major units; text that is a JSON number is sent as one, as providers do. */
  amount: string;
  currency: string;
  type: string;
  /** `webhook-id`: the same id again is the same event. A fresh one when left out. */
  id?: string | undefined;
  correlationId?: string | undefined;
  timeoutMs: number;
}

export interface WebhookAnswer {
  id: string;
  status: number;
  correlationId: string | undefined;
  body: string;
}

const ANSWER_MAX_CHARACTERS = 16_384;

export interface SignedPost {
  /** Base URL of the API. */
  url: string;
  /** `whsec_…`; unsigned without it. */
  secret: string | undefined;
  provider: string;
  /** The exact text that is signed and sent. */
  body: string;
  /** `webhook-id`; a fresh one when left out. */
  id?: string | undefined;
  correlationId?: string | undefined;
  timeoutMs: number;
}

/** Describes a webhook in words and posts it: see postSigned. */
export async function sendProviderWebhook(webhook: ProviderWebhook): Promise<WebhookAnswer> {
  const { provider, transactionId, status, amount, currency, type, ...post } = webhook;
  const exactAsNumber = /^(0|[1-9]\d{0,11})(\.\d{1,3})?$/.test(amount);
  const body = {
    provider,
    transactionId,
    status,
    amount: exactAsNumber ? Number(amount) : amount,
    currency,
    type,
  };
  return postSigned({ ...post, secret: post.secret, provider, body: JSON.stringify(body) });
}

/**
 * Signs and posts a body as a provider would (with the `standardwebhooks` package, not with our own code). Whatever
 * the API answers is returned; it rejects only when there is no answer.
 */
export async function postSigned(post: SignedPost): Promise<WebhookAnswer> {
  const { url, secret, provider, body, id = `msg_${randomUUID().replaceAll('-', '')}`, timeoutMs } = post;
  const now = new Date();
  const headers = {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1_000)),
    ...(secret ? { 'webhook-signature': new Webhook(presentSecret(secret)).sign(id, now, body) } : {}),
    ...(post.correlationId ? { 'x-correlation-id': post.correlationId } : {}),
  };
  return { id, ...(await postTo(url, provider, { headers, body, timeoutMs })) };
}

export interface SampleWebhook {
  /** Base URL of the API. */
  url: string;
  /** As the variable has it: while secrets change there are two, the new one first. */
  secret: string;
  provider: Provider;
  sample: Sample;
  /** A fresh event id when left out. */
  subject: Omit<SampleSubject, 'eventId'> & { eventId: string | undefined };
  timeoutMs: number;
}

/** Posts a sample as its provider would. It rejects only when there is no answer. */
export async function sendSample({ provider, sample, ...given }: SampleWebhook): Promise<WebhookAnswer> {
  const eventId = given.subject.eventId ?? randomUUID().replaceAll('-', '').slice(0, 16).toUpperCase();
  const signed = provider.sign(
    sample.body({ ...given.subject, eventId }),
    presentSecret(given.secret),
    Date.now(),
  );
  return {
    id: eventId,
    ...(await postTo(given.url, provider.name, { ...signed, timeoutMs: given.timeoutMs })),
  };
}

async function postTo(
  url: string,
  provider: string,
  { headers, body, timeoutMs }: { headers: Record<string, string>; body: string; timeoutMs: number },
): Promise<Omit<WebhookAnswer, 'id'>> {
  const answer = await request(new URL(`/webhooks/providers/${encodeURIComponent(provider)}`, url), {
    method: 'POST',
    headers,
    body,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    signal: AbortSignal.timeout(timeoutMs),
  });
  const correlationId = answer.headers['x-correlation-id'];
  return {
    status: answer.statusCode,
    correlationId: typeof correlationId === 'string' ? correlationId : undefined,
    body: (await answer.body.text()).slice(0, ANSWER_MAX_CHARACTERS),
  };
}

/** Of a provider's secrets the one that it signs with: while it is changed there are two, the new one first. */
const presentSecret = (secrets: string): string => secrets.split(',', 1)[0]!.trim();
