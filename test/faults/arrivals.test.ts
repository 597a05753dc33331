import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Connection } from '@temporalio/client';
import { PublishedBatch } from '../../src/contracts/events';
import { SubscriptionCreated } from '../../src/contracts/subscriptions';
import type { Database } from '../../src/platform/postgres';
import { createTable } from '../../src/platform/table';
import { connectTemporal } from '../../src/platform/temporal';
import { mintToken } from '../../src/operations/token';
import { createTestSpace, eventually, freePort, openTestDatabase, type TestSpace } from '../support/harness';
import { noteResult } from '../support/nightly';
import { startRole, type Child } from '../support/processes';
import { PlayedSubscribers } from './arrivals-stage';

/** REMIT_ARRIVALS_EVENTS makes it longer; workers and bridges are killed once for so many events, and 4 times at least. */
const EVENTS = Number(process.env['REMIT_ARRIVALS_EVENTS'] ?? 500);
const EVENTS_A_KILL = 500;
const KILLS = Math.max(4, Math.floor(EVENTS / EVENTS_A_KILL));
const BATCH_EVENTS = 25;
/**
 * REMIT_ARRIVALS_SUBSCRIBERS takes fewer of them. The first one refuses every tenth event at first, so that ids are
 * compared over retries too.
 */
const SUBSCRIBERS = ['shaky', 'billing', 'shipping'].slice(
  0,
  Number(process.env['REMIT_ARRIVALS_SUBSCRIBERS'] ?? 3),
);
/** A worker that is killed leaves attempts that Temporal gives up only after their timeout, of which this is a part. */
const ATTEMPT_TIMEOUT_MS = 2_000;
/** Arrivals between two kills: the flow is under way again. */
const PROGRESS = 25;
const PACE_MS = 250;

let space: TestSpace;
let db: Database;
let temporal: Client;
let api: string;
let token: string;
const subscribers = new PlayedSubscribers();
const running = new Map<string, Child>();

/** Two workers: while one starts again, the other can be killed. */
const VICTIMS = ['worker 1', 'bridge', 'worker 2', 'bridge'];
const start = async (name: string): Promise<void> => {
  const [role] = name.split(' ') as [string];
  running.set(name, await startRole([role], space.env, await freePort(), 'error'));
};

beforeAll(async () => {
  const apiPort = await freePort();
  space = await createTestSpace({
    topics: true,
    temporal: true,
    env: {
      API_PORT: String(apiPort),
      WEBHOOK_TIMEOUT_MS: String(ATTEMPT_TIMEOUT_MS),
      // A machine so busy that an attempt takes too long is no reason to rest.
      WEBHOOK_THROTTLE_BASE_MS: '500',
      WEBHOOK_THROTTLE_CAP_MS: '2000',
      WEBHOOK_SCHEDULE_MS: '0,500,1000,2000,4000,8000,16000,32000,64000',
      WEBHOOK_CONCURRENT_PER_SUBSCRIPTION: '64',
      KAFKA_SESSION_TIMEOUT_MS: '6000',
    },
  });
  api = `http://127.0.0.1:${apiPort}`;
  db = openTestDatabase(space);
  temporal = await connectTemporal(space.config);
  token = await mintToken(space.config, { subject: 'publisher', scopes: ['admin'], expiresInS: 7_200 });
  await Promise.all([subscribers.listen(), ...['api', 'relay', ...new Set(VICTIMS)].map(start)]);
}, 120_000);

afterAll(async () => {
  await Promise.all([...running.values()].map((child) => child.stop()));
  await subscribers.close();
  await (temporal?.connection as Connection | undefined)?.close();
  await db?.close();
}, 60_000);

async function post(path: string, body: unknown): Promise<unknown> {
  const response = await fetch(`${api}/api/v1${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(30_000),
  });
  const answer: unknown = await response.json();
  expect({ path, ok: response.ok, answer }).toMatchObject({ ok: true });
  return answer;
}

/** Publishes all events in batches, and keeps the ids that the API gives them, by the number of the event. */
async function publish(ids: string[]): Promise<void> {
  for (let at = 0; at < EVENTS; at += BATCH_EVENTS) {
    const numbers = Array.from({ length: Math.min(BATCH_EVENTS, EVENTS - at) }, (_, i) => at + i);
    const events = numbers.map((number) => ({ id: `n-${number}`, type: 'parcel.sent', data: { number } }));
    const { items } = PublishedBatch.parse(await post('/events/batch', { events }));
    ids.push(...items.map(({ id }) => id));
    await sleep(PACE_MS);
  }
}

/**
 * Kills workers and bridge in turn, each time when webhooks have arrived since the last one; the last victim is a bridge,
 * because what a worker was doing takes the longest to be started again.
 * @returns how many deliveries were due and had not arrived at each.
 */
async function violence(ids: readonly string[]): Promise<number[]> {
  const due: number[] = [];
  const restarting = new Map<string, Promise<void>>();
  for (let kill = 0; kill < KILLS; kill++) {
    const victim = VICTIMS[kill % VICTIMS.length]!;
    await restarting.get(victim);
    const before = subscribers.arrived;
    const enough = Math.min(before + PROGRESS, EVENTS * SUBSCRIBERS.length);
    await eventually(() => expect(subscribers.arrived).toBeGreaterThanOrEqual(enough), 120_000, 10);
    due.push(ids.length * SUBSCRIBERS.length - subscribers.arrived);
    await running.get(victim)!.kill();
    const restart = start(victim);
    restart.catch(() => undefined);
    restarting.set(victim, restart);
  }
  await Promise.all(restarting.values());
  return due;
}

describe(`when ${EVENTS} events are published while workers and event bridges are killed with SIGKILL`, () => {
  it('each arrives at every subscription at least once, under one webhook-id', async () => {
    await post('/event-types', { name: 'parcel.sent' });
    for (const name of SUBSCRIBERS) {
      const body = { url: subscribers.url(name), eventTypes: ['parcel.*'] };
      const { secret } = SubscriptionCreated.parse(await post('/subscriptions', body));
      subscribers.add(name, secret, name === 'shaky' ? 10 : 0);
    }
    const expected = EVENTS * SUBSCRIBERS.length;
    const startedAt = performance.now();

    const ids: string[] = [];
    const [due] = await Promise.all([violence(ids), publish(ids)]);
    const loadSeconds = (performance.now() - startedAt) / 1_000;

    await eventually(
      async () => {
        const unsettled = await db.prisma.delivery.count({ where: { status: { not: 'delivered' } } });
        const [stored, arrived] = [await db.prisma.delivery.count(), subscribers.arrived];
        expect({ unsettled, stored, arrived }).toEqual({ unsettled: 0, stored: expected, arrived: expected });
      },
      180_000 + EVENTS * 300,
      500,
    );
    const seconds = (performance.now() - startedAt) / 1_000;

    const table = createTable(['subscriber', 'arrived', 'twice or more', 'accepted', 'refused']);
    for (const name of SUBSCRIBERS) {
      const arrivals = subscribers.arrivals(name);
      const all = [...arrivals.values()];
      const sum = (count: (arrival: (typeof all)[number]) => number) =>
        all.reduce((total, arrival) => total + count(arrival), 0);
      table.push([
        name,
        all.length,
        all.filter(({ accepted }) => accepted > 1).length,
        sum(({ accepted }) => accepted),
        sum(({ refused }) => refused),
      ]);
      const lost = ids.map((_, number) => number).filter((number) => !arrivals.get(number)?.accepted);
      expect({ name, lost }).toEqual({ name, lost: [] });
      const unstable = ids
        .map((id, number) => ({ id, seen: [...arrivals.get(number)!.ids] }))
        .filter(({ id, seen }) => seen.length !== 1 || seen[0] !== id);
      expect({ name, unstable }).toEqual({ name, unstable: [] });
      expect(arrivals.size).toBe(EVENTS);
    }
    expect(subscribers.strangers).toBe(0);
    expect(due.filter((count) => count > 0).length).toBeGreaterThan(0);
    // Nothing is left behind, and no workflow failed over it.
    await eventually(
      async () => {
        const { count } = await temporal.workflow.count("ExecutionStatus != 'Completed'");
        expect(count).toBe(0);
      },
      60_000,
      500,
    );
    process.stderr.write(
      `${table.toString()}\n  due and not yet there at each kill: ${due.join(', ')}; published for ${loadSeconds.toFixed(0)} s\n`,
    );
    noteResult(
      `arrivals: ${EVENTS} events, ${SUBSCRIBERS.length} subscribers, ${KILLS} kills, all there after ${seconds.toFixed(0)} s`,
    );
  }, 3_600_000);
});
