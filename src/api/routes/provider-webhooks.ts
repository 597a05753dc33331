import express, { type Request, type RequestHandler, type Response } from 'express';
import { z } from 'zod';
import { RemitError } from '../../contracts/errors';
import { Accepted, ProviderName } from '../../contracts/http';
import { DecardEvent, HEADERS } from '../../contracts/messages';
import { AmountError, parseMajorAmount } from '../../contracts/money';
import { ConfigError, type Config } from '../../platform/config';
import { NotQueuedError } from '../../platform/kafka';
import { metrics } from '../../platform/metrics';
import { paymentWebhookTopic, PROVIDERS, type Provider } from '../../platform/topics';
import { readJson, requireJson } from '../json-body';
import { invalidRequest } from '../problem';
import { decodeSecret, verifySignature } from '../provider-signature';
import type { ApiDeps, RawRoute } from './route';

/** Secrets and schemas by provider; a new provider is a line in each. */
const SECRET_VARIABLE = { decard: 'PROVIDER_SECRET_DECARD' } as const satisfies Record<
  Provider,
  keyof Config
>;
const EVENT = { decard: DecardEvent } as const satisfies Record<Provider, z.ZodType>;

interface Endpoint {
  provider: Provider;
  topic: string;
  key: Buffer | undefined;
}

/**
 * What is configured for each provider.
 * @throws ConfigError that lists every missing secret, that of order and chargeback webhooks too, unless unsigned
 * webhooks are allowed.
 */
export function providerEndpoints(config: Config): Map<string, Endpoint> {
  const names: (keyof Config)[] = [
    ...PROVIDERS.map((provider) => SECRET_VARIABLE[provider]),
    'PROVIDER_SECRET_PAYMENTS',
  ];
  const missing = names.filter((name) => !config[name]);
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
  return new Map(
    PROVIDERS.map((provider) => {
      const secret = config[SECRET_VARIABLE[provider]];
      return [
        provider,
        {
          provider,
          topic: paymentWebhookTopic(config, provider),
          key: secret ? decodeSecret(secret) : undefined,
        },
      ];
    }),
  );
}

/** Kafka refuses longer values, so that a larger body could never be queued. */
export function bodyLimit(config: Pick<Config, 'API_BODY_LIMIT_BYTES' | 'KAFKA_MESSAGE_MAX_BYTES'>): number {
  return Math.min(config.API_BODY_LIMIT_BYTES, config.KAFKA_MESSAGE_MAX_BYTES);
}

/**
 * Checks who sent a webhook, by its signature over the raw bytes.
 * @returns its webhook-id; undefined when it is unsigned, which configuration allows, and has none that can be one.
 * @throws RemitError signature_invalid.
 */
export function verifySender(
  config: Pick<Config, 'PROVIDER_SIGNATURES_REQUIRED' | 'PROVIDER_SIGNATURE_TOLERANCE_S'>,
  key: Buffer | undefined,
  request: Request,
  body: Buffer,
): string | undefined {
  const id = request.headers['webhook-id'];
  const unsigned = request.headers['webhook-signature'] === undefined;
  if (!key || (unsigned && !config.PROVIDER_SIGNATURES_REQUIRED))
    return typeof id === 'string' && /^[\x21-\x7e]{1,256}$/.test(id) ? id : undefined;
  const tolerance = config.PROVIDER_SIGNATURE_TOLERANCE_S;
  const verdict = verifySignature(key, request.headers, body, tolerance, Date.now());
  if (verdict.valid) return verdict.id;
  throw new RemitError('signature_invalid', `The signature is not valid: ${verdict.reason}.`);
}

/**
 * Takes a provider's webhook: verifies the signature over the raw bytes, checks the event, publishes the very bytes,
 * and answers 202 only after the brokers have acknowledged. Everything heavier happens behind Kafka.
 */
function receive(deps: ApiDeps): RequestHandler[] {
  const { config, producer } = deps;
  const endpoints = providerEndpoints(config);

  const find: RequestHandler = (request, response, next) => {
    const endpoint = endpoints.get(String(request.params['provider']));
    if (!endpoint) throw new RemitError('not_found', 'There is no such provider.');
    requireJson(request);
    response.locals['endpoint'] = endpoint;
    next();
  };

  const publish = async (request: Request, response: Response): Promise<void> => {
    const endpoint = response.locals['endpoint'] as Endpoint;
    const body: unknown = request.body;
    const bytes = Buffer.isBuffer(body) ? body : Buffer.alloc(0);
    const { correlationId } = request.remit;
    try {
      const eventId = verifySender(config, endpoint.key, request, bytes);
      const key = readEvent(endpoint.provider, bytes);
      await producer.send({
        topic: endpoint.topic,
        key,
        value: bytes,
        headers: {
          [HEADERS.correlationId]: correlationId,
          ...(eventId === undefined ? {} : { [HEADERS.providerEventId]: eventId }),
          [HEADERS.receivedAt]: new Date().toISOString(),
        },
      });
    } catch (error) {
      metrics.webhooksReceived.inc({ provider: endpoint.provider, result: resultOf(error) });
      throw error;
    }
    metrics.webhooksReceived.inc({ provider: endpoint.provider, result: 'accepted' });
    if (response.headersSent) return;
    response.statusCode = 202;
    response.setHeader('Content-Type', 'application/json');
    response.end(`{"accepted":true,"correlationId":"${correlationId}"}`);
  };

  return [find, express.raw({ type: () => true, limit: bodyLimit(config), inflate: false }), publish];
}

/** How a webhook that was not taken counts in the metrics. */
export function resultOf(error: unknown): string {
  if (error instanceof NotQueuedError) return 'not_queued';
  return error instanceof RemitError && error.code === 'signature_invalid' ? 'signature_invalid' : 'invalid';
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

/**
 * Checks that the bytes are an event that the bridge will understand.
 * @returns the message key: its transaction id.
 * @throws RemitError invalid_json, invalid_request that names each field.
 */
function readEvent(provider: Provider, bytes: Buffer): string {
  const { json } = readJson(bytes);
  const parsed = EVENT[provider].safeParse(json);
  if (!parsed.success) throw invalidRequest(parsed.error, 'The event is not valid.');
  const event = parsed.data;
  requireExactAmount(event.amount, event.currency);
  return event.transactionId;
}

export const providerWebhookRoute: RawRoute = {
  method: 'post',
  path: '/webhooks/providers/:provider',
  operationId: 'receiveProviderWebhook',
  tag: 'Provider webhooks',
  summary: 'Take a provider’s webhook',
  description:
    'Signed as Standard Webhooks say: headers webhook-id, webhook-timestamp, webhook-signature. Send the same event again (same webhook-id) on any answer but 202.',
  access: 'public',
  params: z.strictObject({ provider: ProviderName }),
  body: DecardEvent,
  responses: { 202: { description: 'Queued: Kafka has it on all in-sync replicas', schema: Accepted } },
  problems: ['signature_invalid', 'not_found', 'not_queued'],
  handlers: receive,
  lean: true,
};
