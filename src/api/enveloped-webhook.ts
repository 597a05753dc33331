import { randomUUID } from 'node:crypto';
import express, { type Request, type RequestHandler, type Response } from 'express';
import type { z } from 'zod';
import { HEADERS, type Envelope } from '../contracts/messages';
import type { Config } from '../platform/config';
import { metrics } from '../platform/metrics';
import { annotate } from '../platform/tracing';
import { readJson, requireJson } from './json-body';
import { invalidRequest } from './problem';
import { decodeSecrets } from '../providers/standard-webhooks';
import { bodyLimit, requireExactAmount, resultOf, verifySender } from './routes/provider-webhooks';
import type { ApiDeps } from './routes/route';

/** What an envelope adds to its payload, generously. */
const ENVELOPE_BYTES = 1_024;

/** What webhooks that travel in envelopes have in common. */
interface Enveloped {
  order_id: string;
  amount?: number | string | null | undefined;
  currency?: string | null | undefined;
}

/**
 * Takes a webhook that travels in an envelope: verifies the signature over the raw bytes, checks the event, wraps the
 * very text of the body, and answers 202 only after the brokers have acknowledged.
 */
export function takeEnveloped(
  { config, producer }: ApiDeps,
  type: Envelope['type'],
  schema: z.ZodType<Enveloped>,
  topic: (config: Config) => string,
): RequestHandler[] {
  const secret = config.ORDER_WEBHOOK_SECRET;
  const keys = secret ? decodeSecrets(secret) : undefined;

  const onlyJson: RequestHandler = (request, _response, next) => {
    requireJson(request);
    next();
  };

  const publish = async (request: Request, response: Response): Promise<void> => {
    const body: unknown = request.body;
    const bytes = Buffer.isBuffer(body) ? body : Buffer.alloc(0);
    const { correlationId } = request.remit;
    const receivedAt = new Date().toISOString();
    try {
      verifySender(config, keys, request, bytes);
      const { text, json } = readJson(bytes);
      const parsed = schema.safeParse(json);
      if (!parsed.success) throw invalidRequest(parsed.error, 'The event is not valid.');
      const { order_id: orderId, amount, currency } = parsed.data;
      if (amount && currency) requireExactAmount(amount, currency);
      annotate(() => ({ 'remit.order_id': orderId }));
      await producer.send({
        topic: topic(config),
        key: orderId,
        value: envelope(type, orderId, text, receivedAt),
        headers: { [HEADERS.correlationId]: correlationId, [HEADERS.receivedAt]: receivedAt },
      });
    } catch (error) {
      metrics.webhooksReceived.inc({ provider: 'payments', result: resultOf(error) });
      throw error;
    }
    metrics.webhooksReceived.inc({ provider: 'payments', result: 'accepted' });
    if (response.headersSent) return;
    response.status(202).json({ accepted: true, correlationId });
  };

  const limit = Math.min(bodyLimit(config), config.KAFKA_MESSAGE_MAX_BYTES - ENVELOPE_BYTES);
  return [onlyJson, express.raw({ type: () => true, limit: Math.max(1, limit), inflate: false }), publish];
}

/** The payload is the body's own text: parsing and writing it again could change its numbers. */
function envelope(type: Envelope['type'], key: string, payload: string, timestamp: string): Buffer {
  const head = JSON.stringify({ event_id: randomUUID(), key, type, timestamp } satisfies Omit<
    Envelope,
    'payload'
  >);
  return Buffer.from(`${head.slice(0, -1)},"payload":${payload}}`);
}
