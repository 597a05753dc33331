import { randomUUID } from 'node:crypto';
import { MockActivityEnvironment } from '@temporalio/testing';
import { Webhook } from 'standardwebhooks';
import {
  createDeliveryActivities,
  type AttemptInput,
  type AttemptResult,
} from '../../../src/activities/deliveries';
import { DomainEvent } from '../../../src/contracts/messages';
import { recordAttempts, type AttemptRecord } from '../../../src/domain/attempt-records';
import { getDelivery } from '../../../src/domain/deliveries';
import { finishDelivery } from '../../../src/domain/delivery-ends';
import { reencryptSecrets } from '../../../src/domain/reencryption';
import { operateSubscription } from '../../../src/domain/subscription-health';
import { rotateSecret } from '../../../src/domain/subscription-secrets';
import { createSubscription, secretContext } from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring, Keyring } from '../../../src/platform/secrets';
import { createWebhookClient, type WebhookClient } from '../../../src/webhooks/client';
import { announce as announceEvent, NOTHING_STARTED, playedPolicy, RULES } from '../../support/deliveries';
import { createTestSpace, eventually, openTestDatabase, type TestSpace } from '../../support/harness';
import { subscriber, type Received, type Subscriber } from '../../support/subscriber';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

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
let nowMs = Date.now();
beforeEach(() => void (nowMs = Date.now()));
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

/** A subscriber whose answer a test can change, and its subscription in a tenant of its own. */
async function subscribed(status = 200) {
  const answer: { status: number; headers: Record<string, string> } = { status, headers: {} };
  const server = await subscriber((response) => void response.writeHead(answer.status, answer.headers).end());
  open.push(server);
  const tenantId = `tenant-${randomUUID()}`;
  const { subscription, secret } = await subscribe(tenantId, server.url, ['remit.payment.*']);
  return { tenantId, server, answer, id: subscription.id, secret };
}

const subscribe = (tenantId: string, url: string, eventTypes: string[]) =>
  createSubscription(db, createKeyring(space.config), {
    tenantId,
    url,
    eventTypes,
    description: '',
    allowedPrivateCidrs: space.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
    maxPerTenant: 10,
  });

async function announce(tenantId: string): Promise<string> {
  const { deliveries } = await announceEvent(db, { tenantId });
  return deliveries[0]?.deliveryId ?? '';
}

const activities = (config = space.config, keyring = createKeyring(space.config)) =>
  createDeliveryActivities({
    db,
    keyring,
    webhooks,
    producer: { send: () => Promise.resolve() },
    config,
    log: space.log,
    deliveryPolicy: playedPolicy,
    ...NOTHING_STARTED,
    clock: () => new Date(nowMs),
  });

function attempt(
  deliveryId: string,
  input: Partial<AttemptInput> = {},
  using = activities(),
): Promise<AttemptResult> {
  return new MockActivityEnvironment().run((given: AttemptInput) => using.attemptDelivery(given), {
    deliveryId,
    attempt: 1,
    maxAttempts: 10,
    timeoutMs: 2_000,
    correlationId: 'correlation',
    pauseMs: 0,
    ...input,
  });
}

const by = (tenantId: string) => ({ tenantId, actor: 'token:operator', correlationId: 'correlation' });
const rotate = (tenantId: string, id: string, overlapMs: number) =>
  rotateSecret(db, createKeyring(space.config), by(tenantId), { id, expected: '*', overlapMs });
const rowOf = (id: string) => db.prisma.subscription.findUniqueOrThrow({ where: { id } });
const emitted = async (tenantId: string) => {
  const events = await db.prisma.webhookEvent.findMany({
    where: { tenantId, type: { startsWith: 'remit.subscription.' } },
    orderBy: { createdAt: 'asc' },
  });
  return events.map(({ type }) => type);
};
const verifies = (secret: string, { body, headers }: Received) => {
  try {
    return new Webhook(secret).verify(body, headers as Record<string, string>) !== undefined;
  } catch {
    return false;
  }
};

describe('an attempt that ends after its delivery was cancelled', () => {
  /** Records an attempt that was under way when its delivery was cancelled. */
  async function overtaken(tenantId: string, changes: Partial<AttemptRecord>) {
    const deliveryId = await announce(tenantId);
    const record: AttemptRecord = {
      ...{ deliveryId, attempt: 1, generation: 0, attemptsBefore: 0, startedAt: new Date(), durationMs: 10 },
      ...{
        result: 'http_error',
        statusCode: 500,
        error: 'HTTP 500',
        responseBody: null,
        status: 'exhausted',
      },
      ...{ gone: false, slowDown: false, retryAfterMs: null, nextAttemptAt: null, correlationId: 'c' },
      ...changes,
    };
    await finishDelivery(db, { deliveryId, status: 'cancelled', reason: 'test' });
    expect(await recordAttempts(db, [{ record, at: new Date() }], { ...RULES, failingAttempt: 1 })).toEqual([
      'overtaken',
    ]);
  }

  it('is no failure of the subscription, however the delivery would have ended', async () => {
    const { tenantId, id } = await subscribed();
    await overtaken(tenantId, {});
    expect(await rowOf(id)).toMatchObject({ state: 'active', exhaustedSince: null, throttleLevel: 0 });
    expect(await emitted(tenantId)).toEqual([]);
  });

  it('still says that the subscriber is overloaded, gone, or well again', async () => {
    const { tenantId, id } = await subscribed();
    await overtaken(tenantId, { statusCode: 503, slowDown: true, status: 'pending' });
    expect(await rowOf(id)).toMatchObject({ state: 'active', throttleLevel: 1 });
    await overtaken(tenantId, { result: 'delivered', statusCode: 200, error: null, status: 'delivered' });
    expect(await rowOf(id)).toMatchObject({ throttleLevel: 0, throttledUntil: null });
    await overtaken(tenantId, { statusCode: 410, gone: true, status: 'held' });
    expect(await rowOf(id)).toMatchObject({ state: 'disabled', stateReason: 'gone' });
  });

  it('says nothing of an address that is not the subscription’s any more', async () => {
    const { tenantId, id } = await subscribed();
    await overtaken(tenantId, { statusCode: 410, gone: true, status: 'held', url: 'http://127.0.0.1:9/old' });
    expect(await rowOf(id)).toMatchObject({ state: 'active' });
  });
});

describe('a secret that rotates', () => {
  it('signs beside the new one for a day; after that only the new one signs', async () => {
    const { tenantId, id, server, secret: old } = await subscribed();
    const rotated = await rotate(tenantId, id, space.config.WEBHOOK_SECRET_OVERLAP_MS);
    expect(rotated.previousSecretValidUntil?.getTime()).toBeCloseTo(Date.now() + DAY, -5);
    await attempt(await announce(tenantId));
    const [during] = server.received;
    expect(during?.headers['webhook-signature']).toMatch(/^v1,\S+ v1,\S+$/);
    expect([old, rotated.secret].map((secret) => verifies(secret, during!))).toEqual([true, true]);

    // The test's clock is a day ahead; subscribers would compare the timestamp with theirs, so only signatures count.
    nowMs = Date.now() + DAY + MINUTE;
    await attempt(await announce(tenantId));
    expect(server.received[1]?.headers['webhook-signature']).toMatch(/^v1,\S+$/);
  });

  it('keeps each former secret for its own time, whatever is rotated meanwhile, and none when the overlap is zero', async () => {
    const { tenantId, id, server, secret: first } = await subscribed();
    const second = (await rotate(tenantId, id, DAY)).secret;
    const third = (await rotate(tenantId, id, MINUTE)).secret;
    const fourth = (await rotate(tenantId, id, DAY)).secret;
    const which = async () => {
      await attempt(await announce(tenantId));
      const last = server.received.at(-1)!;
      const all = [first, second, third, fourth];
      return { verified: all.map((secret) => verifies(secret, last)), headers: last.headers };
    };
    const all = await which();
    expect(all.verified).toEqual([true, true, true, true]);
    expect(String(all.headers['webhook-signature']).split(' ')).toHaveLength(4);
    // The second’s minute is over; the first’s day and the third’s are not.
    nowMs = Date.now() + 2 * MINUTE;
    expect(String((await which()).headers['webhook-signature']).split(' ')).toHaveLength(3);
    nowMs = Date.now();
    await rotate(tenantId, id, DAY);
    await expect(rotate(tenantId, id, DAY)).rejects.toMatchObject({ code: 'unprocessable' });
    const last = await rotate(tenantId, id, 0);
    expect(last.previousSecretValidUntil).toBeNull();
    const alone = await which();
    expect(alone.verified).toEqual([false, false, false, false]);
    expect(verifies(last.secret, server.received.at(-1)!)).toBe(true);
    await expect(rotate('other', id, DAY)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('rotates once for an operation, however often it is repeated', async () => {
    const { tenantId, id } = await subscribed();
    const [operationId, version] = [randomUUID(), (await rowOf(id)).version];
    const again = (operation: string) =>
      rotateSecret(db, createKeyring(space.config), by(tenantId), {
        ...{ id, expected: [version], overlapMs: DAY, operationId: operation },
      });
    const first = await again(operationId);
    expect(await again(operationId)).toEqual(first);
    expect((await rowOf(id)).version).toBe(first.version);
    await expect(again(randomUUID())).rejects.toMatchObject({ code: 'precondition_failed' });
  });
});

describe('the key of secrets at rest', () => {
  it('is rotated by re-encrypting everything, after which the old key is needed no more', async () => {
    const { tenantId, id, server, secret } = await subscribed();
    await rotate(tenantId, id, DAY);
    const [oldKey, newKey] = [Buffer.alloc(32, 9), Buffer.alloc(32, 5)];
    const headers = createKeyring(space.config).encrypt('{"x-api-key":"k"}', `${secretContext(id)}:headers`);
    await db.prisma.subscription.update({ where: { id }, data: { headersCiphertext: headers } });
    const done = await reencryptSecrets(db, new Keyring(newKey, [oldKey]), 2);
    expect(done.reencrypted).toBeGreaterThanOrEqual(3);
    expect((await reencryptSecrets(db, new Keyring(newKey, [oldKey]), 2)).reencrypted).toBe(0);

    await attempt(await announce(tenantId), {}, activities(space.config, new Keyring(newKey)));
    expect(verifies(secret, server.received[0]!)).toBe(true);
    expect(server.received[0]?.headers['x-api-key']).toBe('k');
    await reencryptSecrets(db, new Keyring(oldKey, [newKey]), 100);
  });

  it('is looked for again after it was found, as it may be written meanwhile', async () => {
    const { tenantId, id } = await subscribed();
    const [oldKey, newKey] = [Buffer.alloc(32, 9), Buffer.alloc(32, 5)];
    // An api that was not restarted yet rotates a secret behind the back of the first pass.
    let rotated = 0;
    const query = async (text: string, values?: unknown[]) => {
      const result = await db.pool.query(text, values);
      if (text.includes('FROM idempotency_keys') && rotated++ === 0) await rotate(tenantId, id, DAY);
      return result;
    };
    const meanwhile = { pool: Object.create(db.pool, { query: { value: query } }) as Database['pool'] };
    await reencryptSecrets(meanwhile, new Keyring(newKey, [oldKey]), 100);
    expect(rotated).toBeGreaterThan(1);
    const { secretCiphertext } = await rowOf(id);
    expect(new Keyring(newKey).isCurrent(Buffer.from(secretCiphertext))).toBe(true);
    await reencryptSecrets(db, new Keyring(oldKey, [newKey]), 100);
  });
});

describe('a subscriber that is overloaded', () => {
  it.each([429, 502, 503, 504])('and answers %i is left alone, with all its deliveries', async (status) => {
    const { tenantId, server, answer } = await subscribed(status);
    const [first, second] = [await announce(tenantId), await announce(tenantId)];
    expect(await attempt(first)).toMatchObject({ verdict: 'retry', statusCode: status });
    const put = await attempt(second);
    expect(put).toMatchObject({ verdict: 'in_lane', attempts: 0, result: 'not_attempted' });
    expect(await getDelivery(db, { tenantId, id: second })).toMatchObject({ waitsFor: 'rest' });
    expect(server.received).toHaveLength(1);

    expect(await attempt(first, { attempt: 2, urgent: true })).toMatchObject({ verdict: 'retry' });
    nowMs += MINUTE;
    answer.status = 200;
    expect(await attempt(first, { attempt: 3 })).toMatchObject({ verdict: 'delivered' });
    // The other one is its lane's now.
    expect(await attempt(second)).toMatchObject({ verdict: 'in_lane' });
  });

  it('is left alone for longer each time, as Retry-After asks, and no longer than the limit', async () => {
    const { tenantId, id, answer } = await subscribed(503);
    const delivery = await announce(tenantId);
    const rests: number[] = [];
    for (let number = 1; number <= 12; number++) {
      await attempt(delivery, { attempt: number, maxAttempts: 50 });
      const { throttledUntil } = await rowOf(id);
      rests.push(throttledUntil!.getTime() - nowMs);
      nowMs = throttledUntil!.getTime() + 1;
    }
    const { WEBHOOK_THROTTLE_BASE_MS: base, WEBHOOK_THROTTLE_CAP_MS: cap } = space.config;
    rests.forEach((rest, index) => {
      const wanted = Math.min(base * 2 ** index, cap);
      expect(rest).toBeGreaterThanOrEqual(wanted);
      expect(rest).toBeLessThan(wanted + 2_000);
    });
    answer.headers = { 'retry-after': '7200' };
    await attempt(delivery, { attempt: 13, maxAttempts: 50 });
    expect((await rowOf(id)).throttledUntil!.getTime() - nowMs).toBeGreaterThanOrEqual(2 * HOUR);
  });

  it('that hangs is left alone too, and a success ends it', async () => {
    const { tenantId, id } = await subscribed();
    await db.prisma.subscription.update({
      where: { id },
      data: { throttleLevel: 3, throttledUntil: new Date(nowMs - 1_000) },
    });
    await attempt(await announce(tenantId));
    expect(await rowOf(id)).toMatchObject({ throttleLevel: 0, throttledUntil: null });
    const hanging = await subscriber(() => undefined);
    open.push(hanging);
    await db.prisma.subscription.update({ where: { id }, data: { url: hanging.url } });
    expect(await attempt(await announce(tenantId), { timeoutMs: 100 })).toMatchObject({ result: 'timeout' });
    expect((await rowOf(id)).throttleLevel).toBe(1);
  });
});

describe('an attempt that others have made before', () => {
  it('is asked for again at once, as the one that follows theirs', async () => {
    const { tenantId, server } = await subscribed(500);
    const delivery = await announce(tenantId);
    for (const number of [1, 2, 3]) await attempt(delivery, { attempt: number });
    const asked = await attempt(delivery, { attempt: 1, urgent: true });
    expect(asked).toMatchObject({ verdict: 'later', attempts: 3 });
    // No longer than what is left of their pause, which is none but the time that the attempt took.
    expect(asked.waitMs).toBeLessThan(2_000);
    // The last one is another matter: its answer was lost, and its pause comes after it.
    expect(await attempt(delivery, { attempt: 3 })).toMatchObject({ verdict: 'retry', attempts: 3 });
    expect(server.received).toHaveLength(3);
  });
});

describe('the health of a subscription', () => {
  it('is failing from the stated attempt on, says so once, and recovers with the next success', async () => {
    const { tenantId, id, answer } = await subscribed(500);
    await subscribe(tenantId, 'http://127.0.0.1:9/', ['remit.subscription.*']);
    const delivery = await announce(tenantId);
    for (let number = 1; number <= 3; number++) await attempt(delivery, { attempt: number });
    expect(await rowOf(id)).toMatchObject({ state: 'active' });
    await attempt(delivery, { attempt: 4 });
    expect(await emitted(tenantId)).toEqual(['remit.subscription.failing']);
    expect(await rowOf(id)).toMatchObject({ state: 'failing', stateReason: 'http_error' });
    // The answer got lost: the repeated activity announces nothing twice.
    await attempt(delivery, { attempt: 4 });
    await attempt(delivery, { attempt: 5 });
    expect(await emitted(tenantId)).toEqual(['remit.subscription.failing']);

    answer.status = 204;
    const during = await announce(tenantId);
    expect(during).not.toBe('');
    await attempt(during);
    expect(await rowOf(id)).toMatchObject({ state: 'active', exhaustedSince: null });
    expect(await emitted(tenantId)).toEqual(['remit.subscription.failing', 'remit.subscription.recovered']);
  });

  it('is paused after five days of nothing but exhausted deliveries, and a success resets the clock', async () => {
    const { tenantId, id, answer } = await subscribed(500);
    const exhaust = async () => attempt(await announce(tenantId), { maxAttempts: 1 });
    await exhaust();
    for (let day = 0; day < 4; day++) {
      nowMs += DAY;
      await exhaust();
    }
    answer.status = 200;
    await attempt(await announce(tenantId));
    answer.status = 500;
    nowMs += DAY;
    await exhaust();
    nowMs += 5 * DAY - MINUTE;
    await exhaust();
    expect(await rowOf(id)).toMatchObject({ state: 'failing' });
    nowMs += 2 * MINUTE;
    await exhaust();
    expect(await rowOf(id)).toMatchObject({
      state: 'paused',
      stateReason: 'exhausted',
      missedSince: expect.any(Date) as Date,
    });
    expect(await emitted(tenantId)).toEqual([
      'remit.subscription.failing',
      'remit.subscription.recovered',
      'remit.subscription.failing',
      'remit.subscription.paused',
    ]);
    expect(await announce(tenantId)).toBe('');
  });

  it('is not judged by a failure that was long ago', async () => {
    const { tenantId, id } = await subscribed(500);
    await attempt(await announce(tenantId), { maxAttempts: 1 });
    nowMs += 30 * DAY;
    await attempt(await announce(tenantId), { maxAttempts: 1 });
    expect(await rowOf(id)).toMatchObject({ state: 'failing' });
  });

  it('is disabled by a 410, which is announced', async () => {
    const { tenantId, id } = await subscribed(410);
    expect(await attempt(await announce(tenantId))).toMatchObject({ verdict: 'held' });
    expect(await rowOf(id)).toMatchObject({ state: 'disabled', stateReason: 'gone' });
    expect(await emitted(tenantId)).toEqual(['remit.subscription.disabled']);
  });

  it('is changed once, however many attempts fail at the same time', async () => {
    const { tenantId } = await subscribed(500);
    const deliveries = await Promise.all(Array.from({ length: 12 }, () => announce(tenantId)));
    await Promise.all(deliveries.map((delivery) => attempt(delivery, { maxAttempts: 1 })));
    expect(await emitted(tenantId)).toEqual(['remit.subscription.failing']);
  });
});

describe('an operator', () => {
  it('pauses and resumes; what was pending is held meanwhile and recoverable', async () => {
    const { tenantId, id, server } = await subscribed();
    const pending = await announce(tenantId);
    await operateSubscription(db, by(tenantId), id, 'pause');
    await expect(operateSubscription(db, by(tenantId), id, 'pause')).rejects.toMatchObject({
      code: 'conflict',
    });
    expect(await attempt(pending)).toMatchObject({ verdict: 'held' });
    expect(await getDelivery(db, { tenantId, id: pending })).toMatchObject({ status: 'held' });
    expect(server.received).toHaveLength(0);

    const { missedSince } = await operateSubscription(db, by(tenantId), id, 'resume');
    const { createdAt } = await db.prisma.delivery.findUniqueOrThrow({ where: { id: pending } });
    expect(missedSince!.getTime()).toBeLessThanOrEqual(createdAt.getTime());
    expect(await rowOf(id)).toMatchObject({ state: 'active', missedSince: null });
    const outbox = await db.pool.query<{ value: string }>(
      `SELECT value FROM outbox WHERE topic = 'events' AND value::jsonb->>'tenantId' = $1 ORDER BY id`,
      [tenantId],
    );
    // Before them: what was announced to it.
    const [, ...told] = outbox.rows.map(
      ({ value }) => JSON.parse(value) as { id: string; type: string; data: unknown },
    );
    expect(told.map(({ type }) => type)).toEqual([
      'remit.subscription.paused',
      'remit.subscription.recovered',
    ]);
    const domain = await db.pool.query<{ key: string; value: string }>(
      `SELECT key, value FROM outbox WHERE topic = 'domain.events' AND key = $1 ORDER BY id`,
      [id],
    );
    const events = domain.rows.map(({ value }) => DomainEvent.parse(JSON.parse(value)));
    expect(events).toMatchObject(
      told.map((event) => ({
        ...{ id: event.id, type: event.type.replace('remit.', ''), data: event.data, tenantId },
        ...{ aggregate: 'subscription', aggregateId: id, correlationId: 'correlation' },
      })),
    );
    await expect(operateSubscription(db, by('other'), id, 'pause')).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  it('who resumes while a delivery is being held brings it back all the same', async () => {
    const { tenantId, id, server } = await subscribed();
    const pending = await announce(tenantId);
    await operateSubscription(db, by(tenantId), id, 'pause');
    const client = await db.pool.connect();
    try {
      // A resume that is not committed yet: the attempt reads the pause, and waits with holding.
      await client.query('BEGIN');
      await client.query(`SELECT operate_subscription($1, $2, 'resume', 'token:operator', 'c')`, [
        tenantId,
        id,
      ]);
      const attempted = attempt(pending);
      await eventually(async () => {
        const { rowCount } = await db.pool.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        );
        expect(rowCount).toBeGreaterThan(0);
      });
      await client.query('COMMIT');
      const answer = await attempted;
      expect(answer).toMatchObject({ verdict: 'later', waitMs: 0, attempts: 0 });
    } finally {
      client.release();
    }
    expect(await attempt(pending)).toMatchObject({ verdict: 'delivered' });
    expect(server.received).toHaveLength(1);
  });
});
