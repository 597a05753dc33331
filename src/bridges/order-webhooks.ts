import type { Client } from '@temporalio/client';
import { OrderWebhook } from '../contracts/messages';
import type { OrderEvent } from '../contracts/workflows';
import type { Config } from '../platform/config';
import { idsOf } from '../contracts/tracing';
import { annotate } from '../platform/tracing';
import { signalOrder } from '../platform/workflow-starts';
import { parseEnvelope } from './envelopes';
import type { IncomingMessage } from './message';
import { exactAmount, payloadHash } from './message-fields';
import { takenByTemporal } from './temporal-start';

/** @throws PoisonMessage invalid_json, invalid_message, amount_invalid. */
export function parseOrderWebhook(message: IncomingMessage): OrderEvent {
  const { webhook, common } = parseEnvelope('order.webhook', OrderWebhook, message);
  const { provider_event_id: providerEventId, user_id: userId, status, currency } = webhook;
  const amountMinor = exactAmount(webhook.amount, currency);
  return {
    ...common,
    providerEventId,
    userId,
    status,
    amountMinor,
    currency,
    payloadHash: payloadHash({ ...webhook, amount: amountMinor }),
  };
}

/**
 * The handler of `webhooks.orders`: every webhook of an order reaches that order's one workflow. A late or repeated one
 * opens a short run; whether it changes anything is the database's to judge.
 */
export function orderWebhookHandler(
  client: Client,
  config: Pick<Config, 'BRIDGE_START_TIMEOUT_MS'>,
): (message: IncomingMessage) => Promise<void> {
  return async (message) => {
    const event = parseOrderWebhook(message);
    annotate(() => idsOf(event));
    await takenByTemporal(client, config.BRIDGE_START_TIMEOUT_MS, () => signalOrder(client, event));
  };
}
