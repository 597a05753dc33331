import type { Client } from '@temporalio/client';
import { ChargebackWebhook } from '../contracts/messages';
import type { DisputeEvent } from '../contracts/workflows';
import { idsOf } from '../contracts/tracing';
import type { Config } from '../platform/config';
import { signalDispute } from '../platform/workflow-starts';
import { annotate } from '../platform/tracing';
import { parseEnvelope } from './envelopes';
import type { IncomingMessage } from './message';
import { exactAmount, payloadHash } from './message-fields';
import { takenByTemporal } from './temporal-start';

/** The dispute of a chargeback that names none: all such chargebacks of one order are one dispute. */
export function disputeIdOf(webhook: ChargebackWebhook): string {
  return webhook.dispute_id ?? `order-${webhook.order_id}`;
}

/** @throws PoisonMessage invalid_json, invalid_message, amount_invalid. */
export function parseChargeback(message: IncomingMessage): DisputeEvent {
  const { webhook, common } = parseEnvelope('dispute.webhook', ChargebackWebhook, message);
  const { amount, currency, evidence_due_by: dueBy } = webhook;
  const amountMinor = amount && currency ? exactAmount(amount, currency) : null;
  return {
    ...common,
    providerEventId: webhook.provider_event_id,
    disputeId: disputeIdOf(webhook),
    status: webhook.status,
    amountMinor,
    currency: currency ?? null,
    reason: webhook.reason ?? null,
    evidenceDueBy: dueBy ?? null,
    payloadHash: payloadHash({ ...webhook, amount: amountMinor }),
  };
}

/** The handler of `webhooks.disputes`: every chargeback of a dispute reaches that dispute's one workflow. */
export function chargebackHandler(
  client: Client,
  config: Pick<Config, 'BRIDGE_START_TIMEOUT_MS'>,
): (message: IncomingMessage) => Promise<void> {
  return async (message) => {
    const event = parseChargeback(message);
    annotate(() => idsOf(event));
    await takenByTemporal(client, config.BRIDGE_START_TIMEOUT_MS, () => signalDispute(client, event));
  };
}
