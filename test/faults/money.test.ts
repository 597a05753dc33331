import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { reconcile } from '../../src/domain/reconciliation';
import { mintToken } from '../../src/operations/token';
import { insist, postJson, signedHeaders, successWebhook } from '../support/callers';
import { eventually } from '../support/harness';
import { CURRENCY, inspectLedger, newTransaction, SOUND, TENANT, userWith } from '../support/money';
import { noteResult } from '../support/nightly';
import { FaultStack } from './money-stack';

/** REMIT_FAULT_ROUNDS: how often each part is killed in turn. */
const ROUNDS = Number(process.env['REMIT_FAULT_ROUNDS'] ?? 1);
const USERS = 10;
const OPENING = 10_000_000n;
const AMOUNT = 100n;
const REFUND = 40n;
const AWAY_MS = 2_000;
const BETWEEN_MS = 2_000;
const PACE_MS = 150;
const ANSWER_MS = 15_000;

let remit: FaultStack;
let asOperator: Record<string, string>;
beforeAll(async () => {
  remit = await FaultStack.start();
  const token = { subject: 'operator', scopes: ['write'], expiresInS: 3_600 };
  asOperator = { authorization: `Bearer ${await mintToken(remit.stack.config, token)}` };
}, 180_000);
afterAll(() => remit?.stop(), 90_000);

const post = (who: Record<string, string>, path: string, body: unknown, key: string) =>
  postJson(remit.api + path, body, { ...who, 'idempotency-key': key }, ANSWER_MS);

function postChargeback(body: unknown) {
  const text = JSON.stringify(body);
  const headers = signedHeaders(remit.stack.config.ORDER_WEBHOOK_SECRET!, text);
  return postJson(`${remit.api}/webhooks/payments/chargebacks`, text, headers, ANSWER_MS);
}

const asUser = (userId: string) => ({ 'x-user-id': userId });

describe('with worker, bridge, API, PostgreSQL and broker killed in turn under load', () => {
  it('what was accepted is applied, once, and the ledger is clean', async () => {
    const users = await Promise.all(Array.from({ length: USERS }, () => userWith(remit.db, OPENING)));
    const accepted = { payments: 0, orders: 0, topUps: 0, refunds: 0, chargebacks: 0 };
    const sending: Promise<void>[] = [];
    let loading = true;

    const load = async (): Promise<void> => {
      for (let i = 0; loading; i++) {
        const userId = users[i % USERS]!;
        sending.push(payment(userId), order(userId, i));
        if (i % 3 === 0) sending.push(topUp(userId));
        await sleep(PACE_MS);
      }
    };
    const payment = async (userId: string): Promise<void> => {
      const { id } = await eventually(() => newTransaction(remit.db, userId, 'payment', AMOUNT), 60_000, 200);
      await insist(() => successWebhook(remit.api, remit.stack.config, id), [202]);
      accepted.payments += 1;
    };
    /** Every third one is refunded in part when it is paid, every fourth one disputed, some of them both. */
    const order = async (userId: string, i: number): Promise<void> => {
      const key = randomUUID();
      const body = { amount: '1.00', currency: CURRENCY };
      const placed = await insist(() => post(asUser(userId), '/orders', body, key), [201]);
      const { id } = placed as { id: string };
      accepted.orders += 1;
      const after: Promise<void>[] = [];
      if (i % 3 === 0) after.push(refund(id));
      if (i % 4 === 0) after.push(chargeback(id, i % 8 === 0 ? 'lost' : 'won'));
      await Promise.all(after);
    };
    const paid = (id: string) =>
      eventually(
        async () => {
          const { status } = await remit.db.prisma.order.findUniqueOrThrow({ where: { id } });
          expect(status).not.toBe('NEW');
        },
        180_000,
        500,
      );
    const refund = async (id: string): Promise<void> => {
      await paid(id);
      const key = randomUUID();
      await insist(() => post(asOperator, `/api/v1/orders/${id}/refunds`, { amount: '0.40' }, key), [201]);
      accepted.refunds += 1;
    };
    const chargeback = async (id: string, verdict: 'won' | 'lost'): Promise<void> => {
      await paid(id);
      for (const status of ['opened', verdict]) {
        const body = {
          provider_event_id: randomUUID(),
          order_id: id,
          status,
          amount: '0.50',
          currency: CURRENCY,
        };
        await insist(() => postChargeback(body), [202]);
        accepted.chargebacks += 1;
      }
    };
    const topUp = async (userId: string): Promise<void> => {
      const key = randomUUID();
      const body = { amount: '1.00', currency: CURRENCY };
      await insist(() => post(asUser(userId), '/accounts/topup', body, key), [200]);
      accepted.topUps += 1;
    };

    const loaded = load();
    for (let round = 0; round < ROUNDS; round++) {
      for (const role of ['worker', 'bridge', 'api'] as const) {
        await sleep(BETWEEN_MS);
        await remit.killRole(role);
      }
      for (const part of ['postgres', 'kafka'] as const) {
        await sleep(BETWEEN_MS);
        await remit.killPart(part, AWAY_MS);
      }
    }
    await sleep(BETWEEN_MS);
    loading = false;
    await loaded;
    await Promise.all(sending);

    const applied = await eventually(
      async () => {
        const { db } = remit;
        const applied = { outcome: 'applied' };
        const [payments, orders, topUps, refunds, chargebacks, events, open] = await Promise.all([
          db.prisma.payment.count({ where: { status: 'succeeded' } }),
          db.prisma.order.count({ where: { status: { in: ['FINISHED', 'CHARGED_BACK'] } } }),
          db.prisma.journalTransaction.count({ where: { kind: 'top_up' } }),
          db.prisma.refund.count(),
          db.prisma.providerEvent.count({ where: { ...applied, provider: 'payments.disputes' } }),
          db.prisma.providerEvent.count({ where: { ...applied, provider: 'decard' } }),
          db.prisma.dispute.count({ where: { closedAt: null } }),
        ]);
        const found = { payments, orders, topUps: topUps - USERS, refunds, chargebacks };
        expect({ found, events, open }).toEqual({ found: accepted, events: accepted.payments, open: 0 });
        return found;
      },
      120_000,
      500,
    );
    const { checks } = await reconcile(remit.db, { maxFindings: 5, days: 1, timeoutMs: 60_000 });
    expect(checks.filter(({ found }) => found > 0)).toEqual([]);
    expect(await inspectLedger(remit.db)).toEqual(SOUND);
    const { _sum } = await remit.db.prisma.account.aggregate({
      where: { tenantId: TENANT },
      _sum: { balanceMinor: true },
    });
    expect(_sum.balanceMinor).toBe(
      OPENING * BigInt(USERS) +
        AMOUNT * BigInt(accepted.payments + accepted.topUps - accepted.orders) +
        REFUND * BigInt(accepted.refunds),
    );
    noteResult(
      `money: accepted ${JSON.stringify(accepted)}, applied ${JSON.stringify(applied)}, roles restarted by themselves ${remit.ended.length}`,
    );
  }, 600_000);
});
