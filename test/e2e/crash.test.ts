import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Connection } from '@temporalio/client';
import { workflowId } from '../../src/contracts/workflows';
import { WebhookReceiver } from '../../src/demo/receiver';
import { getAccount } from '../../src/domain/accounts';
import type { Database } from '../../src/platform/postgres';
import { connectTemporal } from '../../src/platform/temporal';
import { mintToken } from '../../src/operations/token';
import { sendProviderWebhook } from '../../src/operations/send';
import { postJson } from '../support/callers';
import { createTestSpace, eventually, freePort, openTestDatabase, type TestSpace } from '../support/harness';
import { CURRENCY, inspectLedger, newTransaction, SOUND, TENANT, userWith } from '../support/money';
import { startRole, type Child } from '../support/processes';
import { subscriber } from '../support/subscriber';

const USERS = 8;
const PAYMENTS = 160;
const ORDERS = 40;
const KILLS = 4;
/** `temporal.api.enums.v1.TimeoutType`. */
/** A consumer group misses a member that was killed for so long, on a busy machine. */
const AGAIN_WITHIN_MS = 90_000;
const HEARTBEAT_TIMEOUT = 4;

let space: TestSpace;
let db: Database;
let temporal: Client;
let api: string;
const receiver = new WebhookReceiver();
const running = new Map<string, Child>();

async function start(role: string): Promise<void> {
  running.set(role, await startRole([role], space.env, await freePort()));
}

async function create(path: string, userId: string, body: unknown): Promise<Record<string, unknown>> {
  const scopes = path.startsWith('/api/v1/') ? ['read', 'write'] : [];
  const token = await mintToken(space.config, { subject: userId, scopes, expiresInS: 600 });
  const headers = { authorization: `Bearer ${token}`, 'x-user-id': userId };
  const { status, body: created } = await postJson(api + path, body, headers);
  expect(status).toBe(201);
  return created as Record<string, unknown>;
}

/** The provider's word that a payment succeeded. */
const sendSuccess = (transactionId: string, amount: string, id = `msg-${randomUUID()}`) =>
  sendProviderWebhook({
    ...{ url: api, secret: space.config.PROVIDER_SECRET_DECARD, provider: 'decard', type: 'payment' },
    ...{ transactionId, status: 'success', amount, currency: CURRENCY, id, timeoutMs: 15_000 },
  });

beforeAll(async () => {
  const apiPort = await freePort();
  space = await createTestSpace({ topics: true, temporal: true, env: { API_PORT: String(apiPort) } });
  api = `http://127.0.0.1:${apiPort}`;
  db = openTestDatabase(space);
  temporal = await connectTemporal(space.config);
  await Promise.all(['api', 'bridge', 'worker', 'relay'].map(start));
  const url = await receiver.listen();
  const { secret } = await create('/api/v1/subscriptions', 'client', { url, eventTypes: ['*'] });
  receiver.verifyWith(String(secret));
});

afterAll(async () => {
  await Promise.all([...running.values()].map((child) => child.stop()));
  await receiver.close();
  await (temporal.connection as Connection).close();
  await db.close();
});

describe('when worker and bridge are killed with SIGKILL in the middle of a flow', () => {
  it('settles every accepted payment and order once, and every subscriber hears of each', async () => {
    const users = await Promise.all(Array.from({ length: USERS }, () => userWith(db, 100_000n)));
    const payments = await Promise.all(
      Array.from({ length: PAYMENTS }, (_, i) => newTransaction(db, users[i % USERS]!, 'payment', 1_000n)),
    );

    const accepted: string[] = [];
    const traffic = async (): Promise<string[]> => {
      const orders: string[] = [];
      for (const [i, payment] of payments.entries()) {
        const send = () => sendSuccess(payment.id, '10', `msg-${payment.id}`);
        expect((await send()).status).toBe(202);
        accepted.push(payment.id);
        // Providers resend what they are not sure of.
        if (i % 5 === 0) expect((await send()).status).toBe(202);
        if (i % 3 === 0 && orders.length < ORDERS) {
          const order = await create('/orders', users[i % USERS]!, {
            amount: '1.50',
            description: `order ${i}`,
          });
          orders.push(String(order['id']));
        }
        await sleep(30);
      }
      return orders;
    };

    // What was accepted and not settled when a victim died: the middle of a flow, or the test proves nothing.
    let inFlight = 0;
    const violence = async (): Promise<void> => {
      for (let i = 0; i < KILLS; i++) {
        await sleep(1_200);
        const victim = i % 2 === 0 ? 'worker' : 'bridge';
        await running.get(victim)!.kill();
        inFlight += await db.prisma.payment.count({ where: { id: { in: accepted }, status: 'pending' } });
        await start(victim);
      }
    };

    const [orders] = await Promise.all([traffic(), violence()]);
    expect(inFlight).toBeGreaterThan(0);

    await eventually(
      async () => {
        expect(await db.prisma.payment.count({ where: { status: 'pending' } })).toBe(0);
        expect(await db.prisma.order.count({ where: { status: 'NEW' } })).toBe(0);
      },
      120_000,
      500,
    );

    // Nothing lost, nothing twice: every user has exactly what was accepted.
    for (const [i, userId] of users.entries()) {
      const paid = payments.filter((_, n) => n % USERS === i).length;
      const bought = await db.prisma.order.count({ where: { userId, status: 'FINISHED' } });
      const { balanceMinor } = await getAccount(db, { tenantId: TENANT, userId, currency: CURRENCY });
      expect(balanceMinor).toBe(100_000n + BigInt(paid) * 1_000n - BigInt(bought) * 150n);
    }
    expect(await db.prisma.payment.count({ where: { status: 'succeeded' } })).toBe(PAYMENTS);
    expect(await db.prisma.order.count({ where: { status: 'FINISHED' } })).toBe(orders.length);
    expect(await db.prisma.paymentAttempt.count()).toBe(orders.length);
    expect(await inspectLedger(db)).toEqual(SOUND);

    // Every subscriber hears of each at least once, signed, under one webhook-id.
    const subjects = [...payments.map(({ id }) => id), ...orders];
    await eventually(
      () => {
        for (const subject of subjects) expect(receiver.of(subject).length).toBeGreaterThanOrEqual(1);
      },
      90_000,
      500,
    );
    for (const subject of subjects) {
      const heard = receiver.of(subject);
      expect(heard.every(({ verified }) => verified)).toBe(true);
      expect(new Set(heard.map(({ id }) => id)).size).toBe(1);
    }

    // No workflow failed, and none is left behind.
    await eventually(
      async () => {
        expect((await temporal.workflow.count("ExecutionStatus = 'Running'")).count).toBe(0);
      },
      60_000,
      500,
    );
    expect(
      (await temporal.workflow.count("ExecutionStatus != 'Completed' AND ExecutionStatus != 'Running'"))
        .count,
    ).toBe(0);
  }, 300_000);

  it('answers an event that comes again much later as a duplicate', async () => {
    const userId = await userWith(db);
    const payment = await newTransaction(db, userId, 'payment', 500n);
    const send = () => sendSuccess(payment.id, '5');
    await send();
    await eventually(async () => {
      const { balanceMinor } = await getAccount(db, { tenantId: TENANT, userId, currency: CURRENCY });
      expect(balanceMinor).toBe(500n);
    });
    await send();
    await eventually(async () => {
      const events = await db.prisma.providerEvent.findMany({ where: { transactionId: payment.id } });
      expect(events.map(({ outcome }) => outcome).sort()).toEqual(['applied', 'duplicate']);
    });
    const { balanceMinor } = await getAccount(db, { tenantId: TENANT, userId, currency: CURRENCY });
    expect(balanceMinor).toBe(500n);
  });

  it('makes an attempt of a killed worker again: the first by its message, a later one when its heartbeats stay away', async () => {
    const patient = await subscriber((response) => {
      // In the middle of the first and the third attempt the worker is killed; the second fails, which begins the workflow.
      if (patient.received.length === 2) response.writeHead(500).end();
      else if (patient.received.length > 3) response.writeHead(204).end();
    });
    const killed = async (attempts: number) => {
      await eventually(() => expect(patient.received).toHaveLength(attempts), AGAIN_WITHIN_MS);
      await running.get('worker')!.kill();
      await start('worker');
    };
    try {
      const { id } = await create('/api/v1/subscriptions', 'client', {
        url: patient.url,
        eventTypes: ['remit.payment.succeeded'],
      });
      const subscriptionId = String(id);
      const { id: transactionId } = await newTransaction(db, await userWith(db), 'payment', 500n);
      await sendSuccess(transactionId, '5');
      await killed(1);
      await killed(3);

      const { eventId } = await db.prisma.delivery.findFirstOrThrow({ where: { subscriptionId } });
      const handle = temporal.workflow.getHandle(workflowId.delivery(eventId, subscriptionId));
      expect(await handle.result()).toBe('delivered');
      const { events } = await handle.fetchHistory();
      const failure = events
        ?.map((event) => event.activityTaskStartedEventAttributes?.lastFailure)
        .find((each) => each?.timeoutFailureInfo);
      expect(failure?.timeoutFailureInfo?.timeoutType).toBe(HEARTBEAT_TIMEOUT);
      expect(new Set(patient.received.map(({ headers }) => headers['webhook-id']))).toEqual(
        new Set([eventId]),
      );
      expect(patient.received).toHaveLength(4);
    } finally {
      await patient.close();
    }
  }, 300_000);
});
