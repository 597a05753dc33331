import { randomUUID } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { parseChargeback } from '../../../src/bridges/disputes';
import { parseOrderWebhook } from '../../../src/bridges/order-webhooks';
import { Accepted } from '../../../src/contracts/http';
import { Envelope } from '../../../src/contracts/messages';
import type { IncomingMessage } from '../../../src/bridges/message';
import { readTopic } from '../../support/topics';
import { expectProblem, TestApi, type Reply } from './support';

let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start();
});
afterAll(() => api?.stop());

const ORDERS = '/webhooks/payments/orders';
const CHARGEBACKS = '/webhooks/payments/chargebacks';

function send(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Reply> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const [id, at] = [`msg_${randomUUID()}`, new Date()];
  const signature = new Webhook(api.space.config.ORDER_WEBHOOK_SECRET!).sign(id, at, text);
  return api.call(
    'POST',
    path,
    {
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
      'webhook-signature': signature,
      ...headers,
    },
    text,
  );
}

const orderWebhook = (changes: object = {}) => ({
  provider_event_id: `evt-${randomUUID()}`,
  order_id: randomUUID(),
  user_id: 'user-1',
  status: 'success',
  amount: 50,
  currency: 'TRY',
  ...changes,
});
const chargeback = (changes: object = {}) => ({
  provider_event_id: `evt-${randomUUID()}`,
  order_id: randomUUID(),
  status: 'opened',
  ...changes,
});
/** The messages of a topic that are of this order. */
const queued = async (topic: string, orderId: string): Promise<IncomingMessage[]> =>
  (await readTopic(api.space, topic, (message) => String(message.key) === orderId)).map((message) => ({
    ...message,
    topic,
    partition: 0,
    headers: message.headers ?? {},
    timestampMs: Number(message.timestamp),
  }));

describe('an order webhook', () => {
  it('is answered 202 once Kafka has it in an envelope, keyed by order, its text untouched', async () => {
    const body = orderWebhook({ extra: { kept: 1.0 }, user_id: 'Zoë' });
    const text = JSON.stringify(body, null, 1).replace('"amount": 50', '"amount": 50.00');
    const reply = await send(ORDERS, text, { 'x-correlation-id': 'from-the-provider' });
    expect(reply.status).toBe(202);
    expect(Accepted.parse(reply.body).correlationId).toBe('from-the-provider');
    const [message] = await queued(api.space.config.TOPIC_WEBHOOKS_ORDERS, body.order_id);
    const value = message!.value!.toString();
    expect(value).toContain(text);
    expect(Envelope.parse(JSON.parse(value))).toMatchObject({ key: body.order_id, type: 'order.webhook' });
    expect(parseOrderWebhook(message!)).toMatchObject({
      providerEventId: body.provider_event_id,
      amountMinor: '5000',
      correlationId: 'from-the-provider',
    });
  });

  it.each<[string, object, string]>([
    ['no order id', { order_id: undefined }, 'order_id'],
    ['an order id that is no UUID', { order_id: 'order-1' }, 'order_id'],
    ['no event id', { provider_event_id: '' }, 'provider_event_id'],
    ['a status that nobody knows', { status: 'paid' }, 'status'],
    ['more decimals than the currency has', { amount: '1.001' }, 'amount'],
    ['a currency that there is not', { currency: 'TRL' }, 'currency'],
    ['a NUL in its user', { user_id: 'a\u0000b' }, 'user_id'],
  ])('with %s is refused, and the field is named', async (_what, changes, field) => {
    const problem = expectProblem(await send(ORDERS, orderWebhook(changes)), 400, 'invalid_request');
    expect(problem.errors.map(({ path }) => path)).toContain(field);
  });

  it('with an amount that JSON can’t hold exactly is refused', async () => {
    const text = JSON.stringify(orderWebhook()).replace('"amount":50', '"amount":50.00000000000000001');
    expectProblem(await send(ORDERS, text), 400, 'invalid_request');
  });

  it('without a signature, or with that of another provider, is refused', async () => {
    const text = JSON.stringify(orderWebhook());
    expectProblem(await api.call('POST', ORDERS, {}, text), 401, 'signature_invalid');
    expectProblem(await api.call('POST', ORDERS, api.sign(text), text), 401, 'signature_invalid');
  });

  it('that is no JSON, or not said to be, is refused', async () => {
    expectProblem(await send(ORDERS, '{"order_id":'), 400, 'invalid_json');
    expectProblem(
      await send(ORDERS, orderWebhook(), { 'content-type': 'text/plain' }),
      415,
      'unsupported_media_type',
    );
    expectProblem(await api.call('GET', ORDERS), 405, 'method_not_allowed');
  });
});

describe('a chargeback', () => {
  it('is queued on its own topic; without a dispute id it is the order’s one dispute', async () => {
    const body = chargeback({ reason: 'fraudulent', evidence_due_by: '2026-12-01T10:00:00+03:00' });
    expect((await send(CHARGEBACKS, body)).status).toBe(202);
    const [message] = await queued(api.space.config.TOPIC_WEBHOOKS_DISPUTES, body.order_id);
    expect(Envelope.parse(JSON.parse(message!.value!.toString()))).toMatchObject({ type: 'dispute.webhook' });
    expect(parseChargeback(message!)).toMatchObject({
      disputeId: `order-${body.order_id}`,
      amountMinor: null,
      currency: null,
      evidenceDueBy: '2026-12-01T07:00:00.000Z',
    });
  });

  it.each([
    [{ evidence_due_by: 'tomorrow' }],
    [{ evidence_due_by: '0000-01-01T00:00:00Z' }],
    [{ evidence_due_by: '9999-12-31T23:59:59-05:00' }],
    [{ evidence_due_by: 1_798_761_600 }],
    [{ reason: 'a\u0000b\n' }],
    [{ reason: 4853 }],
  ])('is taken with %j, which decides nothing', async (changes) => {
    expect((await send(CHARGEBACKS, chargeback(changes))).status).toBe(202);
  });

  it('may say null for what it does not know', async () => {
    const unknown = { dispute_id: null, amount: null, currency: null, reason: null, evidence_due_by: null };
    expect((await send(CHARGEBACKS, chargeback(unknown))).status).toBe(202);
  });

  it.each<[string, object, string]>([
    ['an amount without a currency', { amount: 10 }, 'currency'],
    ['a dispute id that can’t be part of a path', { dispute_id: '../1' }, 'dispute_id'],
    ['a status of payments', { status: 'success' }, 'status'],
  ])('with %s is refused, and the field is named', async (_what, changes, field) => {
    const problem = expectProblem(await send(CHARGEBACKS, chargeback(changes)), 400, 'invalid_request');
    expect(problem.errors.map(({ path }) => path)).toContain(field);
  });
});
