import type { z } from 'zod';
import { Envelope } from '../contracts/messages';
import { headersToStrings } from '../platform/kafka';
import { parseJson, parseWith, PoisonMessage, toMessageRef, type IncomingMessage } from './message';
import { correlationId, receivedAt } from './message-fields';

/** What of an envelope decides: who wrapped it, and when, is for tracing and no reason to refuse what is in it. */
const Wrapping = Envelope.pick({ key: true, type: true, payload: true });

/** The provider of the endpoints under /webhooks/payments; its money is in `clearing:payments`. */
const PAYMENTS_PROVIDER = 'payments';

/**
 * Reads an envelope of the given type and the webhook in it, whoever produced it.
 * @throws PoisonMessage invalid_json, invalid_message: also when envelope and webhook name different orders.
 */
export function parseEnvelope<T extends z.ZodType<{ order_id: string }>>(
  type: Envelope['type'],
  schema: T,
  message: IncomingMessage,
) {
  const json = parseJson(message);
  const envelope = parseWith(Wrapping, json);
  if (envelope.type !== type)
    throw new PoisonMessage('invalid_message', `type: is ${envelope.type}, not ${type}`);
  const webhook = parseWith(schema, envelope.payload);
  if (webhook.order_id !== envelope.key)
    throw new PoisonMessage('invalid_message', 'key: is not the order_id of the payload');
  const headers = headersToStrings(message.headers);
  return {
    webhook,
    common: {
      provider: PAYMENTS_PROVIDER,
      orderId: envelope.key,
      receivedAt: receivedAt(message, headers),
      correlationId: correlationId(headers),
      source: toMessageRef(message),
    },
  };
}
