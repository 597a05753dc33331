import { randomUUID } from 'node:crypto';
import type { Client, Connection } from '@temporalio/client';
import { Webhook } from 'standardwebhooks';
import { EventDetail, PublishedEvent } from '../../../src/contracts/events';
import {
  Delivery,
  DeliveryAttempts,
  SecretRotated,
  Subscription,
} from '../../../src/contracts/subscriptions';
import { DeliveriesRetried, Replay, SubscriptionOperated } from '../../../src/contracts/replays';
import { SCHEDULES } from '../../../src/contracts/workflows';
import { ensureSchedules } from '../../../src/platform/schedules';
import { connectTemporal } from '../../../src/platform/temporal';
import { eventually } from '../../support/harness';
import { withDatabase } from '../../support/shared-stack';
import { subscriber, type Received, type Subscriber } from '../../support/subscriber';
import { expectProblem, TestApi } from './support';
import { deliver, tenantOf, type Tenant } from './tenant';

/** What a busy machine may need for what takes milliseconds. */
const PATIENCE_MS = 45_000;
const HOUR = 3_600_000;

let api: TestApi;
let temporal: Client;
beforeAll(async () => {
  // Steps of two, so that a replay has several.
  api = await TestApi.withWorkers({ WEBHOOK_REPLAY_BATCH_ROWS: '2' });
  temporal = await connectTemporal(api.space.config);
}, 120_000);
afterAll(async () => {
  await api?.stop();
  await (temporal?.connection as Connection | undefined)?.close();
}, 60_000);

const open: Subscriber[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

/** A subscriber that answers with `status`, which a test may change. */
async function playedSubscriber(status = 204) {
  const played = { status };
  const server = await subscriber((response) => void response.writeHead(played.status).end());
  open.push(server);
  return Object.assign(played, { server, received: server.received });
}

/** A tenant with the type invoice.paid, whose deliveries are tried on this schedule. */
async function publisher(scheduleMs: number[] = [0]): Promise<Tenant> {
  const tenant = tenantOf(api);
  await tenant.type('invoice.paid');
  await tenant.config('invoice.paid', { scheduleMs, timeoutMs: 5_000 });
  return tenant;
}
const subscribe = (tenant: Tenant, { server }: { server: Subscriber }, more: object = {}) =>
  tenant.subscribe({ url: server.url, ...more });
const publish = (tenant: Tenant, n = 0) => tenant.publish({ type: 'invoice.paid', data: { n } });
const post = async (tenant: Tenant, path: string, status: number, body?: unknown) => {
  const reply = await tenant.call('POST', path, body);
  expect({ path, status: reply.status, body: reply.body }).toMatchObject({ status });
  return reply.body;
};

/** Until every event is handed out; then its only delivery, when it satisfies `wanted`. */
const delivery = (tenant: Tenant, eventId: string, wanted: Partial<Delivery>) =>
  eventually(async () => {
    const event = EventDetail.parse((await tenant.get(`/events/${eventId}`)).body);
    expect(event.fannedOutAt).not.toBeNull();
    expect(event.deliveries).toMatchObject([wanted]);
    return event.deliveries[0]!;
  }, PATIENCE_MS);
type Delivery = ReturnType<typeof Delivery.parse>;

const handedOut = (tenant: Tenant, eventId: string) =>
  eventually(async () => {
    const event = EventDetail.parse((await tenant.get(`/events/${eventId}`)).body);
    expect(event.fannedOutAt).not.toBeNull();
    return event;
  }, PATIENCE_MS);
const subscription = async (tenant: Tenant, id: string) =>
  Subscription.parse((await tenant.get(`/subscriptions/${id}`)).body);
const replayWith = (tenant: Tenant, id: string, wanted: Partial<Replay>) =>
  eventually(async () => {
    const replay = Replay.parse((await tenant.get(`/replays/${id}`)).body);
    expect(replay).toMatchObject(wanted);
    return replay;
  }, PATIENCE_MS);
type Replay = ReturnType<typeof Replay.parse>;
const numbers = (received: Received[]) =>
  received.map(({ body }) => (JSON.parse(body) as { data: { n: number } }).data.n);
const query = (text: string, values: unknown[]) =>
  withDatabase(api.space.env['DATABASE_URL']!, (client) => client.query(text, values));

describe('a rotated secret', () => {
  const verifies = (secret: string, { body, headers }: Received) => {
    try {
      new Webhook(secret).verify(body, headers as Record<string, string>);
      return true;
    } catch {
      return false;
    }
  };

  it('signs beside the one before during the overlap, and alone when there is none', async () => {
    const tenant = await publisher();
    const played = await playedSubscriber();
    const { id, secret: first } = await subscribe(tenant, played);
    const rotate = async (body?: object) =>
      SecretRotated.parse(await post(tenant, `/subscriptions/${id}/rotate-secret`, 200, body));
    const signed = async () => {
      await delivery(tenant, (await publish(tenant)).id, { status: 'delivered' });
      return played.received.at(-1)!;
    };
    const { secret: second } = await rotate();
    const both = await signed();
    expect(String(both.headers['webhook-signature']).split(' ')).toHaveLength(2);
    expect([verifies(first, both), verifies(second, both)]).toEqual([true, true]);
    const { secret: third, previousSecretValidUntil } = await rotate({ overlapS: 0 });
    expect(previousSecretValidUntil).toBeNull();
    const alone = await signed();
    expect([first, second, third].map((secret) => verifies(secret, alone))).toEqual([false, false, true]);
  });
});

describe('a test event', () => {
  it('also goes to a subscription that is failing, and brings it back when it arrives', async () => {
    const tenant = await publisher([0]);
    const played = await playedSubscriber(500);
    const { id } = await subscribe(tenant, played);
    await delivery(tenant, (await publish(tenant)).id, { status: 'exhausted', lastStatusCode: 500 });
    expect(await subscription(tenant, id)).toMatchObject({ state: 'failing', stateReason: 'http_error' });
    played.status = 200;
    const { id: test } = PublishedEvent.parse(await post(tenant, `/subscriptions/${id}/test`, 202));
    await delivery(tenant, test, { status: 'delivered', eventType: 'remit.webhook.test' });
    expect(played.received.at(-1)?.headers['webhook-id']).toBe(test);
    expect(await subscription(tenant, id)).toMatchObject({ state: 'active', stateReason: null });
  });
});

describe('a paused subscription', () => {
  it('gets nothing, holds what was pending, and with a resume gets all that it missed, once', async () => {
    const tenant = await publisher([0, 1_500]);
    const played = await playedSubscriber(500);
    const { id } = await subscribe(tenant, played);
    const pending = await publish(tenant, 1);
    await delivery(tenant, pending.id, { status: 'pending', attempts: 1 });
    await post(tenant, `/subscriptions/${id}/pause`, 200);
    expect(await subscription(tenant, id)).toMatchObject({ state: 'paused', stateReason: 'operator' });
    const held = await delivery(tenant, pending.id, { status: 'held' });
    const missed = await publish(tenant, 2);
    expect((await handedOut(tenant, missed.id)).deliveries).toEqual([]);
    expect(played.received).toHaveLength(1);
    for (const refused of [
      `/subscriptions/${id}/pause`,
      `/subscriptions/${id}/test`,
      `/deliveries/${held.id}/resend`,
      `/deliveries/${held.id}/try-now`,
    ])
      expectProblem(await tenant.call('POST', refused), 409, 'conflict');
    const since = new Date(Date.now() - HOUR).toISOString();
    const early = await tenant.call('POST', '/replays', { subscriptionId: id, kind: 'missed', since });
    expectProblem(early, 409, 'conflict');

    played.status = 204;
    const resumed = SubscriptionOperated.parse(
      await post(tenant, `/subscriptions/${id}/resume`, 200, { missed: true }),
    );
    expect(resumed).toMatchObject({ state: 'active', replay: { kind: 'missed', subscriptionId: id } });
    await replayWith(tenant, resumed.replay!.id, { status: 'done', replayed: 2 });
    await delivery(tenant, pending.id, { status: 'delivered', attempts: 2 });
    await delivery(tenant, missed.id, { status: 'delivered', attempts: 1 });
    expect(numbers(played.received).sort()).toEqual([1, 1, 2]);
    expectProblem(await tenant.call('POST', `/subscriptions/${id}/resume`), 409, 'conflict');
  });

  it('without what it missed goes on with what comes, and can still ask for it', async () => {
    const tenant = await publisher();
    const played = await playedSubscriber();
    const { id } = await subscribe(tenant, played);
    await post(tenant, `/subscriptions/${id}/pause`, 200);
    const missed = await publish(tenant, 1);
    await handedOut(tenant, missed.id);
    const resumed = SubscriptionOperated.parse(await post(tenant, `/subscriptions/${id}/resume`, 200));
    expect(resumed).toMatchObject({ state: 'active', replay: null });
    await delivery(tenant, (await publish(tenant, 2)).id, { status: 'delivered' });
    expect(numbers(played.received)).toEqual([2]);
    expect((await handedOut(tenant, missed.id)).deliveries).toEqual([]);
    const replay = Replay.parse(
      await post(tenant, '/replays', 202, { subscriptionId: id, kind: 'missed', since: resumed.missedSince }),
    );
    await replayWith(tenant, replay.id, { status: 'done', replayed: 1 });
    await delivery(tenant, missed.id, { status: 'delivered' });
    expect(numbers(played.received)).toEqual([2, 1]);
  });

  it('can be made so, and gets what came since when it is resumed with it', async () => {
    const tenant = await publisher();
    const played = await playedSubscriber();
    const { id, state } = await subscribe(tenant, played, { paused: true });
    expect(state).toBe('paused');
    const missed = await publish(tenant, 1);
    expect((await handedOut(tenant, missed.id)).deliveries).toEqual([]);
    await post(tenant, `/subscriptions/${id}/resume`, 200, { missed: true });
    await delivery(tenant, missed.id, { status: 'delivered' });
    expect(numbers(played.received)).toEqual([1]);
  });

  it('is resumed once under an Idempotency-Key, and its replay is one', async () => {
    const tenant = await publisher();
    const { id } = await subscribe(tenant, await playedSubscriber());
    await post(tenant, `/subscriptions/${id}/pause`, 200);
    const resume = () =>
      tenant.call('POST', `/subscriptions/${id}/resume`, { missed: true }, { 'idempotency-key': `k-${id}` });
    const [first, second] = [await resume(), await resume()];
    expect([first.status, second.status]).toEqual([200, 200]);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    expect(second.body).toEqual(first.body);
    expect((await tenant.get(`/replays?subscriptionId=${id}`)).body).toMatchObject({ items: [{}] });
  });
});

describe('a subscriber that comes back', () => {
  it('after an outage has all that waits tried now, by one call that can be tried out before', async () => {
    const tenant = await publisher([0, HOUR, HOUR]);
    const played = await playedSubscriber(500);
    const { id } = await subscribe(tenant, played);
    const events = [];
    for (let n = 0; n < 3; n += 1) events.push(await publish(tenant, n));
    for (const event of events) {
      const waiting = await delivery(tenant, event.id, { status: 'pending', attempts: 1, waitsFor: 'retry' });
      expect(Date.parse(waiting.nextAttemptAt!) - Date.now()).toBeGreaterThan(HOUR / 2);
    }
    played.status = 204;
    const retry = async (status: number, body: object) =>
      DeliveriesRetried.parse(await post(tenant, '/deliveries/retry', status, body));
    expect(await retry(200, { subscriptionId: id, dryRun: true })).toEqual({ matched: 3, replay: null });
    expect(await retry(200, { statuses: ['exhausted'], dryRun: true })).toMatchObject({ matched: 0 });
    expect(played.received).toHaveLength(3);
    const { replay } = await retry(202, {});
    for (const event of events) await delivery(tenant, event.id, { status: 'delivered', attempts: 2 });
    await replayWith(tenant, replay!.id, { status: 'done', replayed: 3, subscriptionId: null });
  });

  it('is spared what is cancelled in bulk after a count: their workflows end, and whoever asked is in the audit log', async () => {
    const tenant = await publisher([0, HOUR, HOUR]);
    const played = await playedSubscriber(500);
    const { id } = await subscribe(tenant, played);
    const events = [await publish(tenant, 0), await publish(tenant, 1)];
    for (const event of events) await delivery(tenant, event.id, { status: 'pending', attempts: 1 });
    const cancel = async (status: number, body: object) =>
      DeliveriesRetried.parse(await post(tenant, '/deliveries/cancel', status, body));
    expect(await cancel(200, { subscriptionId: id, dryRun: true })).toEqual({ matched: 2, replay: null });
    await delivery(tenant, events[0]!.id, { status: 'pending' });
    expect(await cancel(200, { eventId: events[1]!.id, dryRun: true })).toMatchObject({ matched: 1 });
    expect(await cancel(200, { eventTypes: ['none'], dryRun: true })).toMatchObject({ matched: 0 });
    const { replay } = await cancel(202, { subscriptionId: id });
    await replayWith(tenant, replay!.id, { status: 'done', replayed: 2, kind: 'cancel', subscriptionId: id });
    for (const event of events) {
      await delivery(tenant, event.id, { status: 'cancelled', attempts: 1 });
      const workflow = (await api.running.context.temporal()).workflow.getHandle(
        `delivery/${event.id}/${id}`,
      );
      await eventually(
        async () => expect((await workflow.describe()).status.name).toBe('COMPLETED'),
        PATIENCE_MS,
      );
    }
    const { body } = await tenant.get(`/audit?cause=subscription:${id}&action=replay.created`);
    expect(body).toMatchObject({ items: [{ details: { after: { kind: 'cancel' } } }] });
    expect(played.received).toHaveLength(2);
  });

  it('after it said that it was gone gets that too, when it is enabled again', async () => {
    const tenant = await publisher([0, HOUR]);
    const played = await playedSubscriber(410);
    const { id } = await subscribe(tenant, played);
    const event = await publish(tenant, 1);
    await delivery(tenant, event.id, { status: 'held', lastStatusCode: 410 });
    expect(await subscription(tenant, id)).toMatchObject({ state: 'disabled', stateReason: 'gone' });
    played.status = 204;
    await post(tenant, `/subscriptions/${id}/resume`, 200);
    await delivery(tenant, event.id, { status: 'delivered', attempts: 2 });
  });
});

describe('an ordered subscription', () => {
  it('gets awaited publications in their order, though some fail, and the next at once when one is cancelled', async () => {
    const tenant = await publisher([0, 200, HOUR]);
    const failing = new Set(['3', '11']);
    const server = await subscriber((response, { body }) => {
      const n = String((JSON.parse(body) as { data: { n: number } }).data.n);
      response.writeHead(failing.delete(n) ? 500 : 204).end();
    });
    open.push(server);
    await subscribe(tenant, { server }, { ordered: true });
    for (let n = 0; n < 19; n += 1) await publish(tenant, n);
    await eventually(() => expect(server.received).toHaveLength(21), PATIENCE_MS);
    const once = numbers(server.received).filter((n, index, all) => all.indexOf(n) === index);
    expect(once).toEqual(Array.from({ length: 19 }, (_, n) => n));
    expect(numbers(server.received).filter((n) => n === 3 || n === 11)).toEqual([3, 3, 11, 11]);
  });
});

describe('a replay', () => {
  const EVENTS = 8;

  /** A subscription that has got all of its events once. */
  async function delivered() {
    const tenant = await publisher();
    const played = await playedSubscriber();
    const { id } = await subscribe(tenant, played);
    for (let n = 0; n < EVENTS; n += 1) await publish(tenant, n);
    await eventually(() => expect(played.received).toHaveLength(EVENTS), PATIENCE_MS);
    await eventually(async () => {
      const { body } = await tenant.get(`/deliveries?subscriptionId=${id}&status=delivered`);
      expect((body as { items: unknown[] }).items).toHaveLength(EVENTS);
    }, PATIENCE_MS);
    const begin = async () => {
      const since = new Date(Date.now() - HOUR).toISOString();
      const wanted = { subscriptionId: id, kind: 'all', since, ratePerSecond: 1, eventTypes: ['invoice.*'] };
      return Replay.parse(await post(tenant, '/replays', 202, wanted));
    };
    return { tenant, played, id, begin };
  }

  it('shows its progress, can be paused, and goes on where it was', async () => {
    const { tenant, played, id, begin } = await delivered();
    const replay = await begin();
    expect(replay).toMatchObject({ status: 'running', ratePerSecond: 1, examined: 0, finishedAt: null });
    await post(tenant, `/replays/${replay.id}/pause`, 202);
    const paused = await replayWith(tenant, replay.id, { status: 'paused' });
    expect(paused.replayed).toBeLessThan(EVENTS);
    await eventually(() => expect(played.received).toHaveLength(EVENTS + paused.replayed), PATIENCE_MS);
    const list = (await tenant.get(`/replays?subscriptionId=${id}&status=paused`)).body;
    expect(list).toMatchObject({ items: [{ id: replay.id, replayed: paused.replayed }] });
    await post(tenant, `/replays/${replay.id}/resume`, 202);
    const done = await replayWith(tenant, replay.id, { status: 'done', replayed: EVENTS });
    expect(done.finishedAt).not.toBeNull();
    await eventually(() => expect(played.received).toHaveLength(2 * EVENTS), PATIENCE_MS);
    const ids = played.received.map(({ headers }) => headers['webhook-id']);
    expect(new Set(ids).size).toBe(EVENTS);
    for (const verb of ['pause', 'resume', 'cancel'])
      expectProblem(await tenant.call('POST', `/replays/${replay.id}/${verb}`), 409, 'conflict');
  });

  it('that is cancelled sends nothing more', async () => {
    const { tenant, played, begin } = await delivered();
    const replay = await begin();
    await replayWith(tenant, replay.id, { status: 'running' });
    await post(tenant, `/replays/${replay.id}/cancel`, 202);
    const cancelled = await replayWith(tenant, replay.id, { status: 'cancelled' });
    expect(cancelled.replayed).toBeLessThan(EVENTS);
    await eventually(() => expect(played.received).toHaveLength(EVENTS + cancelled.replayed), PATIENCE_MS);
  });

  it('of what failed sends that alone', async () => {
    const tenant = await publisher();
    const played = await playedSubscriber();
    const { id } = await subscribe(tenant, played);
    await delivery(tenant, (await publish(tenant, 1)).id, { status: 'delivered' });
    played.status = 500;
    const failed = await publish(tenant, 2);
    await delivery(tenant, failed.id, { status: 'exhausted' });
    played.status = 204;
    const since = new Date(Date.now() - HOUR).toISOString();
    const replay = Replay.parse(
      await post(tenant, '/replays', 202, { subscriptionId: id, kind: 'failed', since }),
    );
    await replayWith(tenant, replay.id, { status: 'done', replayed: 1 });
    await delivery(tenant, failed.id, { status: 'delivered', attempts: 2 });
    expect(numbers(played.received)).toEqual([1, 2, 2]);
  });
});

describe('one delivery', () => {
  it('that arrived is sent again with the same webhook-id, and its attempts count on', async () => {
    const tenant = await publisher();
    const played = await playedSubscriber();
    await subscribe(tenant, played);
    const event = await publish(tenant);
    const { id } = await delivery(tenant, event.id, { status: 'delivered', attempts: 1 });
    expect(await post(tenant, `/deliveries/${id}/resend`, 202)).toMatchObject({ id });
    await delivery(tenant, event.id, { status: 'delivered', attempts: 2 });
    expect(played.received.map(({ headers }) => headers['webhook-id'])).toEqual([event.id, event.id]);
    const { items } = DeliveryAttempts.parse((await tenant.get(`/deliveries/${id}/attempts`)).body);
    expect(items).toMatchObject([
      { attempt: 1, result: 'delivered', statusCode: 204 },
      { attempt: 2, result: 'delivered', statusCode: 204 },
    ]);
    const page = async (query: string) =>
      DeliveryAttempts.parse((await tenant.get(`/deliveries/${id}/attempts?${query}`)).body);
    const { items: first, nextCursor } = await page('limit=1');
    const second = await page(`limit=1&cursor=${nextCursor}`);
    expect([...first, ...second.items]).toEqual(items);
    expect(second.nextCursor).toBeNull();
  });

  it('that waits for hours is tried now', async () => {
    const tenant = await publisher([0, HOUR, HOUR]);
    const played = await playedSubscriber(500);
    await subscribe(tenant, played);
    const event = await publish(tenant);
    const { id } = await delivery(tenant, event.id, { status: 'pending', attempts: 1 });
    played.status = 204;
    await post(tenant, `/deliveries/${id}/try-now`, 202);
    await delivery(tenant, event.id, { status: 'delivered', attempts: 2 });
    expectProblem(await tenant.call('POST', `/deliveries/${id}/try-now`), 409, 'conflict');
  });

  it('that is cancelled is not tried again, until somebody sends it again', async () => {
    const tenant = await publisher([0, HOUR]);
    const played = await playedSubscriber(500);
    await subscribe(tenant, played);
    const event = await publish(tenant);
    const { id } = await delivery(tenant, event.id, { status: 'pending', attempts: 1 });
    await post(tenant, `/deliveries/${id}/cancel`, 202);
    await delivery(tenant, event.id, { status: 'cancelled', attempts: 1 });
    for (const verb of ['cancel', 'try-now'])
      expectProblem(await tenant.call('POST', `/deliveries/${id}/${verb}`), 409, 'conflict');
    expect(played.received).toHaveLength(1);
    played.status = 204;
    await post(tenant, `/deliveries/${id}/resend`, 202);
    await delivery(tenant, event.id, { status: 'delivered', attempts: 2 });
    const { body } = await tenant.get(`/audit?cause=delivery:${id}`);
    expect(body).toMatchObject({ items: [{ action: 'delivery.resent' }, { action: 'delivery.cancelled' }] });
  });

  it('is cancelled with the answer; what was under way then is in its log, and changes nothing', async () => {
    const tenant = await publisher([0, HOUR]);
    const answers: (() => void)[] = [];
    const server = await subscriber(
      (response) => void answers.push(() => void response.writeHead(204).end()),
    );
    open.push(server);
    await subscribe(tenant, { server });
    const event = await publish(tenant);
    await eventually(() => expect(answers).toHaveLength(1), PATIENCE_MS);
    const { id } = await delivery(tenant, event.id, { status: 'pending' }).catch(async () => {
      const { deliveries } = EventDetail.parse((await tenant.get(`/events/${event.id}`)).body);
      return deliveries[0]!;
    });
    await post(tenant, `/deliveries/${id}/cancel`, 202);
    const now = async () => Delivery.parse((await tenant.get(`/deliveries/${id}`)).body);
    expect(await now()).toMatchObject({ status: 'cancelled', attempts: 0 });
    answers[0]!();
    await eventually(async () => expect((await now()).attempts).toBe(1), PATIENCE_MS);
    expect(await now()).toMatchObject({ status: 'cancelled', lastError: 'cancelled by an operator' });
    const { items } = DeliveryAttempts.parse((await tenant.get(`/deliveries/${id}/attempts`)).body);
    expect(items).toMatchObject([{ result: 'delivered' }]);
  });

  it('that nothing carries out can be cancelled too', async () => {
    const tenant = await publisher();
    const { id: subscriptionId } = await subscribe(tenant, await playedSubscriber(), {
      eventTypes: ['none'],
    });
    const event = await publish(tenant);
    await handedOut(tenant, event.id);
    const id = await deliver(api, tenant.name, subscriptionId, event.id, 'pending');
    await post(tenant, `/deliveries/${id}/cancel`, 202);
    expect(Delivery.parse((await tenant.get(`/deliveries/${id}`)).body)).toMatchObject({
      status: 'cancelled',
    });
  });

  it('of an ordered subscription lets the next one go at once when it is cancelled', async () => {
    const tenant = await publisher([0, HOUR]);
    const played = await playedSubscriber(500);
    await subscribe(tenant, played, { ordered: true });
    const first = await publish(tenant, 1);
    const { id } = await delivery(tenant, first.id, { status: 'pending', attempts: 1 });
    const second = await publish(tenant, 2);
    await delivery(tenant, second.id, { status: 'pending', attempts: 0 });
    played.status = 204;
    await post(tenant, `/deliveries/${id}/cancel`, 202);
    await delivery(tenant, second.id, { status: 'delivered', attempts: 1 });
    await delivery(tenant, first.id, { status: 'cancelled' });
    expect(numbers(played.received)).toEqual([1, 2]);
  });
});

// Last: from here on the schedules run.
describe('the schedules', () => {
  beforeAll(() => ensureSchedules(temporal, api.space.config));
  afterAll(async () => {
    for (const id of Object.values(SCHEDULES)) await temporal.schedule.getHandle(id).delete();
  });

  /** A replay as a crash between writing it and starting its workflow leaves it. */
  async function stranded(tenant: Tenant, subscriptionId: string): Promise<string> {
    const id = randomUUID();
    await query(
      `INSERT INTO replays (id, tenant_id, subscription_id, kind, since, until, rate_per_second, actor)
       VALUES ($1, $2, $3, 'all', now() - interval '1 hour', now(), 10, 'token:test')`,
      [id, tenant.name, subscriptionId],
    );
    return id;
  }

  it('start a replay whose workflow was never started', async () => {
    const tenant = await publisher();
    const played = await playedSubscriber();
    const { id } = await subscribe(tenant, played);
    await delivery(tenant, (await publish(tenant)).id, { status: 'delivered' });
    const replay = await stranded(tenant, id);
    await temporal.schedule.getHandle(SCHEDULES.recovery).trigger();
    await replayWith(tenant, replay, { status: 'done', replayed: 1 });
    await eventually(() => expect(played.received).toHaveLength(2), PATIENCE_MS);
  });

  it('leave alone a replay that somebody has cancelled before it began', async () => {
    const tenant = await publisher();
    const { id } = await subscribe(tenant, await playedSubscriber());
    await temporal.schedule.getHandle(SCHEDULES.recovery).pause();
    const replay = await stranded(tenant, id);
    expect(await post(tenant, `/replays/${replay}/cancel`, 202)).toMatchObject({ status: 'cancelled' });
    expectProblem(await tenant.call('POST', `/replays/${replay}/cancel`), 409, 'conflict');
  });

  it('delete events that are older than their type is kept, with deliveries and attempts', async () => {
    const tenant = await publisher();
    const reply = await tenant.call(
      ...(['PATCH', '/event-configs/invoice.paid', { retentionDays: 2 }, { 'if-match': '*' }] as const),
    );
    expect(reply.status).toBe(200);
    await subscribe(tenant, await playedSubscriber());
    const [old, young] = [await publish(tenant, 1), await publish(tenant, 2)];
    const { id } = await delivery(tenant, old.id, { status: 'delivered' });
    await delivery(tenant, young.id, { status: 'delivered' });
    await query(`UPDATE webhook_events SET created_at = now() - interval '3 days' WHERE id = $1`, [old.id]);
    await temporal.schedule.getHandle(SCHEDULES.retention).trigger();
    await eventually(
      async () => expectProblem(await tenant.get(`/events/${old.id}`), 404, 'not_found'),
      PATIENCE_MS,
    );
    expectProblem(await tenant.get(`/deliveries/${id}`), 404, 'not_found');
    await delivery(tenant, young.id, { status: 'delivered' });
  });
});
