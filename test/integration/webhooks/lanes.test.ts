import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LaneStep } from '../../../src/contracts/workflows';
import { getDelivery } from '../../../src/domain/deliveries';
import { finishDelivery } from '../../../src/domain/delivery-ends';
import { forgottenLanes, hurryInLane, lanesToWake } from '../../../src/domain/lanes';
import { operateSubscription } from '../../../src/domain/subscription-health';
import { getSubscription, updateSubscription } from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { sendLane } from '../../../src/webhooks/lanes';
import { eventually } from '../../support/harness';
import { createDeliveryStage, type DeliveryStage } from '../../support/delivery-stage';

let stage: DeliveryStage;
let db: Database;
beforeAll(async () => {
  stage = await createDeliveryStage();
  ({ db } = stage);
});
afterEach(() => stage.closeSubscribers());
afterAll(() => stage.close());

/** Resolves when a test says so. */
function gate() {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

interface Got {
  n: number;
  at: number;
}

/** A subscriber that answers as a test says; the numbers of what it was sent, in the order in which it came. */
async function receiver(answer: (n: number) => number | 'never' | Promise<number> = () => 200) {
  const got: Got[] = [];
  const server = await stage.subscriber((response, { body }) => {
    const { n } = (JSON.parse(body) as { data: { n: number } }).data;
    got.push({ n, at: performance.now() });
    void Promise.resolve(answer(n)).then((status) => {
      if (status !== 'never') response.writeHead(status).end();
    });
  });
  return { url: server.url, got, numbers: () => got.map(({ n }) => n) };
}

async function publisher() {
  const tenant = await stage.publisher();
  return {
    ...tenant,
    send: (id: string, signal?: AbortSignal): Promise<LaneStep> => sendLane(tenant.deps, id, signal),
    change: (id: string, changes: object) =>
      updateSubscription(db, tenant.deps.keyring, tenant.by, {
        ...{ id, expected: '*', changes },
        allowedPrivateCidrs: stage.space.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
      }),
  };
}

const deliveryOf = async (tenantId: string, eventId: string) => {
  const { id } = await db.prisma.delivery.findFirstOrThrow({ where: { eventId } });
  return getDelivery(db, { tenantId, id });
};
const upTo = (count: number) => Array.from({ length: count }, (_, n) => n);

describe('the order of a subscription', () => {
  it('is that of publication, however the events are handed out', async () => {
    const tenant = await publisher();
    const target = await receiver();
    const id = await tenant.subscribe(target.url, { ordered: true });
    const events: string[] = [];
    for (const n of upTo(19)) events.push(...(await tenant.publish(n)));
    const batch = await tenant.publish(...upTo(10).map((n) => 100 + n));
    // The last first, and all at once.
    const reversed = [...events, ...batch].reverse();
    await Promise.all(reversed.map((event) => tenant.handOut(event)));
    expect(target.got).toHaveLength(0);
    expect(tenant.woken).toEqual([id]);
    expect(await tenant.send(id)).toMatchObject({ waitMs: null, delivered: 29, failed: 0 });
    expect(target.numbers()).toEqual([...upTo(19), ...upTo(10).map((n) => 100 + n)]);
    expect(tenant.started).toEqual([]);
  });

  it('waits for an event that is not handed out yet, and says so', async () => {
    const tenant = await publisher();
    const target = await receiver();
    const id = await tenant.subscribe(target.url, { ordered: true });
    const [early] = await tenant.publish(1);
    const [late] = await tenant.publish(2);
    await tenant.handOut(late!);
    expect(await tenant.send(id, AbortSignal.timeout(300))).toMatchObject({ delivered: 0 });
    expect(await deliveryOf(tenant.tenantId, late!)).toMatchObject({
      waitsFor: 'order',
      waitsForDeliveryId: null,
    });
    await tenant.handOut(early!);
    await tenant.send(id);
    expect(target.numbers()).toEqual([1, 2]);
  });

  it('is kept by what fails: those behind it wait for its next attempt, and say for which', async () => {
    const tenant = await publisher();
    let status = 500;
    const target = await receiver((n) => (n === 1 ? status : 200));
    const id = await tenant.subscribe(target.url, { ordered: true });
    const events = await tenant.publish(0, 1, 2);
    await tenant.handOut(...events);
    const step = await tenant.send(id);
    expect(step).toMatchObject({ waitsFor: 'time', delivered: 1, failed: 1 });
    expect(step.waitMs).toBeGreaterThan(3_000);
    expect(target.numbers()).toEqual([0, 1]);
    const failed = await deliveryOf(tenant.tenantId, events[1]!);
    expect(failed).toMatchObject({ waitsFor: 'retry', attempts: 1, nextAttemptAt: expect.any(Date) as Date });
    expect(await deliveryOf(tenant.tenantId, events[2]!)).toMatchObject({
      waitsFor: 'order',
      waitsForDeliveryId: failed.id,
    });
    // What is new does not wake it: it could not go.
    expect(await lanesToWake(db, [id])).toEqual([]);
    status = 200;
    await hurryInLane(db, failed.id);
    expect(await tenant.send(id)).toMatchObject({ waitMs: null, delivered: 2 });
    expect(target.numbers()).toEqual([0, 1, 1, 2]);
  });

  it('is kept by a worker that is killed: what it had not recorded is sent again, from there on', async () => {
    const tenant = await publisher();
    const target = await receiver();
    const id = await tenant.subscribe(target.url, { ordered: true });
    await tenant.handOut(...(await tenant.publish(...upTo(6))));
    // It dies between sending and recording the third: nothing of that is stored.
    const store = tenant.deps.attempts.store.bind(tenant.deps.attempts);
    let stored = 0;
    tenant.deps.attempts.store = (made) => (stored++ < 2 ? store(made) : Promise.reject(new Error('killed')));
    await expect(tenant.send(id)).rejects.toThrow('killed');
    tenant.deps.attempts.store = store;
    await tenant.send(id);
    const numbers = target.numbers();
    expect([...new Set(numbers)]).toEqual(upTo(6));
    expect(numbers.slice(numbers.lastIndexOf(2))).toEqual([2, 3, 4, 5]);
  });
});

describe('what a lane has taken out of the rows', () => {
  /** The first of 20 is on its way, and the lane has all of them. */
  async function underWay(more: { ordered?: boolean; rateLimitPerSecond?: number }) {
    const tenant = await publisher();
    const held = gate();
    const target = await receiver(() => held.opened.then(() => 200));
    const id = await tenant.subscribe(target.url, more);
    const events = await tenant.publish(...upTo(20));
    await tenant.handOut(...events);
    const sending = tenant.send(id);
    await eventually(() => expect(target.got).toHaveLength(1));
    return { tenant, target, id, events, sending, open: held.open };
  }
  /** At a rate, others may have begun before; what has begun arrives within this time. */
  const sentBefore = async ({ got }: { got: Got[] }) => {
    await sleep(400);
    return got.length;
  };
  const ways = [
    ['in order', { ordered: true }],
    ['at a rate', { rateLimitPerSecond: 4 }],
  ] as const;

  it.each(ways)('%s is not sent any more once it is cancelled', async (_how, more) => {
    const { tenant, target, id, events, sending, open: answer } = await underWay(more);
    const rest = await db.prisma.delivery.findMany({ where: { eventId: { in: events.slice(1) } } });
    for (const { id: deliveryId } of rest)
      await finishDelivery(db, { deliveryId, status: 'cancelled', reason: 'test' });
    const sent = await sentBefore(target);
    answer();
    await sending;
    expect(target.got).toHaveLength(sent);
    expect(await db.prisma.delivery.count({ where: { subscriptionId: id, status: 'cancelled' } })).toBe(19);
    expect(await db.prisma.deliveryAttempt.count({ where: { subscriptionId: id } })).toBe(sent);
    expect(tenant.dead).toEqual([]);
  });

  it.each(ways)('%s waits when the subscription is paused meanwhile', async (_how, more) => {
    const { tenant, target, id, sending, open: answer } = await underWay(more);
    await operateSubscription(db, tenant.by, id, 'pause');
    const sent = await sentBefore(target);
    answer();
    await sending;
    expect(target.got).toHaveLength(sent);
    // What was on its way is what it came to, and not held to be sent once more.
    const count = (status: string) => db.prisma.delivery.count({ where: { subscriptionId: id, status } });
    expect([await count('delivered'), await count('held')]).toEqual([sent, 20 - sent]);
  });

  it('goes to the new address when that has changed meanwhile', async () => {
    const { tenant, target, id, sending, open: answer } = await underWay({ ordered: true });
    const other = await receiver();
    await tenant.change(id, { url: other.url });
    answer();
    await sending;
    expect(target.numbers()).toEqual([0]);
    expect(other.numbers()).toEqual(upTo(20).slice(1));
  });
});

describe('a delivery whose event is no longer kept', () => {
  it('ends in its lane, and those behind it go on', async () => {
    const tenant = await publisher();
    const target = await receiver();
    const id = await tenant.subscribe(target.url, { ordered: true });
    const events = await tenant.publish(0, 1);
    await tenant.handOut(...events);
    await db.pool.query('DELETE FROM webhook_events WHERE id = $1', [events[0]]);
    expect(await tenant.send(id)).toMatchObject({ waitMs: null, delivered: 1 });
    expect(target.numbers()).toEqual([1]);
    expect(await deliveryOf(tenant.tenantId, events[0]!)).toMatchObject({
      ...{ status: 'cancelled', lastError: 'the event is no longer kept' },
    });
  });
});

describe('a first attempt that waits for a place', () => {
  it('is not made once its delivery is cancelled', async () => {
    const tenant = await publisher();
    const held = gate();
    const target = await receiver(() => held.opened.then(() => 200));
    const places = stage.space.config.WEBHOOK_CONCURRENT_PER_SUBSCRIPTION;
    const id = await tenant.subscribe(target.url);
    const events = await tenant.publish(...upTo(places + 5));
    const handing = tenant.handOut(...events);
    await eventually(() => expect(target.got).toHaveLength(places));
    const waiting = events.filter((_, n) => !target.numbers().includes(n));
    await eventually(async () =>
      expect(await db.prisma.delivery.count({ where: { eventId: { in: waiting } } })).toBe(waiting.length),
    );
    await sleep(50);
    await db.pool.query(
      `UPDATE deliveries SET status = 'cancelled', finished_at = now(), in_lane = false WHERE subscription_id = $1 AND event_id = ANY($2)`,
      [id, waiting],
    );
    held.open();
    expect(await handing).toEqual([]);
    expect(target.got).toHaveLength(places);
    expect(await db.prisma.delivery.count({ where: { subscriptionId: id, inLane: true } })).toBe(0);
  });
});

describe('a rate', () => {
  const mostInASecond = (got: Got[]) =>
    Math.max(...got.map(({ at }) => got.filter((other) => other.at >= at && other.at < at + 1_000).length));

  it.each([
    [1, 3],
    [5, 12],
  ])(
    'of %i a second is never exceeded in any second',
    async (rateLimitPerSecond, count) => {
      const tenant = await publisher();
      const target = await receiver();
      const id = await tenant.subscribe(target.url, { rateLimitPerSecond });
      const [one, ...others] = await tenant.publish(...upTo(count));
      await tenant.handOut(one!);
      expect(tenant.woken).toEqual([id]);
      await tenant.handOut(...others);
      for (let step = await tenant.send(id); step.waitMs !== null;) step = await tenant.send(id);
      expect(target.got).toHaveLength(count);
      expect(mostInASecond(target.got)).toBeLessThanOrEqual(rateLimitPerSecond);
    },
    60_000,
  );

  it('that is lifted frees what waited for it', async () => {
    const tenant = await publisher();
    const target = await receiver();
    const id = await tenant.subscribe(target.url, { rateLimitPerSecond: 1 });
    const events = await tenant.publish(...upTo(200));
    await tenant.handOut(...events);
    const sending = tenant.send(id);
    await sleep(100);
    expect(await deliveryOf(tenant.tenantId, events[150]!)).toMatchObject({ waitsFor: 'rate' });
    await tenant.change(id, { rateLimitPerSecond: null });
    expect(await sending).toMatchObject({ delivered: 200, waitMs: null });
  }, 60_000);
});

describe('a subscriber that rests', () => {
  it('gets nothing until then; one workflow waits, and somebody’s wish or a new URL ends it', async () => {
    const tenant = await publisher();
    const target = await receiver();
    const id = await tenant.subscribe(target.url);
    const throttledUntil = new Date(Date.now() + 3_600_000);
    const rest = () =>
      db.prisma.subscription.update({ where: { id }, data: { throttleLevel: 3, throttledUntil } });
    await rest();
    const events = await tenant.publish(...upTo(20));
    expect(await tenant.handOut(...events)).toEqual([]);
    expect(tenant.woken).toEqual([id]);
    const step = await tenant.send(id);
    expect(step).toMatchObject({ waitsFor: 'rest', delivered: 0 });
    expect(step.waitMs).toBeGreaterThan(3_500_000);
    const first = await deliveryOf(tenant.tenantId, events[0]!);
    expect(first).toMatchObject({ waitsFor: 'rest', nextAttemptAt: throttledUntil });
    expect(await getSubscription(db, { tenantId: tenant.tenantId, id })).toMatchObject({
      restsUntil: throttledUntil,
    });
    // More of the same wakes nobody.
    await tenant.handOut(...(await tenant.publish(99)));
    expect(tenant.woken).toEqual([id]);
    await tenant.change(id, { url: `${target.url}/new` });
    expect(await tenant.send(id)).toMatchObject({ delivered: 21, waitMs: null });
    expect(tenant.started).toEqual([]);
  });

  it('is probed with one attempt, and whose delivery failed has a workflow for its next one', async () => {
    const tenant = await publisher();
    const target = await receiver(() => 503);
    const id = await tenant.subscribe(target.url);
    await db.prisma.subscription.update({
      where: { id },
      data: { throttleLevel: 1, throttledUntil: new Date(Date.now() - 1) },
    });
    await tenant.handOut(...(await tenant.publish(...upTo(5))));
    expect(await tenant.send(id)).toMatchObject({ waitsFor: 'rest', failed: 1 });
    expect(target.got).toHaveLength(1);
    expect(tenant.started).toMatchObject([{ subscriptionId: id, attemptsMade: 1 }]);
    expect(tenant.started[0]!.waitMs).toBeGreaterThan(0);
  });
});

describe('a subscription that gets nothing', () => {
  it('has what waits in its lane held, and a resume tries that now', async () => {
    const tenant = await publisher();
    const target = await receiver();
    const id = await tenant.subscribe(target.url, { ordered: true });
    await tenant.handOut(...(await tenant.publish(1, 2)));
    await operateSubscription(db, tenant.by, id, 'pause');
    expect(await tenant.send(id)).toMatchObject({ waitMs: null });
    expect(
      await db.prisma.delivery.count({ where: { subscriptionId: id, status: 'held', inLane: false } }),
    ).toBe(2);
    const { replayId } = await operateSubscription(db, tenant.by, id, 'resume', {
      ...{ missed: false, replayId: randomUUID(), ratePerSecond: 50, maxRunning: 5 },
    });
    expect(await db.prisma.replay.findUniqueOrThrow({ where: { id: replayId! } })).toMatchObject({
      ...{ kind: 'retry', subscriptionId: id, statuses: ['held', 'pending'] },
    });
  });

  it('because it answered 410 has that delivery held too', async () => {
    const tenant = await publisher();
    const target = await receiver(() => 410);
    const id = await tenant.subscribe(target.url);
    const [event] = await tenant.publish(1);
    expect(await tenant.handOut(event!)).toEqual([]);
    expect(await deliveryOf(tenant.tenantId, event!)).toMatchObject({ status: 'held', lastStatusCode: 410 });
    expect(await getSubscription(db, { tenantId: tenant.tenantId, id })).toMatchObject({ state: 'disabled' });
  });
});

describe('tenants that share a host', () => {
  it('do not wait for each other: two hanging URLs leave another’s healthy one alone', async () => {
    const [hostile, healthy] = [await publisher(), await publisher()];
    // One process, one host: /hangs-… is never answered.
    const target = await receiver((n) => (n < 0 ? 'never' : 200));
    for (let i = 0; i < 2; i++) await hostile.subscribe(`${target.url}/hangs-${i}`);
    await healthy.subscribe(target.url);
    const hanging = healthy.handOut(...(await hostile.publish(...upTo(60).map((n) => -n - 1))));
    await sleep(200);
    const events = await healthy.publish(...upTo(50));
    const startedAt = performance.now();
    expect(await healthy.handOut(...events)).toEqual([]);
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    expect(target.numbers().filter((n) => n >= 0)).toHaveLength(50);
    expect(
      await db.prisma.delivery.count({ where: { tenantId: healthy.tenantId, status: 'delivered' } }),
    ).toBe(50);
    await stage.closeSubscribers();
    await hanging;
  }, 60_000);
});

describe('a lane that ran empty while its subscriber rests', () => {
  it('is woken by what comes next, and sends it when the rest is over', async () => {
    const { url, numbers } = await receiver((n) => (n === 1 ? 503 : 200));
    const tenant = await publisher();
    const id = await tenant.subscribe(url);
    expect(await tenant.handOut(...(await tenant.publish(1)))).toHaveLength(1);
    await db.pool.query(
      `UPDATE subscriptions SET throttled_until = clock_timestamp() + interval '2 seconds' WHERE id = $1`,
      [id],
    );
    expect(await tenant.send(id)).toMatchObject({ waitMs: null, delivered: 0 });
    await tenant.handOut(...(await tenant.publish(2)));
    expect(tenant.woken).toEqual([id]);
    const rests = await tenant.send(id);
    expect(rests).toMatchObject({ waitsFor: 'rest', delivered: 0 });
    await sleep(rests.waitMs! + 100);
    expect(await tenant.send(id)).toMatchObject({ delivered: 1 });
    expect(numbers()).toEqual([1, 2]);
  });

  it('is found by the recovery job, should nobody have woken it', async () => {
    const tenant = await publisher();
    const id = await tenant.subscribe('http://127.0.0.1:9/', { ordered: true });
    await tenant.handOut(...(await tenant.publish(1)));
    const asleep = (at: string, heeds: boolean) =>
      db.pool.query(
        `UPDATE subscription_lanes SET looks_at = $2, heeds_work = $3 WHERE subscription_id = $1`,
        [...[id, at, heeds]],
      );
    await db.pool.query(
      `UPDATE deliveries SET next_attempt_at = now() - interval '2 minutes' WHERE subscription_id = $1`,
      [id],
    );
    const found = async () => (await forgottenLanes(db, '', 1_000)).includes(id);
    await asleep('infinity', false);
    expect(await found()).toBe(true);
    await asleep(new Date(Date.now() + 3_600_000).toISOString(), false);
    expect(await found()).toBe(false);
  });
});
