import type { Client } from '@temporalio/client';
import { ChargebackWebhook } from '../contracts/messages';
import { SIGNALS, WORKFLOWS, type DisputeEvent } from '../contracts/workflows';
import { disputeStart } from '../contracts/workflows/starts';
import type { Config } from '../platform/config';
import { parseEnvelope } from './envelopes';
import type { IncomingMessage } from './message';
import { exactAmount, payloadHash } from './payments';
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
  return async (message) => signalDispute(client, config, parseChargeback(message));
}

/** Hands what a provider says of a dispute to the dispute's one workflow, which is started where none runs. */
export async function signalDispute(
  client: Client,
  config: Pick<Config, 'BRIDGE_START_TIMEOUT_MS'>,
  event: DisputeEvent,
): Promise<void> {
  await takenByTemporal(client, config.BRIDGE_START_TIMEOUT_MS, () =>
    client.workflow.signalWithStart(WORKFLOWS.dispute, {
      ...disputeStart(event),
      signal: SIGNALS.disputeEvent,
      signalArgs: [event],
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      memo: { correlationId: event.correlationId },
    }),
  );
}
