import { parseChargeback } from '../../../src/bridges/disputes';
import type { IncomingMessage } from '../../../src/bridges/message';
import { parseOrderWebhook } from '../../../src/bridges/order-webhooks';
import { parsePaymentRequest } from '../../../src/bridges/payment-requests';
import { SIGNAL_BYTES_MAX } from '../../../src/contracts/workflows/limits';
import { decardEvent, message } from './messages';

const ID = '3f6d2c1a-8b4e-4d57-9a10-5c2e7f9b6d31';
/** Everything as long as it may be, of characters that take the most room. */
const EXTRA = { extra: 'x'.repeat(900_000) };
const AT = '2026-11-21T00:00:00.000Z';
const TOPIC = 't'.repeat(249);
const EVENT_ID = '"'.repeat(256);
const CORRELATION_ID = 'c'.repeat(128);
const money = { amount: '9999999999999.99', currency: 'TRY' };
const enveloped = (type: string, payload: object) => ({
  ...{ event_id: ID, key: ID, type, timestamp: AT },
  payload: { provider_event_id: EVENT_ID, order_id: ID, ...money, ...EXTRA, ...payload },
});

it.each<[string, (given: IncomingMessage) => object, object]>([
  [
    'a provider’s event',
    (given) => decardEvent(given),
    { provider: 'decard', transactionId: ID, status: 'success', type: 'payment', ...money, ...EXTRA },
  ],
  [
    'an order webhook',
    parseOrderWebhook,
    enveloped('order.webhook', { user_id: '€'.repeat(128), status: 'success' }),
  ],
  [
    'a chargeback',
    parseChargeback,
    enveloped('dispute.webhook', {
      ...{ dispute_id: 'd'.repeat(64), status: 'opened', reason: '€'.repeat(500), evidence_due_by: AT },
    }),
  ],
  [
    'a payment request',
    parsePaymentRequest,
    { event: 'payment-request', orderId: ID, userId: '€'.repeat(128), requestedAt: AT, ...money, ...EXTRA },
  ],
])('%s of a megabyte is a signal of a few kilobytes at most', (_, parse, value) => {
  const signal = JSON.stringify(
    parse(
      message({
        value,
        topic: TOPIC,
        offset: '9'.repeat(19),
        headers: { 'remit-provider-event-id': EVENT_ID, 'remit-correlation-id': CORRELATION_ID },
      }),
    ),
  );
  expect(Buffer.byteLength(signal)).toBeLessThan(SIGNAL_BYTES_MAX);
});
