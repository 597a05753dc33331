import { randomUUID } from 'node:crypto';
import type http from 'node:http';
import { MockActivityEnvironment } from '@temporalio/testing';
import { Webhook } from 'standardwebhooks';
import {
  createDeliveryActivities,
  type AttemptInput,
  type AttemptResult,
  type DeliveryDeps,
} from '../../../src/activities/deliveries';
import { DeliveryDeadLetter } from '../../../src/contracts/webhooks';
import { listAttempts } from '../../../src/domain/attempt-reads';
import { recordAttempts, type AttemptRecord } from '../../../src/domain/attempt-records';
import { getDelivery, listDeliveries } from '../../../src/domain/deliveries';
import { reopenDelivery } from '../../../src/domain/resends';
import {
  createSubscription,
  deleteSubscription,
  getSubscription,
  updateSubscription,
} from '../../../src/domain/subscriptions';
import type { OutgoingMessage } from '../../../src/platform/kafka';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring, Keyring } from '../../../src/platform/secrets';
import { createWebhookClient, type WebhookClient } from '../../../src/webhooks/client';
import {
  announce as announceEvent,
  NOTHING_STARTED,
  playedPolicy,
  recordAttempt,
  RULES,
} from '../../support/deliveries';
import { createTestSpace, eventually, openTestDatabase, type TestSpace } from '../../support/harness';
import { subscriber, type Subscriber } from '../../support/subscriber';

let space: TestSpace;
let db: Database;
let webhooks: WebhookClient;
beforeAll(async () => {
  space = await createTestSpace();
  db = openTestDatabase(space);
  webhooks = createWebhookClient(space.config);
});
afterAll(async () => {
  await webhooks.close();
  await db.close();
});

const open: Subscriber[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});
const answering = async (...args: Parameters<typeof subscriber>) => {
  const server = await subscriber(...args);
  open.push(server);
  return server;
};

/** An event that the database announces, and the one delivery that it writes with it. */
async function announce(url: string, data: Record<string, unknown> = { id: 'p1' }) {
  const tenantId = `tenant-${randomUUID()}`;
  const keyring = createKeyring(space.config);
  const { subscription, secret } = await createSubscription(db, keyring, {
    tenantId,
    url,
    eventTypes: ['remit.payment.*'],
    description: '',
    allowedPrivateCidrs: space.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
    maxPerTenant: 10,
  });
  const { eventId, deliveries } = await announceEvent(db, { tenantId, data });
  const deliveryId = deliveries[0]?.deliveryId ?? '';
  return { tenantId, subscription, secret, eventId, deliveryId };
}

const sent: OutgoingMessage[] = [];

/** The activities over the real database, keyring and HTTP client; one of them replaced where a test says so. */
function activities(changes: Partial<DeliveryDeps> = {}) {
  return createDeliveryActivities({
    db,
    keyring: createKeyring(space.config),
    webhooks,
    producer: { send: (message) => Promise.resolve(void sent.push(message)) },
    config: space.config,
    log: space.log,
    deliveryPolicy: playedPolicy,
    ...NOTHING_STARTED,
    ...changes,
  });
}

function attempt(
  deliveryId: string,
  input: Partial<AttemptInput> = {},
  using = activities(),
): Promise<AttemptResult> {
  return new MockActivityEnvironment().run((given: AttemptInput) => using.attemptDelivery(given), {
    deliveryId,
    attempt: 1,
    maxAttempts: 3,
    timeoutMs: 2_000,
    correlationId: 'correlation',
    pauseMs: 10,
    ...input,
  });
}

describe('an attempt', () => {
  it('delivers exactly the stored body, signed so that the standardwebhooks package verifies it', async () => {
    const server = await answering((response) => response.end('ok'));
    const { deliveryId, eventId, secret, tenantId } = await announce(server.url, { name: 'Zoë 💸' });
    expect(await attempt(deliveryId)).toEqual({
      verdict: 'delivered',
      result: 'delivered',
      statusCode: 200,
      attempts: 1,
      waitMs: 0,
    });
    const [received] = server.received;
    const body = received?.body ?? '';
    expect(new Webhook(secret).verify(body, received?.headers as Record<string, string>)).toMatchObject({
      type: 'remit.payment.succeeded',
      data: { name: 'Zoë 💸' },
    });
    expect(received?.headers['webhook-id']).toBe(eventId);
    const { rows } = await db.pool.query<{ body: string }>('SELECT body FROM webhook_events WHERE id = $1', [
      eventId,
    ]);
    expect(rows[0]?.body).toBe(body);
    expect(await getDelivery(db, { tenantId, id: deliveryId })).toMatchObject({
      status: 'delivered',
      attempts: 1,
      lastStatusCode: 200,
      lastError: null,
      finishedAt: expect.any(Date) as Date,
    });
  });

  it('is made once: repeating it hands back what is stored and sends nothing', async () => {
    const server = await answering((response) => void response.writeHead(500).end());
    const { deliveryId } = await announce(server.url);
    const first = await attempt(deliveryId);
    // But for the time that is left of its pause.
    expect({ ...(await attempt(deliveryId)), waitMs: first.waitMs }).toEqual(first);
    expect(first).toMatchObject({ verdict: 'retry', result: 'http_error', statusCode: 500, attempts: 1 });
    expect(server.received).toHaveLength(1);
  });

  it('that two tries make at the same time is what was stored first, for both of them', async () => {
    const waiting: http.ServerResponse[] = [];
    const server = await answering((response) => void waiting.push(response));
    const { deliveryId, tenantId } = await announce(server.url);
    const tries = [attempt(deliveryId, { timeoutMs: 60_000 }), attempt(deliveryId, { timeoutMs: 60_000 })];
    await eventually(() => expect(waiting).toHaveLength(2));
    waiting[0]!.writeHead(500).end();
    await eventually(async () =>
      expect((await getDelivery(db, { tenantId, id: deliveryId })).attempts).toBe(1),
    );
    waiting[1]!.writeHead(204).end();
    expect((await Promise.all(tries)).map(({ verdict, result }) => [verdict, result])).toEqual([
      ['retry', 'http_error'],
      ['retry', 'http_error'],
    ]);
    expect(await getDelivery(db, { tenantId, id: deliveryId })).toMatchObject({
      status: 'pending',
      attempts: 1,
    });
  });

  it('after a delivered one sends nothing', async () => {
    const server = await answering((response) => response.end());
    const { deliveryId } = await announce(server.url);
    await attempt(deliveryId);
    expect(await attempt(deliveryId, { attempt: 2 })).toMatchObject({ verdict: 'delivered', attempts: 1 });
    expect(server.received).toHaveLength(1);
  });

  it('keeps one row for each, with the answer that PostgreSQL can store', async () => {
    const answers = [Buffer.from('busy'), Buffer.from([0x61, 0, 0xff]), Buffer.alloc(40_000, 'ä')];
    const server = await answering((response) => void response.writeHead(500).end(answers.shift()));
    const { deliveryId, tenantId } = await announce(server.url);
    for (const number of [1, 2, 3]) await attempt(deliveryId, { attempt: number });
    const attempts = (await listAttempts(db, { tenantId, id: deliveryId, limit: 50 })).items;
    expect(
      attempts.map(({ attempt: number, result, statusCode, error }) => [number, result, statusCode, error]),
    ).toEqual([1, 2, 3].map((number) => [number, 'http_error', 500, 'HTTP 500']));
    expect(attempts.map(({ responseBody }) => responseBody)).toEqual([
      'busy',
      'a\uFFFD\uFFFD',
      'ä'.repeat(8_192),
    ]);
  });

  it('that fails as the last one exhausts the delivery, also when it is repeated', async () => {
    const server = await answering((response) => void response.writeHead(500).end());
    const { deliveryId, tenantId } = await announce(server.url);
    await attempt(deliveryId, { maxAttempts: 2 });
    for (let repeated = 0; repeated < 2; repeated++)
      expect(await attempt(deliveryId, { attempt: 2, maxAttempts: 2 })).toMatchObject({
        verdict: 'exhausted',
        attempts: 2,
      });
    expect(server.received).toHaveLength(2);
    expect((await getDelivery(db, { tenantId, id: deliveryId })).status).toBe('exhausted');
  });

  it('disables the subscription when the subscriber says 410, also when it is repeated', async () => {
    const server = await answering((response) => void response.writeHead(410).end());
    const { deliveryId, tenantId, subscription } = await announce(server.url);
    expect(await attempt(deliveryId)).toMatchObject({ verdict: 'held', statusCode: 410 });
    expect(await attempt(deliveryId)).toMatchObject({ verdict: 'held', statusCode: 410 });
    expect((await getSubscription(db, { tenantId, id: subscription.id })).state).toBe('disabled');
    // Whoever enables it again has this delivery tried too.
    expect((await getDelivery(db, { tenantId, id: deliveryId })).status).toBe('held');
    expect(server.received).toHaveLength(1);
  });

  it.each([429, 502, 503, 504])('hands on the Retry-After of a %i', async (status) => {
    const server = await answering(
      (response) => void response.writeHead(status, { 'retry-after': '7' }).end(),
    );
    const { deliveryId } = await announce(server.url);
    expect((await attempt(deliveryId)).waitMs).toBe(7_000);
  });

  it.each([301, 400, 500])('does not heed the Retry-After of a %i', async (status) => {
    const server = await answering(
      (response) => void response.writeHead(status, { 'retry-after': '7' }).end(),
    );
    const { deliveryId } = await announce(server.url);
    expect((await attempt(deliveryId)).waitMs).toBeLessThan(100);
  });

  it.each([
    ['deleted', 'cancelled'],
    ['paused', 'held'],
    ['disabled', 'held'],
  ])('is not made for a subscription that is %s: the delivery is %s', async (state, becomes) => {
    const server = await answering((response) => response.end());
    const { deliveryId, tenantId, subscription } = await announce(server.url);
    if (state === 'deleted') await deleteSubscription(db, { tenantId, id: subscription.id });
    else await db.prisma.subscription.update({ where: { id: subscription.id }, data: { state } });
    expect(await attempt(deliveryId)).toMatchObject({
      verdict: becomes,
      result: 'not_attempted',
      attempts: 0,
    });
    expect(server.connections()).toBe(0);
    expect(await getDelivery(db, { tenantId, id: deliveryId })).toMatchObject({
      status: becomes,
      lastError: `the subscription is ${state}`,
    });
  });

  it('is not made for a delivery that does not exist, or whose event is no longer kept', async () => {
    expect(await attempt(randomUUID())).toMatchObject({ verdict: 'cancelled', result: 'not_attempted' });
    const server = await answering((response) => response.end());
    const { deliveryId, eventId } = await announce(server.url);
    await db.pool.query('DELETE FROM webhook_events WHERE id = $1', [eventId]);
    expect((await attempt(deliveryId)).verdict).toBe('cancelled');
    expect(server.connections()).toBe(0);
  });

  it('to a refused address is stored as a failure of the subscriber', async () => {
    const strict = createWebhookClient({ ...space.config, WEBHOOK_ALLOWED_PRIVATE_CIDRS: [] });
    const server = await answering((response) => response.end());
    const { deliveryId, tenantId } = await announce(server.url);
    expect(await attempt(deliveryId, {}, activities({ webhooks: strict }))).toMatchObject({
      verdict: 'retry',
      result: 'refused_address',
    });
    expect(server.connections()).toBe(0);
    expect((await listAttempts(db, { tenantId, id: deliveryId, limit: 50 })).items[0]).toMatchObject({
      result: 'refused_address',
    });
    await strict.close();
  });

  it('is not made without the key of the secret: that is an outage of ours', async () => {
    const server = await answering((response) => response.end());
    const { deliveryId, tenantId } = await announce(server.url);
    const keyless = activities({ keyring: new Keyring(Buffer.alloc(32, 1)) });
    await expect(attempt(deliveryId, {}, keyless)).rejects.toThrow('ENCRYPTION_KEYS_OLD');
    expect(server.connections()).toBe(0);
    expect(await getDelivery(db, { tenantId, id: deliveryId })).toMatchObject({
      status: 'pending',
      attempts: 0,
    });
  });
});

describe('what is stored of attempts', () => {
  it('are the headers of both sides, and nothing with which a reader could act as either', async () => {
    const server = await answering((response, request) => {
      response.setHeader('set-cookie', ['session=opensesame; HttpOnly', 'b=opensesame']);
      response.setHeader('x-session-token', 'opensesame');
      response.setHeader('x-echo', `you said ${String(request.headers['authorization'])}`);
      response.setHeader('x-request-id', 'req-17');
      response.writeHead(503).end();
    });
    const { deliveryId, eventId, tenantId, subscription } = await announce(server.url);
    const by = { tenantId, actor: 'test', correlationId: 'test' };
    await updateSubscription(db, createKeyring(space.config), by, {
      ...{ id: subscription.id, expected: '*', allowedPrivateCidrs: [] },
      changes: { headers: { authorization: 'Bearer opensesame', 'x-team': 'accounting' } },
    });
    await attempt(deliveryId);
    const { items } = await listAttempts(db, { tenantId, id: deliveryId, limit: 10 });
    const { headers: sent } = server.received[0]!;
    const signature = String(sent['webhook-signature']);
    expect(items[0]).toMatchObject({
      url: subscription.url,
      requestHeaders: {
        'content-type': 'application/json',
        'user-agent': sent['user-agent'],
        'webhook-id': eventId,
        'webhook-timestamp': sent['webhook-timestamp'],
        'webhook-signature': `${signature.slice(0, 11)}***`,
        authorization: '***',
        'x-team': '***',
      },
      responseHeaders: {
        'set-cookie': '***',
        'x-session-token': '***',
        'x-echo': 'you said ***',
        'x-request-id': 'req-17',
      },
    });
    const { rows } = await db.pool.query<{ row: string }>(
      'SELECT to_jsonb(a)::text AS row FROM delivery_attempts a WHERE delivery_id = $1',
      [deliveryId],
    );
    for (const secret of ['opensesame', 'accounting', signature]) expect(rows[0]!.row).not.toContain(secret);
  });

  it('are no headers of an answer that never came', async () => {
    const { deliveryId, tenantId } = await announce('http://127.0.0.1:1/');
    await attempt(deliveryId);
    const { items } = await listAttempts(db, { tenantId, id: deliveryId, limit: 10 });
    expect(items[0]).toMatchObject({
      result: 'network_error',
      url: 'http://127.0.0.1:1/',
      requestHeaders: { 'webhook-signature': expect.stringMatching(/^v1,.{8}\*\*\*$/) as string },
      responseHeaders: null,
    });
  });

  const recordOf = (deliveryId: string, changes: Partial<AttemptRecord> = {}): AttemptRecord => ({
    deliveryId,
    attempt: 1,
    startedAt: new Date(),
    durationMs: 5,
    result: 'http_error',
    statusCode: 500,
    error: 'HTTP 500',
    responseBody: '',
    status: 'pending',
    gone: false,
    slowDown: false,
    retryAfterMs: null,
    nextAttemptAt: null,
    correlationId: 'correlation',
    ...changes,
  });
  const record = (deliveryId: string, changes: Partial<AttemptRecord> = {}) =>
    recordAttempt(db, recordOf(deliveryId, changes));
  const DELIVERED = { status: 'delivered', result: 'delivered', statusCode: 200 } as const;

  it('is what was stored first, and whoever comes second is told so, also among others', async () => {
    const [failed, delivered, fresh] = await Promise.all(
      [1, 2, 3].map(() => announce('http://127.0.0.1:9/')),
    );
    await record(failed!.deliveryId);
    await record(delivered!.deliveryId, DELIVERED);
    const after = await recordAttempts(
      db,
      [failed!, delivered!, fresh!].map(({ deliveryId }) => ({
        record: recordOf(deliveryId, DELIVERED),
        at: new Date(),
      })),
      RULES,
    );
    expect(after).toEqual(['repeated', 'repeated', 'decides']);
    const statusOf = async ({ tenantId, deliveryId }: { tenantId: string; deliveryId: string }) =>
      (await getDelivery(db, { tenantId, id: deliveryId })).status;
    expect(await Promise.all([failed!, delivered!, fresh!].map(statusOf))).toEqual([
      'pending',
      'delivered',
      'delivered',
    ]);
  });

  it('is written once, however many workers report the same attempt at the same time', async () => {
    const { deliveryId, tenantId } = await announce('http://127.0.0.1:9/');
    await Promise.all(
      Array.from({ length: 10 }, (_, index) => record(deliveryId, index === 0 ? {} : DELIVERED)),
    );
    const [attempts, delivery] = [
      (await listAttempts(db, { tenantId, id: deliveryId, limit: 50 })).items,
      await getDelivery(db, { tenantId, id: deliveryId }),
    ];
    expect(attempts).toHaveLength(1);
    expect(delivery.attempts).toBe(1);
    expect(delivery.status === 'delivered').toBe(attempts[0]?.result === 'delivered');
  });

  it('never reopens a finished delivery', async () => {
    const { deliveryId, tenantId } = await announce('http://127.0.0.1:9/');
    const delivery = activities();
    expect(await delivery.finishDelivery({ deliveryId, status: 'cancelled', reason: 'no more' })).toBe(
      'cancelled',
    );
    const before = await getDelivery(db, { tenantId, id: deliveryId });
    await record(deliveryId, DELIVERED);
    expect(await delivery.finishDelivery({ deliveryId, status: 'exhausted', reason: 'later' })).toBe(
      'cancelled',
    );
    expect(await getDelivery(db, { tenantId, id: deliveryId })).toMatchObject({
      status: 'cancelled',
      attempts: 1,
      finishedAt: before.finishedAt,
    });
    expect(
      await delivery.finishDelivery({ deliveryId: randomUUID(), status: 'cancelled', reason: '' }),
    ).toBeNull();
  });

  it('is listed by filter and page, and only to its tenant', async () => {
    const { deliveryId, tenantId, eventId, subscription } = await announce('http://127.0.0.1:9/');
    const list = (filter = {}) => listDeliveries(db, { tenantId, limit: 10, ...filter });
    const mine = { items: [{ id: deliveryId, eventId, subscriptionId: subscription.id, status: 'pending' }] };
    for (const filter of [{}, { eventId }, { subscriptionId: subscription.id }, { status: 'pending' }])
      expect(await list(filter)).toMatchObject(mine);
    for (const filter of [
      { eventId: 'evt_x' },
      { status: 'delivered' },
      { eventType: 'remit.order.finished' },
    ])
      expect((await list(filter)).items).toEqual([]);
    expect((await list({ tenantId: 'other' })).items).toEqual([]);
    for (const read of [getDelivery, listAttempts])
      await expect(read(db, { tenantId: 'other', id: deliveryId, limit: 50 })).rejects.toMatchObject({
        code: 'not_found',
      });
  });
});

describe('an attempt under way while its delivery', () => {
  /** An attempt that the subscriber answers when the test says so. */
  async function underWay(input: Partial<AttemptInput> = {}, answered = 500) {
    const waiting: http.ServerResponse[] = [];
    const server = await answering((response) => void waiting.push(response));
    const made = await announce(server.url);
    const attempting = attempt(made.deliveryId, { timeoutMs: 60_000, ...input });
    await eventually(() => expect(waiting).toHaveLength(1));
    const { deliveryId, tenantId } = made;
    return {
      ...made,
      server,
      waiting,
      attempting,
      answer: (index = 0, status = answered) => void waiting[index]!.writeHead(status).end(),
      cancel: () =>
        activities().finishDelivery({ deliveryId, status: 'cancelled', reason: 'cancelled by an operator' }),
      log: async () =>
        (await listAttempts(db, { tenantId, id: deliveryId, limit: 50 })).items.map(
          ({ attempt: number, statusCode }) => [number, statusCode],
        ),
      now: () => getDelivery(db, { tenantId, id: deliveryId }),
    };
  }

  test.each([
    ['fails as its last', { maxAttempts: 1 }, 500],
    ['fails and would be retried', { maxAttempts: 3 }, 503],
    ['delivers', {}, 204],
  ])(
    'is cancelled, and %s: it is in the log, and the delivery stays cancelled',
    async (_how, input, code) => {
      const { attempting, answer, cancel, log, now } = await underWay(input, code);
      await cancel();
      const before = await now();
      answer();
      expect(await attempting).toMatchObject({ verdict: 'cancelled', statusCode: code, attempts: 1 });
      expect(await log()).toEqual([[1, code]]);
      expect(await now()).toEqual({ ...before, attempts: 1 });
      expect(await now()).toMatchObject({
        ...{ status: 'cancelled', lastError: 'cancelled by an operator', lastStatusCode: null },
      });
    },
  );

  test.each([
    ['delivers', 204],
    ['fails', 500],
  ])('was sent again, and %s: both are in the log, and only the new one decides', async (_how, code) => {
    const { attempting, answer, cancel, log, now, deliveryId, tenantId, waiting } = await underWay();
    await cancel();
    await reopenDelivery(db, { tenantId, id: deliveryId });
    const again = { generation: 1, maxAttempts: 1, timeoutMs: 60_000 };
    const second = attempt(deliveryId, again);
    await eventually(() => expect(waiting).toHaveLength(2));
    answer(0, code);
    expect(await attempting).toMatchObject({ verdict: 'cancelled' });
    expect(await now()).toMatchObject({ status: 'pending', lastError: 'cancelled by an operator' });
    answer(1, 204);
    expect(await second).toMatchObject({ verdict: 'delivered' });
    expect(await log()).toEqual([
      [1, code],
      [2, 204],
    ]);
    expect(await now()).toMatchObject({ status: 'delivered', attempts: 2 });
    // Stored twice, as after a lost answer: the second record changes nothing.
    const row = await db.prisma.deliveryAttempt.findFirstOrThrow({ where: { deliveryId, attempt: 2 } });
    const once: AttemptRecord = {
      ...{
        deliveryId,
        attempt: 1,
        generation: 1,
        attemptsBefore: 0,
        startedAt: row.startedAt,
        durationMs: 1,
      },
      ...{
        result: 'http_error',
        statusCode: 500,
        error: 'HTTP 500',
        responseBody: null,
        status: 'exhausted',
      },
      ...{ gone: false, slowDown: false, retryAfterMs: null, nextAttemptAt: null, correlationId: 'c' },
    };
    expect(await recordAttempt(db, once)).toBe('repeated');
    expect(await log()).toHaveLength(2);
  });

  it('was sent again and is delivered first leaves that so', async () => {
    const { attempting, answer, cancel, log, now, deliveryId, tenantId, waiting } = await underWay();
    await cancel();
    await reopenDelivery(db, { tenantId, id: deliveryId });
    const second = attempt(deliveryId, { generation: 1, timeoutMs: 60_000 });
    await eventually(() => expect(waiting).toHaveLength(2));
    answer(1, 204);
    expect(await second).toMatchObject({ verdict: 'delivered', attempts: 1 });
    answer(0, 500);
    expect(await attempting).toMatchObject({ verdict: 'cancelled' });
    expect(await log()).toEqual([
      [1, 204],
      [2, 500],
    ]);
    expect(await now()).toMatchObject({ status: 'delivered', attempts: 2, lastStatusCode: 204 });
  });
});

describe('a dead letter', () => {
  it('carries the delivery, the event as it was sent and the last attempt, keyed by subscription', async () => {
    const server = await answering((response) => void response.writeHead(500).end('no'));
    const { deliveryId, subscription, eventId, tenantId } = await announce(server.url);
    await attempt(deliveryId, { maxAttempts: 1 });
    sent.length = 0;
    await activities().deadLetterDelivery({ deliveryId, correlationId: 'correlation' });
    const [message] = sent;
    expect(message).toMatchObject({
      topic: space.config.TOPIC_WEBHOOK_DELIVERY_DLQ,
      key: subscription.id,
      headers: {
        'remit-error-code': 'delivery_exhausted',
        'remit-error-message': 'HTTP 500',
        'remit-attempts': '1',
        'remit-correlation-id': 'correlation',
      },
    });
    const letter = DeliveryDeadLetter.parse(JSON.parse(String(message?.value)));
    expect(letter).toMatchObject({
      delivery: { id: deliveryId, tenantId, subscriptionId: subscription.id, attempts: 1, url: server.url },
      event: { id: eventId, body: server.received[0]?.body },
      lastAttempt: { attempt: 1, statusCode: 500, responseBody: 'no' },
    });
  });

  it('is not acknowledged while Kafka does not take it', async () => {
    const { deliveryId } = await announce('http://127.0.0.1:9/');
    const down = activities({ producer: { send: () => Promise.reject(new Error('Kafka did not take it')) } });
    await expect(down.deadLetterDelivery({ deliveryId, correlationId: 'c' })).rejects.toThrow('Kafka');
  });
});
