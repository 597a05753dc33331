import { Accepted } from '../../contracts/http';
import { OrderWebhook } from '../../contracts/messages';
import { takeEnveloped } from '../enveloped-webhook';
import type { RawRoute } from './route';

export const orderWebhookRoute: RawRoute = {
  method: 'post',
  path: '/webhooks/payments/orders',
  operationId: 'receiveOrderWebhook',
  tag: 'Provider webhooks',
  summary: 'Take a provider’s report on an order: it collected the money, or could not',
  description:
    'Signed as Standard Webhooks say, with ORDER_WEBHOOK_SECRET. Send the same event again (same provider_event_id) on any answer but 202.',
  access: 'public',
  body: OrderWebhook,
  responses: { 202: { description: 'Queued: Kafka has it on all in-sync replicas', schema: Accepted } },
  problems: ['signature_invalid', 'not_queued'],
  handlers: (deps) =>
    takeEnveloped(deps, 'order.webhook', OrderWebhook, (config) => config.TOPIC_WEBHOOKS_ORDERS),
  lean: true,
};
