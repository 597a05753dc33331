import { randomUUID } from 'node:crypto';
import { Dispute, DisputePage, DisputeWithEvidence, Refund, RefundPage } from '../../../src/contracts/orders';
import { startApi } from '../../../src/roles/api';
import { startBridge } from '../../../src/roles/bridge';
import { startRelay } from '../../../src/roles/relay';
import { startWorker } from '../../../src/roles/worker';
import { mintToken } from '../../../src/operations/token';
import {
  createTestSpace,
  eventually,
  openTestDatabase,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { signedHeaders } from '../../support/callers';
import { paidOrder } from '../../support/disputes';
import { inspectLedger, SOUND } from '../../support/money';
import { withDatabase } from '../../support/shared-stack';
import { readTopic } from '../../support/topics';
import type { Database } from '../../../src/platform/postgres';

let space: TestSpace;
let running: RunningRoles<{ url: string }>;
let db: Database;
let token: string;
beforeAll(async () => {
  space = await createTestSpace({
    topics: true,
    temporal: true,
    env: { UNKNOWN_TRANSACTION_WAIT_MS: '3000' },
  });
  db = openTestDatabase(space);
  token = await mintToken(space.config, { subject: 'operator', scopes: ['admin'], expiresInS: 600 });
  running = await runRoles(space, async (context) => {
    const [api] = await Promise.all([
      startApi(context),
      startBridge(context),
      startWorker(context),
      startRelay(context),
    ]);
    return api;
  });
});
afterAll(async () => {
  await running?.stop();
  expect(await inspectLedger(db)).toEqual(SOUND);
  await db.close();
});

async function call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(running.started.url + path, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

async function webhook(kind: 'orders' | 'chargebacks', body: object): Promise<void> {
  const text = JSON.stringify(body);
  const response = await fetch(`${running.started.url}/webhooks/payments/${kind}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...signedHeaders(space.config.ORDER_WEBHOOK_SECRET!, text),
    },
    body: text,
  });
  expect(response.status).toBe(202);
}

const chargeback = (orderId: string, status: string, changes: object = {}) =>
  webhook('chargebacks', { provider_event_id: randomUUID(), order_id: orderId, status, ...changes });
const until = (id: string, status: string) =>
  eventually(async () => {
    const { body } = await call('GET', `/api/v1/disputes/${id}`);
    expect(body['status']).toBe(status);
    return DisputeWithEvidence.parse(body);
  });
const order = async (id: string) => (await db.prisma.order.findUnique({ where: { id } }))!;
const EVIDENCE = { text: 'Signed for by the customer.\nSee the receipt.', documents: [] };

describe('a dispute, from the webhook to its end', () => {
  it.each([
    ['two\nlines\tand a tab', 'two lines and a tab'],
    ['NUL \u0000 and half \ud83d an emoji', 'NUL and half \ufffd an emoji'],
    ['x'.repeat(501), `${'x'.repeat(499)}…`],
    [4853, '4853'],
  ])('is opened whatever its reason is: %j', async (reason, shown) => {
    const { id } = await paidOrder(db);
    await chargeback(id, 'opened', { reason, evidence_due_by: 'in a week', memo: '\u0000\ud83d' });
    expect(await until(`order-${id}`, 'opened')).toMatchObject({ reason: shown, amount: '50.00' });
  });

  it('is opened, answered with evidence, reviewed and won', async () => {
    const { id } = await paidOrder(db);
    const disputeId = `order-${id}`;
    await chargeback(id, 'opened', { reason: 'fraudulent' });
    expect(await until(disputeId, 'opened')).toMatchObject({ amount: '50.00', evidence: null });

    const submit = (evidence: object) => call('POST', `/api/v1/disputes/${disputeId}/evidence`, evidence);
    const first = await submit(EVIDENCE);
    expect(first.status).toBe(200);
    expect(DisputeWithEvidence.parse(first.body)).toMatchObject({
      status: 'under_review',
      evidence: { ...EVIDENCE, submittedBy: 'token:operator' },
    });
    expect(await submit(EVIDENCE)).toMatchObject({ status: 200, body: { status: 'under_review' } });
    expect(await submit({ text: 'Another story.' })).toMatchObject({
      status: 409,
      body: { code: 'conflict' },
    });

    await chargeback(id, 'won');
    await until(disputeId, 'won');
    expect(await order(id)).toMatchObject({ status: 'FINISHED', disputedMinor: 0n });
    expect(await submit(EVIDENCE)).toMatchObject({ status: 200 });
    expect(await submit({ text: 'Later.' })).toMatchObject({ status: 409 });

    const { body } = await call('GET', `/api/v1/disputes?orderId=${id}&status=won`);
    expect(DisputePage.parse(body).items.map((item) => Dispute.parse(item).id)).toEqual([disputeId]);
  });

  it('expires by its durable timer, and charges the order back', async () => {
    const { id } = await paidOrder(db);
    const due = new Date(Date.now() + 2_000).toISOString();
    await chargeback(id, 'opened', { dispute_id: `dp_${id.slice(0, 8)}`, evidence_due_by: due });
    await until(`dp_${id.slice(0, 8)}`, 'expired');
    expect(await order(id)).toMatchObject({ status: 'CHARGED_BACK', chargedBackMinor: 5_000n });
    expect(await call('POST', `/api/v1/disputes/dp_${id.slice(0, 8)}/evidence`, EVIDENCE)).toMatchObject({
      status: 409,
    });
  });

  it('waits for the order’s payment, which a provider’s webhook brings', async () => {
    const userId = `user-${randomUUID()}`;
    const { id } = await db.prisma.order.create({
      data: {
        ...{ tenantId: 'default', userId, amountMinor: 700n, currency: 'TRY', description: '' },
        ...{ paymentMethod: 'provider', expiresAt: new Date(Date.now() + 600_000) },
      },
    });
    await chargeback(id, 'lost');
    await webhook('orders', {
      provider_event_id: randomUUID(),
      order_id: id,
      user_id: userId,
      status: 'success',
      amount: '7.00',
      currency: 'TRY',
    });
    await until(`order-${id}`, 'lost');
    expect(await order(id)).toMatchObject({ status: 'CHARGED_BACK', collectedAs: 'order' });
  });

  it('and an order webhook of an order that never comes end on the dead-letter queue, with the reason', async () => {
    const unknown = randomUUID();
    await chargeback(unknown, 'opened');
    await webhook('orders', {
      provider_event_id: randomUUID(),
      order_id: unknown,
      user_id: 'nobody',
      status: 'success',
      amount: 1,
      currency: 'TRY',
    });
    for (const topic of [space.config.TOPIC_WEBHOOKS_DISPUTES, space.config.TOPIC_WEBHOOKS_ORDERS]) {
      const [dead] = await readTopic(space, `${topic}.dlq`, ({ key }) => String(key) === unknown);
      expect(String(dead?.headers?.['remit-error-code'])).toBe('unknown_order');
    }
  });

  it('that there is not is 404, whatever its id looks like', async () => {
    for (const id of ['unknown', 'a%00b', '..%2f..', 'x'.repeat(200)]) {
      expect(await call('GET', `/api/v1/disputes/${id}`)).toMatchObject({ status: 404 });
      expect(await call('POST', `/api/v1/disputes/${id}/evidence`, EVIDENCE)).toMatchObject({ status: 404 });
    }
    expect(await call('POST', '/api/v1/disputes/unknown/evidence', {})).toMatchObject({ status: 400 });
  });
});

describe('a refund', () => {
  it('is made in parts, listed, and refused beyond what was paid', async () => {
    const { id } = await paidOrder(db);
    const path = `/api/v1/orders/${id}/refunds`;
    const part = await call('POST', path, { amount: '20.00', reason: 'damaged' });
    expect(part.status).toBe(201);
    expect(Refund.parse(part.body)).toMatchObject({ orderId: id, amount: '20.00', reason: 'damaged' });
    expect(await call('POST', path, { amount: '30.01' })).toMatchObject({
      status: 422,
      body: { code: 'unprocessable', errors: [{ path: 'amount', message: 'must be at most 30.00' }] },
    });
    expect(await call('POST', path)).toMatchObject({ status: 201, body: { amount: '30.00' } });
    const list = RefundPage.parse((await call('GET', path)).body);
    expect(list.items.map(({ amount }) => amount)).toEqual(['30.00', '20.00']);
    expect(list).toMatchObject({ refunded: '50.00', refundable: '0.00' });
  });

  it('is one refund under one Idempotency-Key', async () => {
    const { id } = await paidOrder(db);
    const once = () =>
      call('POST', `/api/v1/orders/${id}/refunds`, { amount: 10 }, { 'idempotency-key': `refund-${id}` });
    const [first, again] = [await once(), await once()];
    expect(first.status).toBe(201);
    expect(again).toEqual(first);
    expect((await order(id)).refundedMinor).toBe(1_000n);
  });

  it('of an order that is not paid is a conflict, of an unknown one 404', async () => {
    const { id } = await db.prisma.order.create({
      data: { tenantId: 'default', userId: 'u', amountMinor: 1n, currency: 'TRY', description: '' },
    });
    expect(await call('POST', `/api/v1/orders/${id}/refunds`, {})).toMatchObject({
      status: 409,
      body: { code: 'conflict' },
    });
    for (const unknown of [randomUUID(), 'not-a-uuid'])
      expect(await call('POST', `/api/v1/orders/${unknown}/refunds`, {})).toMatchObject({ status: 404 });
  });

  it('that would take the balance beyond a bigint is refused, and nothing is changed', async () => {
    const { id, userId } = await paidOrder(db);
    const setBalance = (minor: bigint) =>
      withDatabase(space.ownerUrl, async (client) => {
        await client.query('SET session_replication_role = replica');
        await client.query('UPDATE accounts SET balance_minor = $2 WHERE user_id = $1', [userId, minor]);
      });
    await setBalance(2n ** 63n - 1n);
    expect(await call('POST', `/api/v1/orders/${id}/refunds`, { amount: 1 })).toMatchObject({
      status: 422,
      body: { code: 'unprocessable', detail: expect.stringContaining('nothing was moved') as string },
    });
    expect((await order(id)).refundedMinor).toBe(0n);
    await setBalance(0n);
    expect(await call('POST', `/api/v1/orders/${id}/refunds`, { amount: 1 })).toMatchObject({ status: 201 });
  });

  it('and a dispute of one order at the same time never take more than was paid', async () => {
    const { id } = await paidOrder(db);
    await Promise.all([
      ...Array.from({ length: 6 }, () => call('POST', `/api/v1/orders/${id}/refunds`, { amount: 20 })),
      chargeback(id, 'opened', { amount: 30, currency: 'TRY' }),
    ]);
    await until(`order-${id}`, 'opened');
    const { refundedMinor, disputedMinor } = await order(id);
    expect(refundedMinor + disputedMinor).toBeLessThanOrEqual(5_000n);
    expect(refundedMinor % 2_000n).toBe(0n);
  });
});
