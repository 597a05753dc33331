import { randomUUID } from 'node:crypto';
import { createReplayActivities, type ReplayDeps } from '../../../src/activities/replays';
import type { DeliveryStatus } from '../../../src/contracts/webhooks';
import type { ReplayProgress } from '../../../src/contracts/workflows';
import { listAudit } from '../../../src/domain/audit';
import { countRetried, createReplay, getReplay, type ReplayKind } from '../../../src/domain/replays';
import { reopenDelivery } from '../../../src/domain/resends';
import { createSubscription } from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring } from '../../../src/platform/secrets';
import { playedPolicy } from '../../support/deliveries';
import { createTestSpace, openTestDatabase, type TestSpace } from '../../support/harness';

let space: TestSpace;
let db: Database;
beforeAll(async () => {
  space = await createTestSpace();
  db = openTestDatabase(space);
});
afterAll(() => db.close());

const HOUR = 3_600_000;

async function subscribed(tenantId = `tenant-${randomUUID()}`, eventTypes = ['*']) {
  const { subscription } = await createSubscription(db, createKeyring(space.config), {
    tenantId,
    url: 'http://127.0.0.1:9/',
    eventTypes,
    description: '',
    allowedPrivateCidrs: space.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
    maxPerTenant: 10,
  });
  return { tenantId, id: subscription.id };
}

/** `count` events, one a second from `since` on, each with a delivery in `status` unless that is null. */
async function events(
  { tenantId, id }: { tenantId: string; id: string },
  count: number,
  since: Date,
  status: string | null,
  type = 'remit.payment.succeeded',
) {
  await db.pool.query(
    `WITH made AS (
       INSERT INTO webhook_events (id, tenant_id, type, body, created_at)
       SELECT new_event_id(), $1, $5, jsonb_build_object('type', $5::text, 'timestamp', '', 'data', jsonb_build_object('n', n))::text,
              $4::timestamptz + n * interval '1 second' FROM generate_series(1, $3::int) n
       RETURNING id, created_at)
     INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, status, attempts, created_at, finished_at)
     SELECT $1, id, $2, $5, $6, CASE $6 WHEN 'held' THEN 2 ELSE 10 END, created_at, CASE $6 WHEN 'pending' THEN NULL ELSE now() END
       FROM made WHERE $6::text IS NOT NULL`,
    [tenantId, id, count, since, type, status],
  );
}

async function begin(
  { tenantId, id }: { tenantId: string; id: string },
  kind: ReplayKind,
  since: Date,
  eventTypes: string[] = [],
) {
  return createReplay(db, {
    id: randomUUID(),
    tenantId,
    subscriptionId: id,
    kind,
    eventTypes,
    since,
    ratePerSecond: 1_000,
    actor: 'token:test',
    maxRunning: 10,
  });
}

const woken = new Set<string>();
const activities = (changes: Partial<ReplayDeps> = {}) =>
  createReplayActivities({
    db,
    config: space.config,
    deliveryPolicy: playedPolicy,
    wakeLanes: (ids) => Promise.resolve(ids.forEach((id) => woken.add(id))),
    cancelDeliveries: () => Promise.resolve(),
    ...changes,
  });

/** Carries a replay out as its workflow does; `twice` repeats every slice, as after a crash. @returns what it opened. */
async function carryOut(replayId: string, { twice = false, finish = false } = {}) {
  const replay = activities();
  const opened: Awaited<ReturnType<typeof of>> = [];
  const of = () => db.prisma.delivery.findMany({ where: { replayId, status: 'pending', inLane: true } });
  for (let progress: ReplayProgress | null = null; ;) {
    const input = { replayId, correlationId: 'c', progress, sliceMs: 500 };
    let step = await replay.stepReplay(input);
    if (twice) {
      const first = step.progress.replayed;
      step = await replay.stepReplay(input);
      expect(step.progress.replayed).toBe(first);
    }
    // As fast subscribers do: what was opened ends before the next slice.
    if (finish) {
      opened.push(...(await of()));
      await db.pool.query(
        `UPDATE deliveries SET status = 'exhausted', in_lane = false WHERE replay_id = $1`,
        [replayId],
      );
    }
    progress = step.progress;
    if (step.done) return finish ? opened : of();
  }
}

const since = () => new Date(Date.now() - 10 * HOUR);

describe('recovering what failed', () => {
  it('opens thousands of exhausted deliveries once each, also when every step is repeated', async () => {
    const subscription = await subscribed();
    await events(subscription, 2_500, since(), 'exhausted');
    await events(subscription, 50, since(), 'delivered');
    await events(subscription, 50, since(), 'pending');
    const replay = await begin(subscription, 'failed', new Date(Date.now() - 11 * HOUR));
    const opened = await carryOut(replay.id, { twice: true });
    expect(opened).toHaveLength(2_500);
    expect(opened[0]).toMatchObject({ generation: 1, attemptsBefore: 10, inLane: true });
    expect(woken).toContain(subscription.id);
    // Evenly, at the rate.
    const times = opened.map(({ nextAttemptAt }) => nextAttemptAt!.getTime()).sort((a, b) => a - b);
    for (const [n, at] of times.slice(0, -500).entries()) expect(times[n + 500]! - at).toBeGreaterThan(480);
    const { rows } = await db.pool.query<{ n: string; generations: number }>(
      `SELECT count(*) AS n, max(generation) AS generations FROM deliveries
        WHERE subscription_id = $1 AND status = 'pending' AND replay_id = $2`,
      [subscription.id, replay.id],
    );
    expect(rows[0]).toEqual({ n: '2500', generations: 1 });
    expect(await getReplay(db, { tenantId: subscription.tenantId, id: replay.id })).toMatchObject({
      examined: 2_500,
      replayed: 2_500,
    });
  });

  it('does not send again what fails again while it goes on', async () => {
    const subscription = await subscribed();
    await events(subscription, 350, since(), 'exhausted');
    const replay = await begin(subscription, 'failed', new Date(Date.now() - 11 * HOUR));
    expect(await carryOut(replay.id, { finish: true })).toHaveLength(350);
    expect(await carryOut(replay.id)).toHaveLength(0);
  });

  it('keeps to the time and to the event types', async () => {
    const subscription = await subscribed();
    await events(subscription, 20, new Date(Date.now() - 20 * HOUR), 'exhausted');
    await events(subscription, 30, since(), 'exhausted');
    await events(subscription, 40, since(), 'exhausted', 'remit.order.finished');
    const replay = await begin(subscription, 'failed', new Date(Date.now() - 11 * HOUR), ['remit.payment.*']);
    expect(await carryOut(replay.id)).toHaveLength(30);
  });
});

describe('replaying everything', () => {
  it('sends every matching event of the time to this subscription alone, however often it got it', async () => {
    const subscription = await subscribed(undefined, ['remit.payment.*']);
    const other = await subscribed(subscription.tenantId);
    await events(subscription, 120, since(), 'delivered');
    await events(subscription, 60, since(), null);
    await events(subscription, 30, since(), null, 'remit.order.finished');
    await events(subscription, 7, since(), 'pending');
    const replay = await begin(subscription, 'all', new Date(Date.now() - 11 * HOUR));
    const refs = await carryOut(replay.id, { twice: true });
    expect(refs).toHaveLength(180);
    expect(await db.prisma.delivery.count({ where: { subscriptionId: other.id } })).toBe(0);
    // Once more is another replay, and sends them again.
    await db.pool.query(`UPDATE deliveries SET status = 'delivered' WHERE subscription_id = $1`, [
      subscription.id,
    ]);
    const again = await begin(subscription, 'all', new Date(Date.now() - 11 * HOUR));
    expect((await carryOut(again.id)).every(({ generation }) => generation >= 1)).toBe(true);
  });

  it('heeds the filter of the subscription', async () => {
    const subscription = await subscribed();
    await db.prisma.subscription.update({
      where: { id: subscription.id },
      data: { filter: [{ path: 'n', op: 'lte', value: 5 }] },
    });
    await events(subscription, 50, since(), null);
    const replay = await begin(subscription, 'all', new Date(Date.now() - 11 * HOUR));
    expect(await carryOut(replay.id)).toHaveLength(5);
  });
});

describe('recovering what was missed', () => {
  it('sends what it never got and what was held, and nothing else', async () => {
    const subscription = await subscribed();
    await events(subscription, 40, since(), 'held');
    await events(subscription, 300, since(), null);
    await events(subscription, 25, since(), 'exhausted');
    await events(subscription, 25, since(), 'delivered');
    const replay = await begin(subscription, 'missed', new Date(Date.now() - 11 * HOUR));
    const refs = await carryOut(replay.id, { twice: true });
    expect(refs).toHaveLength(340);
    expect(refs.filter(({ attemptsBefore }) => attemptsBefore === 2)).toHaveLength(40);
  });

  it('stops when the subscription is paused meanwhile, and opens nothing more', async () => {
    const subscription = await subscribed();
    await events(subscription, 300, since(), null);
    const replay = await begin(subscription, 'missed', new Date(Date.now() - 11 * HOUR));
    await db.prisma.subscription.update({ where: { id: subscription.id }, data: { state: 'paused' } });
    const step = await activities().stepReplay({
      ...{ replayId: replay.id, correlationId: 'c', progress: null, sliceMs: 500 },
    });
    expect(step).toMatchObject({
      ...{ progress: { replayed: 0 }, done: true, stopped: 'the subscription is paused' },
    });
    await expect(begin(subscription, 'missed', since())).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('a retry in bulk', () => {
  const retry = (tenantId: string, subscriptionId: string | null, statuses: DeliveryStatus[]) => ({
    ...{ kind: 'retry' as const, tenantId, subscriptionId, statuses, eventTypes: [], since: new Date(0) },
  });

  it('tries what waits of all of a tenant, and only counts when asked to; a rest is over', async () => {
    const one = await subscribed();
    const two = await subscribed(one.tenantId);
    const { tenantId } = one;
    await events(one, 30, since(), 'pending');
    await events(two, 20, since(), 'pending');
    await events(two, 9, since(), 'exhausted');
    await events(one, 5, since(), 'delivered');
    await db.prisma.subscription.update({
      where: { id: two.id },
      data: { throttleLevel: 5, throttledUntil: new Date(Date.now() + HOUR) },
    });
    expect(await countRetried(db, retry(tenantId, null, ['pending']), 100)).toBe(50);
    expect(await countRetried(db, retry(tenantId, two.id, ['pending', 'exhausted']), 100)).toBe(29);
    expect(await countRetried(db, retry('other', null, ['pending']), 100)).toBe(0);
    expect(await db.prisma.delivery.count({ where: { tenantId, inLane: true } })).toBe(0);
    const replay = await createReplay(db, {
      ...retry(tenantId, null, ['pending', 'exhausted']),
      ...{ id: randomUUID(), ratePerSecond: 1_000, actor: 'token:test', maxRunning: 10 },
    });
    for (let progress: ReplayProgress | null = null, done = false; !done;) {
      const input = { replayId: replay.id, correlationId: 'c', progress, sliceMs: 20 };
      ({ progress, done } = await activities().stepReplay(input));
    }
    expect(await db.prisma.delivery.count({ where: { tenantId, inLane: true, status: 'pending' } })).toBe(59);
    expect(await getReplay(db, { tenantId, id: replay.id })).toMatchObject({
      replayed: 59,
      subscriptionId: null,
    });
    expect([...woken]).toEqual(expect.arrayContaining([one.id, two.id]));
    expect(await db.prisma.subscription.findUniqueOrThrow({ where: { id: two.id } })).toMatchObject({
      throttleLevel: 0,
    });
  });
});

describe('a cancellation in bulk', () => {
  const cancelled: string[] = [];
  /** @returns how many steps it took. */
  const carryOutCancellation = async (replayId: string, twice = false, sliceMs = 1) => {
    const cancelDeliveries = (ids: readonly string[]) => Promise.resolve(void cancelled.push(...ids));
    const replay = activities({ cancelDeliveries });
    let steps = 0;
    for (let progress: ReplayProgress | null = null, done = false; !done; steps++) {
      const input = { replayId, correlationId: 'c', progress, sliceMs };
      let step = await replay.stepReplay(input);
      if (twice) {
        const before = step.progress.replayed;
        step = await replay.stepReplay(input);
        // What was ended before is counted, and then it goes on.
        expect(step.progress.replayed).toBeGreaterThanOrEqual(before);
      }
      expect(step.waitMs).toBe(0);
      ({ progress, done } = step);
    }
    for (let told = { at: new Date(0).toISOString(), after: '' }, done = false; !done;)
      ({ told, done } = await replay.tellCancelled({ replayId, told, perSecond: 1_000, sliceMs: 20 }));
    return steps;
  };
  const which = (tenantId: string, subscriptionId: string | null, changes = {}) => ({
    ...{ kind: 'cancel' as const, tenantId, subscriptionId, statuses: ['pending' as const] },
    ...{ eventTypes: [] as string[], since: new Date(0), ...changes },
  });
  const begun = (what: ReturnType<typeof which>) =>
    createReplay(db, {
      ...what,
      ...{ id: randomUUID(), ratePerSecond: 1_000, actor: 'token:test', maxRunning: 10 },
    });
  const statuses = async (subscriptionId: string) =>
    Object.fromEntries(
      (await db.prisma.delivery.groupBy({ by: ['status'], where: { subscriptionId }, _count: true })).map(
        ({ status, _count }) => [status, _count],
      ),
    );

  test.each([
    ['once', false],
    ['with every step repeated', true],
  ])('ends what waits of the subscription and type, and nothing else (%s)', async (_how, twice) => {
    const one = await subscribed();
    const other = await subscribed(one.tenantId);
    await events(one, 60, since(), 'pending', 'invoice.paid');
    await events(one, 7, since(), 'pending', 'invoice.sent');
    await events(one, 5, since(), 'delivered', 'invoice.paid');
    await events(one, 3, since(), 'exhausted', 'invoice.paid');
    await events(other, 4, since(), 'pending', 'invoice.paid');
    await db.pool.query(
      `UPDATE deliveries SET in_lane = true, next_attempt_at = now() WHERE subscription_id = $1 AND event_type = 'invoice.paid'
          AND status = 'pending' AND created_at < $2::timestamptz + interval '20.5 seconds'`,
      [one.id, new Date(Date.now() - 10 * HOUR - 1_000)],
    );
    const what = which(one.tenantId, one.id, { eventTypes: ['invoice.paid'] });
    expect(await countRetried(db, what, 100)).toBe(60);
    expect(await countRetried(db, { ...what, tenantId: 'other', subscriptionId: null }, 100)).toBe(0);
    const replay = await begun(what);
    cancelled.length = 0;
    await carryOutCancellation(replay.id, twice);
    expect(await statuses(one.id)).toEqual({ cancelled: 60, pending: 7, delivered: 5, exhausted: 3 });
    expect(await statuses(other.id)).toEqual({ pending: 4 });
    expect(await getReplay(db, { tenantId: one.tenantId, id: replay.id })).toMatchObject({ replayed: 60 });
    const ended = await db.prisma.delivery.findMany({
      where: { subscriptionId: one.id, status: 'cancelled' },
    });
    for (const each of ended)
      expect(each).toMatchObject({ inLane: false, lastError: 'cancelled by an operator' });
    expect(woken).toContain(one.id);
    // Those that no lane had may wait in workflows of their own.
    const workflows = ended.filter(({ nextAttemptAt }) => nextAttemptAt !== null);
    expect(workflows.length).toBeGreaterThanOrEqual(39);
    expect(workflows.length).toBeLessThan(60);
    expect([...new Set(cancelled)].sort()).toEqual(
      workflows.map(({ eventId }) => `delivery/${eventId}/${one.id}`).sort(),
    );
    const { items } = await listAudit(db, { tenantId: one.tenantId, action: 'replay.created', limit: 10 });
    expect(items).toMatchObject([
      { actor: 'token:test', details: { after: { kind: 'cancel', replayId: replay.id } } },
    ]);
  });

  it('is for one event alone, where that was asked for, and also for a subscription that is paused', async () => {
    const subscription = await subscribed();
    await events(subscription, 3, since(), 'pending');
    const { tenantId, id } = subscription;
    await db.prisma.subscription.update({ where: { id }, data: { state: 'paused' } });
    const { eventId } = await db.prisma.delivery.findFirstOrThrow({ where: { subscriptionId: id } });
    const what = which(tenantId, id, { eventId });
    expect(await countRetried(db, what, 100)).toBe(1);
    await carryOutCancellation((await begun(what)).id);
    expect(await statuses(id)).toEqual({ cancelled: 1, pending: 2 });
  });

  it.each([
    ['a subscription', true, false],
    ['a tenant, with every step repeated,', false, true],
  ])('of 20,000 deliveries of %s takes seconds, whatever the rate', async (_whose, ofOne, twice) => {
    const one = await subscribed();
    await events(one, 20_000, since(), 'pending');
    await db.pool.query('UPDATE deliveries SET in_lane = true WHERE subscription_id = $1', [one.id]);
    const replay = await createReplay(db, {
      ...which(one.tenantId, ofOne ? one.id : null),
      ...{ id: randomUUID(), ratePerSecond: 1, actor: 'token:test', maxRunning: 10 },
    });
    // At its rate it would be five hours and a half, in 20,000 steps.
    expect(await carryOutCancellation(replay.id, twice, 500)).toBeLessThan(100);
    expect(await statuses(one.id)).toEqual({ cancelled: 20_000 });
    expect(await getReplay(db, { tenantId: one.tenantId, id: replay.id })).toMatchObject({
      replayed: 20_000,
    });
  });
});

describe('one delivery', () => {
  it('is reopened when it has ended, under its next generation, and left alone while it is pending', async () => {
    const subscription = await subscribed();
    await events(subscription, 1, since(), 'delivered');
    const { tenantId } = subscription;
    const { id } = await db.prisma.delivery.findFirstOrThrow({ where: { tenantId } });
    expect(await reopenDelivery(db, { tenantId, id })).toMatchObject({
      reopened: true,
      delivery: { deliveryId: id, generation: 1, attemptsBefore: 10 },
    });
    expect(await reopenDelivery(db, { tenantId, id })).toMatchObject({
      reopened: false,
      delivery: { generation: 1 },
    });
    await expect(reopenDelivery(db, { tenantId: 'other', id })).rejects.toMatchObject({ code: 'not_found' });
  });

  it('is reopened only in the state that was asked for', async () => {
    const subscription = await subscribed();
    await events(subscription, 1, since(), 'exhausted');
    const { tenantId } = subscription;
    const { id } = await db.prisma.delivery.findFirstOrThrow({ where: { tenantId } });
    const refused = { code: 'conflict' };
    await expect(reopenDelivery(db, { tenantId, id, onlyIf: 'delivered' })).rejects.toMatchObject(refused);
    const both = await Promise.allSettled(
      [1, 2].map(() => reopenDelivery(db, { tenantId, id, onlyIf: 'exhausted' })),
    );
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(await db.prisma.delivery.findUniqueOrThrow({ where: { id } })).toMatchObject({ generation: 1 });
  });

  it('that was opened by hand is found by the recovery job until it is started, and one of a replay is not', async () => {
    const subscription = await subscribed();
    await events(subscription, 2, since(), 'exhausted');
    const { tenantId } = subscription;
    const [byHand, byReplay] = await db.prisma.delivery.findMany({ where: { tenantId } });
    await reopenDelivery(db, { tenantId, id: byHand!.id });
    await carryOut((await begin(subscription, 'failed', new Date(Date.now() - 11 * HOUR))).id);
    const found = async (started: { deliveryId: string; generation: number }[] = []) =>
      (await activities().strandedDeliveries(started))
        .filter(({ subscriptionId }) => subscriptionId === subscription.id)
        .map(({ deliveryId, generation }) => [deliveryId, generation]);
    expect(await found()).toEqual([[byHand!.id, 1]]);
    expect(await found([{ deliveryId: byHand!.id, generation: 0 }])).toHaveLength(1);
    expect(await found([{ deliveryId: byHand!.id, generation: 1 }])).toEqual([]);
    expect(await db.prisma.delivery.findUniqueOrThrow({ where: { id: byReplay!.id } })).toMatchObject({
      ...{ status: 'pending', generation: 1 },
    });
  });
});

describe('a replay', () => {
  it('needs a time that is one, and is one of at most so many of a tenant', async () => {
    const subscription = await subscribed();
    await expect(begin(subscription, 'all', new Date(Date.now() + HOUR))).rejects.toMatchObject({
      code: 'unprocessable',
    });
    await Promise.all(Array.from({ length: 10 }, () => begin(subscription, 'all', since())));
    await expect(begin(subscription, 'all', since())).rejects.toMatchObject({ code: 'unprocessable' });
  });
});
