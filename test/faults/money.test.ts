import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { reconcile } from '../../src/domain/reconciliation';
import { sendProviderWebhook } from '../../src/roles/send';
import { eventually } from '../support/harness';
import { CURRENCY, inspectLedger, newTransaction, SOUND, TENANT, userWith } from '../support/money';
import { FaultStack } from './money-stack';

/** REMIT_FAULT_ROUNDS: how often each part is killed in turn. */
const ROUNDS = Number(process.env['REMIT_FAULT_ROUNDS'] ?? 1);
const USERS = 10;
const OPENING = 10_000_000n;
const AMOUNT = 100n;
const AWAY_MS = 2_000;
const BETWEEN_MS = 2_000;
const PACE_MS = 150;

let remit: FaultStack;
beforeAll(async () => {
  remit = await FaultStack.start();
}, 180_000);
afterAll(() => remit?.stop(), 90_000);

/** What a caller does who must know: the same request under the same key until there is an answer. */
async function insist(send: () => Promise<number>, accepted: number): Promise<void> {
  for (;;) {
    const status = await send().catch(() => 0);
    if (status === accepted) return;
    if (status >= 400 && status < 500 && status !== 409 && status !== 429)
      throw new Error(`answered ${status}`);
    await sleep(200);
  }
}

async function post(userId: string, path: string, body: unknown, key: string): Promise<number> {
  const response = await fetch(remit.api + path, {
    method: 'POST',
    headers: { 'x-user-id': userId, 'content-type': 'application/json', 'idempotency-key': key },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(15_000),
  });
  await response.arrayBuffer();
  return response.status;
}

describe('with worker, bridge, API, PostgreSQL and broker killed in turn under load', () => {
  it('what was accepted is applied, once, and the ledger is clean', async () => {
    const users = await Promise.all(Array.from({ length: USERS }, () => userWith(remit.db, OPENING)));
    const accepted = { payments: 0, orders: 0, topUps: 0 };
    const sending: Promise<void>[] = [];
    let loading = true;

    const load = async (): Promise<void> => {
      for (let i = 0; loading; i++) {
        const userId = users[i % USERS]!;
        sending.push(payment(userId), order(userId));
        if (i % 3 === 0) sending.push(topUp(userId));
        await sleep(PACE_MS);
      }
    };
    const payment = async (userId: string): Promise<void> => {
      const { id } = await eventually(() => newTransaction(remit.db, userId, 'payment', AMOUNT), 60_000, 200);
      const webhook = {
        url: remit.api,
        secret: remit.stack.config.PROVIDER_SECRET_DECARD,
        provider: 'decard' as const,
        transactionId: id,
        status: 'success' as const,
        amount: '1',
        currency: CURRENCY,
        type: 'payment' as const,
        id: `msg-${id}`,
        timeoutMs: 15_000,
      };
      await insist(async () => (await sendProviderWebhook(webhook)).status, 202);
      accepted.payments += 1;
    };
    const order = async (userId: string): Promise<void> => {
      const key = randomUUID();
      await insist(() => post(userId, '/orders', { amount: '1.00', currency: CURRENCY }, key), 201);
      accepted.orders += 1;
    };
    const topUp = async (userId: string): Promise<void> => {
      const key = randomUUID();
      await insist(() => post(userId, '/accounts/topup', { amount: '1.00', currency: CURRENCY }, key), 200);
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
        const [payments, orders, topUps, events, undecided] = await Promise.all([
          db.prisma.payment.count({ where: { status: 'succeeded' } }),
          db.prisma.order.count({ where: { status: 'FINISHED' } }),
          db.prisma.journalTransaction.count({ where: { kind: 'top_up' } }),
          db.prisma.providerEvent.count({ where: { outcome: 'applied' } }),
          db.prisma.order.count({ where: { status: 'NEW' } }),
        ]);
        const found = { payments, orders, topUps: topUps - USERS };
        expect({ found, events, undecided }).toEqual({
          found: accepted,
          events: accepted.payments,
          undecided: 0,
        });
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
      OPENING * BigInt(USERS) + AMOUNT * BigInt(accepted.payments + accepted.topUps - accepted.orders),
    );
    process.stderr.write(
      `  accepted ${JSON.stringify(accepted)}, applied ${JSON.stringify(applied)}, roles restarted by themselves ${remit.restarts}\n`,
    );
  }, 600_000);
});
