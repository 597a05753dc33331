import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Connection } from '@temporalio/client';
import { PublishedBatch } from '../../src/contracts/events';
import { SubscriptionCreated } from '../../src/contracts/subscriptions';
import type { EmbeddedPart } from '../../src/embedded/stack';
import { createTable } from '../../src/platform/table';
import { connectTemporal } from '../../src/platform/temporal';
import { mintToken } from '../../src/operations/token';
import { insist, postJson } from '../support/callers';
import { eventually } from '../support/harness';
import { noteResult } from '../support/nightly';
import { PlayedSubscribers, type Part } from './arrivals-stage';
import { FaultStack, type RoleName } from './money-stack';

/** REMIT_ARRIVALS_EVENTS makes it longer; something is killed once for so many events, and each role and the broker at least. */
const EVENTS = Number(process.env['REMIT_ARRIVALS_EVENTS'] ?? 300);
const EVENTS_A_KILL = 500;
const BATCH_EVENTS = 25;
const PACE_MS = 250;
/** A worker that is killed leaves attempts that Temporal gives up only after their timeout, of which this is a part. */
const ATTEMPT_TIMEOUT_MS = 2_000;
const AWAY_MS = 1_000;
/** Of what will arrive, so much has when the last one is killed: the kills are spread over the load. */
const KILLED_BY = 0.7;

/** Whether the numbered event is one of about so many in a thousand, not the same ones for all subscribers. */
const among = (perMille: number, offset: number) => (number: number) =>
  (number * 7 + offset) % 1_000 < perMille;
const refuses =
  (status: number | 'hangs', chosen: (number: number) => boolean): NonNullable<Part['answer']> =>
  (number, first) =>
    first && chosen(number) ? status : 204;
/** The outage of one: until so many have been published. */
const DOWN_UNTIL = EVENTS / 5;
let published = 0;

const SUBSCRIBERS: Part[] = [
  { name: 'billing' },
  { name: 'shipping' },
  { name: 'stock' },
  { name: 'search' },
  // In order, also through retries, rests, and an outage of its own.
  { name: 'ledger', ordered: true },
  { name: 'journal', ordered: true, answer: refuses(500, among(8, 1)) },
  { name: 'archive', ordered: true, answer: refuses(503, among(4, 2)) },
  { name: 'shaky', answer: refuses(500, among(100, 3)) },
  { name: 'hanging', answer: refuses('hangs', among(4, 4)) },
  { name: 'down', answer: () => (published < DOWN_UNTIL ? 503 : 204) },
];
const EXPECTED = EVENTS * SUBSCRIBERS.length;

const VICTIMS: (RoleName | Exclude<EmbeddedPart, 'clickhouse'>)[] = [
  ...(['worker', 'kafka', 'api', 'worker 2', 'relay', 'bridge'] as const),
  ...(['postgres', 'worker', 'temporal', 'worker 2'] as const),
];
const KILLS = Math.max(6, Math.floor(EVENTS / EVENTS_A_KILL));

let remit: FaultStack;
let temporal: Client;
let token: string;
const subscribers = new PlayedSubscribers();

beforeAll(async () => {
  remit = await FaultStack.start(
    {
      WEBHOOK_TIMEOUT_MS: String(ATTEMPT_TIMEOUT_MS),
      // A machine so busy that an attempt takes too long is no reason to rest for long.
      WEBHOOK_THROTTLE_BASE_MS: '500',
      WEBHOOK_THROTTLE_CAP_MS: '2000',
      WEBHOOK_SCHEDULE_MS: '0,500,1000,2000,4000,8000,16000,32000,64000',
      WEBHOOK_CONCURRENT_PER_SUBSCRIPTION: '64',
      KAFKA_SESSION_TIMEOUT_MS: '6000',
    },
    ['api', 'bridge', 'relay', 'worker', 'worker 2'],
  );
  temporal = await connectTemporal(remit.stack.config);
  token = await mintToken(remit.stack.config, {
    subject: 'publisher',
    scopes: ['admin'],
    expiresInS: 7_200,
  });
  await subscribers.listen();
}, 180_000);

afterAll(async () => {
  await (temporal?.connection as Connection | undefined)?.close();
  await remit?.stop();
  await subscribers.close();
}, 90_000);

const post = (path: string, body: unknown) =>
  postJson(`${remit.api}/api/v1${path}`, body, { authorization: `Bearer ${token}` });

async function create(path: string, body: unknown): Promise<unknown> {
  const { status, body: answer } = await post(path, body);
  expect({ path, status, answer }).toMatchObject({ status: 201 });
  return answer;
}

/** The same batch until it is accepted: what the answer was lost of is known by the events' own ids. */
async function publishBatch(events: unknown[]): Promise<string[]> {
  const answer = await insist(() => post('/events/batch', { events }), [202]);
  return PublishedBatch.parse(answer).items.map(({ id }) => id);
}

/** Publishes all events in batches, one after the other, and keeps the ids that the API gives them, by number. */
async function publish(ids: string[]): Promise<void> {
  for (let at = 0; at < EVENTS; at += BATCH_EVENTS) {
    const numbers = Array.from({ length: Math.min(BATCH_EVENTS, EVENTS - at) }, (_, i) => at + i);
    ids.push(
      ...(await publishBatch(
        numbers.map((number) => ({ id: `n-${number}`, type: 'parcel.sent', data: { number } })),
      )),
    );
    published = ids.length;
    await sleep(PACE_MS);
  }
}

/**
 * Kills roles, the broker and the other servers in turn, as webhooks arrive.
 * @returns how many deliveries were due and had not arrived at each.
 */
async function violence(ids: readonly string[]): Promise<number[]> {
  const due: number[] = [];
  const back = new Map<string, Promise<void>>();
  for (let kill = 0; kill < KILLS; kill++) {
    const victim = VICTIMS[kill % VICTIMS.length]!;
    await back.get(victim);
    const enough = Math.floor((KILLED_BY * EXPECTED * (kill + 1)) / KILLS);
    await eventually(() => expect(subscribers.arrived).toBeGreaterThanOrEqual(enough), 240_000, 10);
    due.push(ids.length * SUBSCRIBERS.length - subscribers.arrived);
    const returns =
      victim === 'kafka' || victim === 'postgres' || victim === 'temporal'
        ? remit.killPart(victim, AWAY_MS)
        : remit.killRole(victim);
    returns.catch(() => undefined);
    back.set(victim, returns);
  }
  await Promise.all(back.values());
  return due;
}

describe(`when ${EVENTS} events are published while every role and server is killed with SIGKILL`, () => {
  it('each arrives at every subscription at least once, under one webhook-id, and in order where that was promised', async () => {
    await create('/event-types', { name: 'parcel.sent' });
    for (const part of SUBSCRIBERS) {
      const { name, ordered = false } = part;
      const body = { url: subscribers.url(name), eventTypes: ['parcel.*'], ordered };
      const { secret } = SubscriptionCreated.parse(await create('/subscriptions', body));
      subscribers.add(part, secret);
    }
    const startedAt = performance.now();
    const seconds = () => ((performance.now() - startedAt) / 1_000).toFixed(0);

    const ids: string[] = [];
    const [due] = await Promise.all([violence(ids), publish(ids)]);
    const loadSeconds = seconds();

    await eventually(
      async () => {
        const { rows } = await remit.db.pool.query<{ stored: number; unsettled: number }>(
          `SELECT count(*)::integer AS stored, (count(*) FILTER (WHERE status <> 'delivered'))::integer AS unsettled
             FROM deliveries`,
        );
        expect({ ...rows[0], arrived: subscribers.arrived }).toEqual({
          unsettled: 0,
          stored: EXPECTED,
          arrived: EXPECTED,
        });
      },
      240_000 + EVENTS * 60,
      1_000,
    );
    const allSeconds = seconds();

    const table = createTable(['subscriber', 'arrived', 'twice or more', 'accepted', 'refused', 'too early']);
    for (const { name, ordered } of SUBSCRIBERS) {
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
        ordered ? subscribers.early(name).length : '-',
      ]);
    }
    process.stderr.write(
      `${table.toString()}\n  ${EVENTS} events, ${KILLS} kills, due and not yet there at each: ${due.join(', ')}; ` +
        `published for ${loadSeconds} s, all there after ${allSeconds} s\n`,
    );
    const twice = SUBSCRIBERS.flatMap(({ name }) => [...subscribers.arrivals(name).values()]).filter(
      ({ accepted }) => accepted > 1,
    ).length;
    noteResult(
      `arrivals: ${EVENTS} events, ${SUBSCRIBERS.length} subscribers, ${KILLS} kills, ${twice} of ${EXPECTED} twice or more, all there after ${allSeconds} s`,
    );
    for (const { name } of SUBSCRIBERS) {
      const arrivals = subscribers.arrivals(name);
      const lost = ids.map((_, number) => number).filter((number) => !arrivals.get(number)?.accepted);
      expect({ name, lost }).toEqual({ name, lost: [] });
      const unstable = ids
        .map((id, number) => ({ id, seen: [...arrivals.get(number)!.ids] }))
        .filter(({ id, seen }) => seen.length !== 1 || seen[0] !== id);
      expect({ name, unstable }).toEqual({ name, unstable: [] });
      expect(arrivals.size).toBe(EVENTS);
      expect({ name, early: subscribers.early(name) }).toEqual({ name, early: [] });
    }
    expect(subscribers.strangers).toBe(0);
    expect(due.filter((count) => count > 0).length).toBeGreaterThan(0);
    // Nothing is left behind, and no workflow failed over it.
    await eventually(
      async () => {
        const { count } = await temporal.workflow.count(
          "ExecutionStatus != 'Completed' AND ExecutionStatus != 'ContinuedAsNew'",
        );
        expect(count).toBe(0);
      },
      90_000,
      500,
    );
  }, 3_600_000);
});
