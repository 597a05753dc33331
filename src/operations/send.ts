import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { Webhook } from 'standardwebhooks';
import { request } from 'undici';
import { loadConfig } from '../platform/config';
import { secretVariable } from '../providers/names';
import type { Provider, Sample, SampleSubject } from '../providers/provider';
import { localAccess } from './local-access';

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
async function sendSample({ provider, sample, ...given }: SampleWebhook): Promise<WebhookAnswer> {
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

const HOW_TO_START = 'start remit first (npm start), or name the API with --url';

export interface SendOptions {
  transaction?: string;
  type: string;
  status: string;
  id?: string;
  user: string;
  amount?: string;
  currency: string;
  eventId?: string;
  url?: string;
  secret?: string;
  list: boolean;
}

const SEND_TIMEOUT_MS = 15_000;

/**
 * `remit send`: posts one signed provider webhook and prints the answer: a sample of any provider, or with --transaction an
 * event of DeCard's.
 * @returns the process's exit code.
 * @throws Error that says what is missing or unknown.
 */
export async function runSend(
  dataDir: string,
  [name, sampleName]: readonly (string | undefined)[],
  options: SendOptions,
  say: (line: string) => void,
): Promise<number> {
  if (options.list) {
    samplesOf(loadConfig(process.env, []).providers, name).forEach(([provider, sample, { title }]) =>
      say(`${provider}  ${sample}  ${title}`),
    );
    return 0;
  }
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const url = options.url ?? endpoints.api;
  if (!url) throw new Error(`no API is known: ${HOW_TO_START}`);
  const { amount } = options;
  if (amount === undefined) throw new Error('--amount is missing: in major units, 100 is 100.00');
  const access = { url, timeoutMs: SEND_TIMEOUT_MS };
  const unreachable = (error: unknown) => {
    throw new Error(`${url} does not answer (${String(error)}): ${HOW_TO_START}`, { cause: error });
  };
  if (name === undefined) {
    if (options.transaction === undefined)
      throw new Error('name a provider and a sample (remit send --list), or a --transaction of DeCard’s');
    const answer = await sendProviderWebhook({
      ...access,
      secret: options.secret ?? config.PROVIDER_SECRET_DECARD,
      provider: 'decard',
      transactionId: options.transaction,
      status: options.status,
      amount,
      currency: options.currency,
      type: options.type,
      id: options.eventId,
    }).catch(unreachable);
    say(`${answer.status}  webhook-id ${answer.id}  ${answer.body}`);
    return answer.status === 202 ? 0 : 1;
  }

  const { provider, sample } = findSample(config.providers, name, sampleName);
  const secret = options.secret ?? config[secretVariable(provider.name)];
  if (!secret) throw new Error(`${secretVariable(provider.name)} is not set: set it, or give --secret`);
  const id = options.id ?? options.transaction;
  if (id === undefined) throw new Error('--id is missing: of the payment, payout or order');
  const { eventId, user: userId, currency } = options;
  const answer = await sendSample({
    ...access,
    secret,
    provider,
    sample,
    subject: { id, userId, amount, currency, eventId },
  }).catch(unreachable);
  say(`${answer.status}  event ${answer.id}  ${answer.body}`);
  return answer.status === (provider.acknowledgement?.status ?? 202) ? 0 : 1;
}

function samplesOf(
  providers: readonly Provider[],
  name: string | undefined,
): [provider: string, sample: string, Sample][] {
  return providers
    .filter((provider) => name === undefined || provider.name === name)
    .flatMap((provider) =>
      Object.entries(provider.samples).map(([sample, each]): [string, string, Sample] => [
        provider.name,
        sample,
        each,
      ]),
    );
}

function findSample(
  providers: readonly Provider[],
  name: string,
  sampleName: string | undefined,
): { provider: Provider; sample: Sample } {
  const provider = providers.find((each) => each.name === name);
  if (!provider)
    throw new Error(
      `there is no provider ${name}; there are ${providers.map((each) => each.name).join(', ')}`,
    );
  const { samples } = provider;
  const sample =
    sampleName !== undefined && Object.hasOwn(samples, sampleName) ? samples[sampleName] : undefined;
  if (!sample)
    throw new Error(`${name} has no sample ${sampleName ?? ''}; it has ${Object.keys(samples).join(', ')}`);
  return { provider, sample };
}
