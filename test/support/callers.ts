import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Webhook } from 'standardwebhooks';
import { sendProviderWebhook, type WebhookAnswer } from '../../src/operations/send';
import type { Config } from '../../src/platform/config';
import { CURRENCY } from './money';

const AGAIN_MS = 250;
/** Answers to try again after, among those that name the caller's fault: too slow, under way already, too often. */
const PASSING = [408, 409, 429];

/** What the provider says of a payment of 1.00 that succeeded; the same id each time, so that a repetition is one. */
export const successWebhook = (
  api: string,
  { PROVIDER_SECRET_DECARD: secret }: Pick<Config, 'PROVIDER_SECRET_DECARD'>,
  transactionId: string,
  timeoutMs = 15_000,
): Promise<WebhookAnswer> =>
  sendProviderWebhook({
    ...{ url: api, secret, provider: 'decard', transactionId, status: 'success', amount: '1' },
    ...{ currency: CURRENCY, type: 'payment', id: `msg-${transactionId}`, timeoutMs },
  });

/** Headers of a webhook that is signed over exactly that text. @param secret `whsec_…`. */
export const signedHeaders = (
  secret: string,
  text: string,
  id = `msg_${randomUUID()}`,
  at = new Date(),
): Record<string, string> => ({
  'webhook-id': id,
  'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
  'webhook-signature': new Webhook(secret).sign(id, at, text),
});

/**
 * Posts JSON. @param body a value, or a text that is sent as it is, because it was signed.
 * @returns what was answered. @throws when there is no answer in time, or none in JSON.
 */
export async function postJson(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
  timeoutMs = 30_000,
): Promise<{ status: number; body: unknown }> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    signal: AbortSignal.timeout(timeoutMs),
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
}

/**
 * What a caller does who must know: the same request under the same key, until it is answered with one of the statuses that are
 * wanted. It goes on for as long as the test does. @returns the body of that answer.
 * @throws Error on an answer that says that the request itself is wrong.
 */
export async function insist<Body>(
  send: () => Promise<{ status: number; body: Body }>,
  wanted: readonly number[],
): Promise<Body> {
  for (;;) {
    const answer = await send().catch(() => undefined);
    if (answer && wanted.includes(answer.status)) return answer.body;
    if (answer && answer.status >= 400 && answer.status < 500 && !PASSING.includes(answer.status))
      throw new Error(`answered ${answer.status}: ${JSON.stringify(answer.body)}`);
    await sleep(AGAIN_MS);
  }
}
