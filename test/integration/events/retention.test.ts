import { randomUUID } from 'node:crypto';
import { createEventActivities } from '../../../src/activities/events';
import { createReplayActivities } from '../../../src/activities/replays';
import { PURGE_START, purgeEventsStep, type PurgePosition } from '../../../src/domain/event-retention';
import { fanOutSteps, recordFirstAttempts } from '../../../src/domain/fan-out';
import { createReplay, getReplay, listStrandedReplays, recordReplay } from '../../../src/domain/replays';
import { operateSubscription } from '../../../src/domain/subscription-health';
import { createSubscription, getSubscription } from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring } from '../../../src/platform/secrets';
import { NOTHING_STARTED, playedPolicy } from '../../support/deliveries';
import { createTestSpace, openTestDatabase, type TestSpace } from '../../support/harness';

const DAY = 86_400_000;

let space: TestSpace;
let db: Database;
beforeAll(async () => {
  space = await createTestSpace();
  db = openTestDatabase(space);
});
afterAll(() => db.close());

const by = (tenantId: string) => ({ tenantId, actor: 'token:test', correlationId: 'c' });
async function subscribed() {
  const tenantId = `tenant-${randomUUID()}`;
  const { subscription } = await createSubscription(db, createKeyring(space.config), {
    ...{ tenantId, url: 'http://127.0.0.1:9/', eventTypes: ['invoice.*'], description: '', maxPerTenant: 10 },
    allowedPrivateCidrs: space.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
  });
  return { tenantId, id: subscription.id };
}

interface Given {
  tenantId: string;
  type?: string;
  ageMs?: number;
  fannedOut?: boolean;
  subscriptionId?: string;
  status?: string;
}

/** An event of this age, with a delivery and an attempt when it names a subscription. */
async function event(given: Given): Promise<string> {
  const { tenantId, type = 'invoice.paid', ageMs = 0, fannedOut = true, subscriptionId, status } = given;
  const at = new Date(Date.now() - ageMs);
  const { rows } = await db.pool.query<{ id: string }>(
    `INSERT INTO webhook_events (id, tenant_id, type, body, created_at, fanned_out_at)
     VALUES (new_event_id(), $1, $2::text, jsonb_build_object('type', $2::text, 'timestamp', '', 'data', '{}'::jsonb)::text, $3, $4)
     RETURNING id`,
    [tenantId, type, at, fannedOut ? at : null],
  );
  const { id } = rows[0]!;
  if (subscriptionId !== undefined)
    await db.pool.query(
      `WITH made AS (
         INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, status)
         VALUES ($1, $2, $3, $4, $5) RETURNING id)
       INSERT INTO delivery_attempts (delivery_id, attempt, started_at, duration_ms, result)
       SELECT id, 1, now(), 1, 'delivered' FROM made`,
      [tenantId, id, subscriptionId, type, status],
    );
  return id;
}
const kept = async (ids: string[]) =>
  (await db.prisma.webhookEvent.findMany({ where: { id: { in: ids } }, select: { id: true } })).map(
    ({ id }) => id,
  );

/** All steps of a run, as the workflow does them. */
async function purge(limit: number): Promise<{ steps: number; purged: number }> {
  let position: PurgePosition = PURGE_START;
  for (let steps = 1, purged = 0; ; steps += 1) {
    const step = await purgeEventsStep(db, { ...position, retentionDays: 90, limit });
    expect(step.examined).toBeLessThanOrEqual(limit);
    purged += step.purged;
    if (step.done) return { steps, purged };
    position = step;
  }
}

describe('events is deleted by retention', () => {
  it('each after the time of its own type, in steps, with deliveries and attempts', async () => {
    const { tenantId, id: subscriptionId } = await subscribed();
    await db.prisma.eventConfig.createMany({
      data: [
        { tenantId, eventType: 'invoice.paid', retentionDays: 7 },
        { tenantId, eventType: 'invoice.void', retentionDays: 365 },
      ],
    });
    const of = (type: string, days: number, status = 'delivered', fannedOut = true) =>
      event({ tenantId, type, ageMs: days * DAY, subscriptionId, status, fannedOut });
    const expired = [
      ...[await of('invoice.paid', 8), await of('invoice.paid', 400, 'held')],
      ...[await of('invoice.void', 366, 'exhausted'), await of('invoice.sent', 91, 'cancelled')],
    ];
    const stay = [
      ...[await of('invoice.paid', 6), await of('invoice.void', 364), await of('invoice.sent', 89)],
      // Still being tried, or not handed out yet: its age does not matter.
      ...[await of('invoice.paid', 400, 'pending'), await of('invoice.sent', 400, 'delivered', false)],
    ];
    // Many that are kept lie before those that are not: each is looked at once.
    for (let n = 0; n < 20; n += 1) stay.push(await of('invoice.void', 300));
    const { steps, purged } = await purge(3);
    expect(purged).toBe(expired.length);
    expect(steps).toBeLessThanOrEqual(11);
    expect(await kept([...expired, ...stay])).toHaveLength(stay.length);
    expect(await kept(expired)).toEqual([]);
    expect(await db.prisma.delivery.count({ where: { eventId: { in: expired } } })).toBe(0);
    const attempts = await db.prisma.deliveryAttempt.count({ where: { delivery: { subscriptionId } } });
    expect(attempts).toBe(stay.length);
    expect(await purge(1_000)).toEqual({ steps: 1, purged: 0 });
  });

  it('in steps of the configured size', async () => {
    const activities = createEventActivities({
      ...{ db, log: space.log, deliveryPolicy: playedPolicy, sendDeadLetter: () => Promise.resolve() },
      config: { ...space.config, EVENT_RETENTION_BATCH_ROWS: 2, EVENT_RETENTION_DAYS: 90 },
    });
    const { tenantId } = await subscribed();
    for (let n = 0; n < 5; n += 1) await event({ tenantId, type: 'invoice.old', ageMs: 1_000 * DAY });
    expect(await activities.purgeEvents(PURGE_START)).toMatchObject({ examined: 2, purged: 2, done: false });
  });
});

describe('a resume with what was missed', () => {
  const missed = (replayId: string, maxRunning = 10) => ({
    ...{ missed: true, replayId, ratePerSecond: 5, maxRunning },
  });
  const replaysOf = (subscriptionId: string) => db.prisma.replay.findMany({ where: { subscriptionId } });

  it('writes the replay with the state, once for each operation, however often it is repeated', async () => {
    const { tenantId, id } = await subscribed();
    await operateSubscription(db, by(tenantId), id, 'pause');
    const replayId = randomUUID();
    const first = await operateSubscription(db, by(tenantId), id, 'resume', missed(replayId));
    expect(first.replayId).toBe(replayId);
    // As a client does that got no answer: the state is what it was to be already.
    const again = await operateSubscription(db, by(tenantId), id, 'resume', missed(replayId));
    expect(again.replayId).toBe(replayId);
    expect(await replaysOf(id)).toHaveLength(1);
    expect(await getReplay(db, { tenantId, id: replayId })).toMatchObject({
      ...{ kind: 'missed', status: 'running', ratePerSecond: 5, eventTypes: [] },
    });
    await expect(
      operateSubscription(db, by(tenantId), id, 'resume', missed(randomUUID())),
    ).rejects.toMatchObject({
      code: 'conflict',
    });
  });

  it('is refused as a whole when too many replays are running', async () => {
    const { tenantId, id } = await subscribed();
    await operateSubscription(db, by(tenantId), id, 'pause');
    await expect(
      operateSubscription(db, by(tenantId), id, 'resume', missed(randomUUID(), 0)),
    ).rejects.toMatchObject({ code: 'unprocessable' });
    expect(await getSubscription(db, { tenantId, id })).toMatchObject({ state: 'paused' });
    expect(await replaysOf(id)).toEqual([]);
  });

  it('brings back an event that was published before the pause and handed out after it', async () => {
    const { tenantId, id } = await subscribed();
    const eventId = await event({ tenantId, ageMs: 2_000, fannedOut: false });
    await operateSubscription(db, by(tenantId), id, 'pause');
    const steps = await fanOutSteps(db, createKeyring(space.config), {
      eventIds: [eventId],
      after: '',
      limit: 10,
    });
    expect(steps.get(eventId)).toMatchObject({ fresh: [], stored: [], next: null, handedOut: false });
    await recordFirstAttempts(db, [], [eventId]);
    const replayId = randomUUID();
    await db.prisma.subscription.update({ where: { id }, data: { createdAt: new Date(Date.now() - DAY) } });
    await operateSubscription(db, by(tenantId), id, 'resume', missed(replayId));
    const replay = createReplayActivities({
      ...{ db, config: space.config, deliveryPolicy: playedPolicy, ...NOTHING_STARTED },
    });
    await replay.stepReplay({ replayId, correlationId: 'c', progress: null, sliceMs: 1_000 });
    expect(await db.prisma.delivery.findMany({ where: { replayId } })).toMatchObject([
      { eventId, subscriptionId: id, inLane: true },
    ]);
  });
});

describe('replays that nobody carries out', () => {
  it('are found until they have done a step', async () => {
    const { tenantId, id: subscriptionId } = await subscribed();
    const make = () =>
      createReplay(db, {
        ...{ id: randomUUID(), tenantId, subscriptionId, kind: 'all', eventTypes: [], actor: 'token:test' },
        ...{ since: new Date(Date.now() - DAY), ratePerSecond: 10, maxRunning: 10 },
      });
    const [begun, cancelled, waiting, other] = [await make(), await make(), await make(), await make()];
    const at = new Date().toISOString();
    const progress = { reason: null, examined: 1, replayed: 1, at };
    await recordReplay(db, begun.id, { status: 'running', ...progress });
    await recordReplay(db, cancelled.id, { status: 'cancelled', ...progress, examined: 0 });
    const found: string[] = [];
    for (let after: { at: string; id: string } | null = null; ;) {
      const page: Awaited<ReturnType<typeof listStrandedReplays>> = await listStrandedReplays(db, {
        after,
        limit: 1,
      });
      found.push(...page.replays.map(({ id }) => id));
      if (page.next === null) break;
      after = page.next;
    }
    expect(found).toEqual(expect.arrayContaining([waiting.id, other.id]));
    expect(found).not.toContain(begun.id);
    expect(found).not.toContain(cancelled.id);
    expect(new Set(found).size).toBe(found.length);
    await expect(
      db.prisma.auditRecord.findFirstOrThrow({ where: { tenantId, action: 'replay.created' } }),
    ).resolves.toMatchObject({ actor: 'token:test' });
  });
});
