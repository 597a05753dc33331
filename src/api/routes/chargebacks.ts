import { Accepted } from '../../contracts/http';
import { ChargebackWebhook } from '../../contracts/messages';
import { takeEnveloped } from '../enveloped-webhook';
import type { RawRoute } from './route';

export const chargebackRoute: RawRoute = {
  method: 'post',
  path: '/webhooks/payments/chargebacks',
  operationId: 'receiveChargeback',
  tag: 'Provider webhooks',
  summary: 'Take a provider’s chargeback of an order',
  description:
    'Signed as Standard Webhooks say, with ORDER_WEBHOOK_SECRET. Send the same event again (same provider_event_id) on any answer but 202.',
  access: 'public',
  body: ChargebackWebhook,
  responses: { 202: { description: 'Queued: Kafka has it on all in-sync replicas', schema: Accepted } },
  problems: ['signature_invalid', 'not_queued'],
  handlers: (deps) =>
    takeEnveloped(deps, 'dispute.webhook', ChargebackWebhook, (config) => config.TOPIC_WEBHOOKS_DISPUTES),
  lean: true,
};
