import express, { type Request, type RequestHandler, type Response } from 'express';
import { z } from 'zod';
import { RemitError } from '../../contracts/errors';
import { Accepted } from '../../contracts/http';
import { DecardEvent, HEADERS } from '../../contracts/messages';
import { AmountError, parseMajorAmount } from '../../contracts/money';
import { ConfigError, ROLE_NEEDS, signsIncomingWebhooks, type Config } from '../../platform/config';
import { NotQueuedError } from '../../platform/kafka';
import { metrics } from '../../platform/metrics';
import { idsOf } from '../../contracts/tracing';
import { annotate } from '../../platform/tracing';
import { paymentWebhookTopic } from '../../platform/topics';
import { ProviderName, secretVariable } from '../../providers/names';
import {
  BodyError,
  SignatureError,
  subjectOf,
  type Provider,
  type ProviderEvent,
} from '../../providers/provider';
import { verifySignature } from '../../providers/standard-webhooks';
import { fetchPem } from '../fetch-pem';
import { requireJson } from '../json-body';
import type { ApiDeps, RawRoute } from './route';

/** A provider whose webhooks are taken. */
interface Endpoint {
  provider: Provider;
  topic: string;
  /** The present one, and while it is changed the one before; empty where unsigned webhooks are allowed. */
  secrets: readonly string[];
  /** Whether it is there without a secret, and takes what is not signed, where signatures are not required. */
  mayBeUnsigned: boolean;
}

const NEEDED = ROLE_NEEDS.api.filter(signsIncomingWebhooks);

/**
 * What is configured: a provider without a secret is not there.
 * @throws ConfigError that lists every missing secret, that of order and chargeback webhooks too, unless unsigned
 * webhooks are allowed.
 */
export function providerEndpoints(config: Config): Map<string, Endpoint> {
  const missing = NEEDED.filter((name) => !config[name]);
  if (config.PROVIDER_SIGNATURES_REQUIRED && missing.length > 0)
    throw new ConfigError(
      `The configuration has ${missing.length} mistake${missing.length > 1 ? 's' : ''}:\n` +
        missing
          .map(
            (name) =>
              `  - ${name} is not set (or allow unsigned webhooks: PROVIDER_SIGNATURES_REQUIRED=false)`,
          )
          .join('\n') +
        '\nEvery variable is described in .env.example.',
    );
  const endpoints = config.providers.flatMap((provider): [string, Endpoint][] => {
    const variable = secretVariable(provider.name);
    const secrets = config[variable]?.split(',').filter(Boolean) ?? [];
    const mayBeUnsigned = NEEDED.some((name) => name === variable) && !config.PROVIDER_SIGNATURES_REQUIRED;
    if (secrets.length === 0 && !mayBeUnsigned) return [];
    const topic = paymentWebhookTopic(config, provider.name);
    return [[provider.name, { provider, topic, secrets, mayBeUnsigned }]];
  });
  return new Map(endpoints);
}

/** Kafka refuses longer values, so that a larger body could never be queued. */
export function bodyLimit(config: Pick<Config, 'API_BODY_LIMIT_BYTES' | 'KAFKA_MESSAGE_MAX_BYTES'>): number {
  return Math.min(config.API_BODY_LIMIT_BYTES, config.KAFKA_MESSAGE_MAX_BYTES);
}

/** The webhook-id of what nobody signed, when it can be one. */
function unsignedId({ headers }: Request): string | undefined {
  const id = headers['webhook-id'];
  return typeof id === 'string' && /^[\x21-\x7e]{1,256}$/.test(id) ? id : undefined;
}

/**
 * Checks who sent a webhook, by its signature over the raw bytes.
 * @returns its webhook-id; undefined when it is unsigned, which configuration allows, and has none that can be one.
 * @throws RemitError signature_invalid.
 */
export function verifySender(
  config: Pick<Config, 'PROVIDER_SIGNATURES_REQUIRED' | 'PROVIDER_SIGNATURE_TOLERANCE_S'>,
  keys: readonly Buffer[] | undefined,
  request: Request,
  body: Buffer,
): string | undefined {
  const unsigned = request.headers['webhook-signature'] === undefined;
  if (!keys || (unsigned && !config.PROVIDER_SIGNATURES_REQUIRED)) return unsignedId(request);
  const tolerance = config.PROVIDER_SIGNATURE_TOLERANCE_S;
  const verdict = verifySignature(keys, request.headers, body, tolerance, Date.now());
  if (verdict.valid) return verdict.id;
  throw new RemitError('signature_invalid', `The signature is not valid: ${verdict.reason}.`);
}

/**
 * Checks who sent a provider's webhook.
 * @returns its id, where the signature covers one.
 * @throws RemitError signature_invalid; unavailable when what the signature is checked with can't be had; BodyError.
 */
async function verify(
  { config }: ApiDeps,
  { provider, secrets, mayBeUnsigned }: Endpoint,
  request: Request,
  body: Buffer,
): Promise<string | undefined> {
  const { headers } = request;
  if (mayBeUnsigned && (secrets.length === 0 || headers['webhook-signature'] === undefined))
    return unsignedId(request);
  const tools = {
    nowMs: Date.now(),
    toleranceS: config.PROVIDER_SIGNATURE_TOLERANCE_S,
    fetchPem,
  };
  try {
    return (await provider.verify({ headers, body }, secrets, tools)).webhookId;
  } catch (error) {
    if (!(error instanceof SignatureError)) throw error;
    throw new RemitError('signature_invalid', `The signature is not valid: ${error.message}.`);
  }
}

/** What a body says, at least one event. @throws RemitError invalid_json, invalid_request that names each field. */
function readEvents(provider: Provider, body: Buffer, webhookId: string | undefined): ProviderEvent[] {
  const events = provider.events(body, webhookId);
  if (events.length === 0) throw new BodyError('', 'says nothing');
  return events;
}

function asProblem(error: unknown): unknown {
  if (!(error instanceof BodyError)) return error;
  const fields = error.fields.map(({ path, message }) => ({ path: path || 'body', message }));
  return error.code === 'invalid_json'
    ? new RemitError('invalid_json', 'The body is not valid JSON in UTF-8.', fields)
    : new RemitError('invalid_request', 'The event is not valid.', fields);
}

function requireContentType(request: Request, { contentType }: Provider): void {
  if (contentType === 'application/json') return requireJson(request);
  if (!request.is(contentType))
    throw new RemitError('unsupported_media_type', `Send ${contentType} in UTF-8, not compressed.`);
}

/**
 * Takes a provider's webhook: verifies the signature over the raw bytes, reads what it says, publishes the very bytes, one
 * message for each event, and answers only after the brokers have acknowledged all of them. Everything heavier happens
 * behind Kafka.
 */
function receive(deps: ApiDeps): RequestHandler[] {
  const { config, producer } = deps;
  const endpoints = providerEndpoints(config);

  const find: RequestHandler = (request, response, next) => {
    const endpoint = endpoints.get(String(request.params['provider']));
    if (!endpoint) throw new RemitError('not_found', 'There is no such provider.');
    requireContentType(request, endpoint.provider);
    response.locals['endpoint'] = endpoint;
    next();
  };

  const publish = async (request: Request, response: Response): Promise<void> => {
    const endpoint = response.locals['endpoint'] as Endpoint;
    const { provider, topic } = endpoint;
    const body: unknown = request.body;
    const bytes = Buffer.isBuffer(body) ? body : Buffer.alloc(0);
    const { correlationId } = request.remit;
    const receivedAt = new Date().toISOString();
    try {
      const webhookId = await verify(deps, endpoint, request, bytes);
      const events = readEvents(provider, bytes, webhookId);
      annotate(() => ({ 'remit.provider': provider.name, ...idsOf(events[0]) }));
      await Promise.all(
        events.map((event, index) =>
          producer.send({
            topic,
            key: subjectOf(event),
            value: bytes,
            headers: {
              [HEADERS.correlationId]: correlationId,
              ...(webhookId === undefined ? {} : { [HEADERS.providerEventId]: webhookId }),
              ...(events.length === 1 ? {} : { [HEADERS.eventIndex]: String(index) }),
              [HEADERS.receivedAt]: receivedAt,
            },
          }),
        ),
      );
    } catch (error) {
      const problem = asProblem(error);
      metrics.webhooksReceived.inc({ provider: provider.name, result: resultOf(problem) });
      throw problem;
    }
    metrics.webhooksReceived.inc({ provider: provider.name, result: 'accepted' });
    if (response.headersSent) return;
    const {
      status,
      contentType,
      body: text,
    } = provider.acknowledgement ?? {
      status: 202,
      contentType: 'application/json',
      body: `{"accepted":true,"correlationId":"${correlationId}"}`,
    };
    response.statusCode = status;
    response.setHeader('Content-Type', contentType);
    response.end(text);
  };

  return [find, express.raw({ type: () => true, limit: bodyLimit(config), inflate: false }), publish];
}

/** How a webhook that was not taken counts in the metrics. */
export function resultOf(error: unknown): string {
  if (error instanceof NotQueuedError) return 'not_queued';
  const { code } = error instanceof RemitError ? error : { code: undefined };
  return code === 'signature_invalid' || code === 'unavailable' ? code : 'invalid';
}

/** Checks that an amount can be read exactly. @throws RemitError invalid_request that names it. */
export function requireExactAmount(amount: number | string, currency: string): void {
  try {
    parseMajorAmount(amount, currency);
  } catch (error) {
    if (!(error instanceof AmountError)) throw error;
    throw new RemitError('invalid_request', 'The event is not valid.', [
      { path: 'amount', message: error.message },
    ]);
  }
}

export const providerWebhookRoute: RawRoute = {
  method: 'post',
  path: '/webhooks/providers/:provider',
  operationId: 'receiveProviderWebhook',
  tag: 'Provider webhooks',
  summary: 'Take a provider’s webhook',
  description:
    'In the provider’s own format, signed in its own scheme (docs/providers.md). The body below is DeCard’s, which is signed as Standard Webhooks say: headers webhook-id, webhook-timestamp, webhook-signature. Send the same event again (same id) on any answer but 200 and 202.',
  access: 'public',
  params: z.strictObject({ provider: ProviderName }),
  body: DecardEvent,
  responses: {
    200: { description: 'The same, in the words that the provider wants to read (Adyen, PayTR)' },
    202: { description: 'Queued: Kafka has it on all in-sync replicas', schema: Accepted },
  },
  problems: ['signature_invalid', 'not_found', 'not_queued', 'unavailable'],
  handlers: receive,
  lean: true,
};
