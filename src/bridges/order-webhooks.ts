import type { Client } from '@temporalio/client';
import { defineSearchAttributeKey, TypedSearchAttributes } from '@temporalio/common';
import { OrderWebhook } from '../contracts/messages';
import {
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type OrderEvent,
  type OrderWorkflowInput,
} from '../contracts/workflows';
import type { Config } from '../platform/config';
import { parseEnvelope } from './envelopes';
import type { IncomingMessage } from './message';
import { exactAmount, payloadHash } from './payments';
import { takenByTemporal } from './temporal-start';

const RemitOrderId = defineSearchAttributeKey('RemitOrderId', 'KEYWORD');

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
  return async (message) => signalOrder(client, config, parseOrderWebhook(message));
}

/** Hands what a provider says of an order to the order's one workflow, which is started where none runs. */
export async function signalOrder(
  client: Client,
  config: Pick<Config, 'BRIDGE_START_TIMEOUT_MS'>,
  event: OrderEvent,
): Promise<void> {
  const input: OrderWorkflowInput = { orderId: event.orderId };
  await takenByTemporal(client, config.BRIDGE_START_TIMEOUT_MS, () =>
    client.workflow.signalWithStart(WORKFLOWS.order, {
      workflowId: workflowId.order(event.orderId),
      taskQueue: TASK_QUEUES.orders,
      args: [input],
      signal: SIGNALS.orderEvent,
      signalArgs: [event],
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      typedSearchAttributes: new TypedSearchAttributes([{ key: RemitOrderId, value: event.orderId }]),
      memo: { correlationId: event.correlationId },
    }),
  );
}
