import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Connection } from '@temporalio/client';
import express from 'express';
import { Pool } from 'undici';
import { createSubscription } from '../src/domain/subscriptions';
import { newWebhookSecret, signWebhook } from '../src/webhooks/signature';
import { createKeyring } from '../src/platform/secrets';
import { connectTemporal } from '../src/platform/temporal';
import { mintToken } from '../src/operations/token';
import { startRole, type Child } from '../test/support/processes';
import { median, percentile, round, type Benchmark, type BenchRow } from './report';
import { ceilingRate } from './support/ceiling';
import { freePort, openStage, type Stage } from './support/stage';
import { Subscribers } from './support/subscribers';

const CALLERS = 16;
const EVENT_TYPE = 'bench.happened';
const ARRIVE_WITHIN_MS = 120_000;
/** The latency's load, in events a second, and its subscriptions. */
const PACED_PER_SECOND = 100;
const PACED_SUBSCRIPTIONS = 10;
const PACED_BOUND_MS = 250;
/** By subscriptions: the least share of a bare loop of POSTs and rows, and the least multiple of empty workflows. */
const BOUNDS = new Map([
  [1, { bare: 0.1, workflows: 10 }],
  [10, { bare: 0.2, workflows: 25 }],
  [100, { bare: 0.2, workflows: 25 }],
]);
const BARE_ROWS = 200;

/**
 * Events published over HTTP by 16 callers until they are received, through api, relay, Kafka and the worker of the
 * deliveries, each a process of its own. Beside it, on the same machine in the same run: a bare loop of signed POSTs to the
 * same receiver with the rows of a delivery and its attempt in batched inserts, empty one-activity workflows, and for the
 * publishing a bare Express route that does one insert. Then the latency at a steady load, with and without one of ten
 * subscribers that hangs and another that answers 503.
 */
export const run: Benchmark = async ({ quick, progress }) => {
  const rounds = quick ? 1 : 3;
  const stage = await openStage(progress, {
    WEBHOOK_ALLOWED_PRIVATE_CIDRS: '127.0.0.0/8',
    SUBSCRIPTIONS_MAX_PER_TENANT: '1000',
    API_RATE_LIMIT_REQUESTS: '0',
    API_RATE_LIMIT_USER_REQUESTS: '0',
  });
  const client = await connectTemporal(stage.config);
  const roles: Child[] = [];
  try {
    const ports = [stage.config.METRICS_PORT, await freePort(), await freePort()];
    const names = [['api'], ['relay'], ['worker', '--queue', 'deliveries']];
    roles.push(...(await Promise.all(names.map((args, i) => startRole(args, stage.env, ports[i]!)))));
    const rows = [await publishing(stage, { quick, rounds, progress })];
    for (const subscriptions of BOUNDS.keys())
      rows.push(...(await throughput(stage, client, { subscriptions, rounds, quick, progress })));
    rows.push(...(await latency(stage, quick ? 5 : 30, rounds, progress)));
    return [...rows, ...(await grown(stage, { quick, rounds, progress }))];
  } finally {
    for (const role of roles) await role.stop();
    await (client.connection as Connection).close();
    await stage.close();
  }
};

// ---------------------------------------------------------------------------------------------------- throughput

interface Rates {
  delivered: number;
  published: number;
  bare: number;
  workflows: number;
  route: number;
}

async function throughput(
  stage: Stage,
  client: Client,
  {
    subscriptions,
    rounds,
    quick,
    progress,
  }: { subscriptions: number; rounds: number; quick: boolean; progress: (line: string) => void },
): Promise<BenchRow[]> {
  const deliveries = quick ? 2_000 : 20_000;
  const events = Math.min(Math.ceil(deliveries / subscriptions), quick ? 1_000 : 10_000);
  const seen: Rates[] = [];
  for (let i = 1; i <= rounds; i++) {
    const subscribers = new Subscribers();
    const urls = await subscribers.urls(subscriptions);
    const tenant = await newTenant(stage, urls);
    await publishAll(tenant, Math.ceil(events / 10));
    await subscribers.receives(Math.ceil(events / 10) * subscriptions, ARRIVE_WITHIN_MS);
    const before = subscribers.received;
    const startedAt = performance.now();
    const published = await publishAll(tenant, events);
    await subscribers.receives(before + events * subscriptions, ARRIVE_WITHIN_MS);
    const delivered = (events * subscriptions) / ((performance.now() - startedAt) / 1_000);
    const bare = await bareLoop(stage, urls[0]!, deliveries);
    const route = await bareRoute(stage, events);
    const workflows = await ceilingRate(stage, client, quick ? 100 : 300);
    seen.push({ delivered, published, bare, workflows, route });
    progress(
      `${subscriptions} subscriptions, round ${i}/${rounds}: ${delivered.toFixed(0)} delivered/s, ${published.toFixed(0)} published/s; ` +
        `bare loop ${bare.toFixed(0)}/s, bare route ${route.toFixed(0)}/s, empty workflows ${workflows.toFixed(1)}/s`,
    );
    subscribers.close();
  }
  return rowsOf(subscriptions, seen);
}

function rowsOf(subscriptions: number, seen: readonly Rates[]): BenchRow[] {
  const of = (figure: (rates: Rates) => number): number => median(seen.map(figure));
  const { bare, workflows } = BOUNDS.get(subscriptions)!;
  const name = `deliveries, ${subscriptions} subscription${subscriptions > 1 ? 's' : ''}`;
  return [
    {
      bench: `${name}, next to a bare loop`,
      value: round(of(({ delivered }) => delivered)),
      unit: 'deliveries/s',
      reference: round(of((each) => each.bare)),
      ratio: of((each) => each.delivered / each.bare),
      atLeast: bare,
      note: 'published over HTTP to received; reference: signed POSTs to the same receiver and batched inserts of the rows',
    },
    {
      bench: `${name}, next to empty workflows`,
      value: round(of(({ delivered }) => delivered)),
      unit: 'deliveries/s',
      reference: round(of((each) => each.workflows)),
      ratio: of((each) => each.delivered / each.workflows),
      atLeast: workflows,
      note: 'reference: empty one-activity workflows on the same server',
    },
    {
      bench: `published, ${subscriptions} subscription${subscriptions > 1 ? 's' : ''}`,
      value: round(of(({ published }) => published)),
      unit: 'events/s',
      reference: round(of((each) => each.route)),
      ratio: of((each) => each.published / each.route),
      atLeast: 0.6,
      note: 'while deliveries go on next to it; reference: a bare Express route that does one insert, alone',
    },
  ];
}

/** What is accepted when nobody is told of it: events are stored, announced and handed out, and nothing is sent. */
async function publishing(
  stage: Stage,
  { quick, rounds, progress }: { quick: boolean; rounds: number; progress: (line: string) => void },
): Promise<BenchRow> {
  const events = quick ? 1_000 : 10_000;
  const seen: { published: number; route: number }[] = [];
  for (let i = 1; i <= rounds; i++) {
    const tenant = await newTenant(stage, []);
    await publishAll(tenant, events / 10);
    await untilHandedOut(stage, tenant);
    const published = await publishAll(tenant, events);
    await untilHandedOut(stage, tenant);
    const route = await bareRoute(stage, events);
    seen.push({ published, route });
    progress(
      `no subscription, round ${i}/${rounds}: ${published.toFixed(0)} published/s, bare route ${route.toFixed(0)}/s`,
    );
  }
  return {
    bench: 'published, no subscription',
    value: round(median(seen.map(({ published }) => published))),
    unit: 'events/s',
    reference: round(median(seen.map(({ route }) => route))),
    ratio: median(seen.map(({ published, route }) => published / route)),
    atLeast: 0.6,
    note: 'each is stored, announced on Kafka and handed out meanwhile; reference: a bare Express route that does one insert',
  };
}

async function untilHandedOut({ db }: Stage, { id }: Tenant): Promise<void> {
  const deadline = Date.now() + ARRIVE_WITHIN_MS;
  for (;;) {
    const { rowCount } = await db.pool.query(
      'SELECT FROM webhook_events WHERE tenant_id = $1 AND fanned_out_at IS NULL LIMIT 1',
      [id],
    );
    if (rowCount === 0) return;
    if (Date.now() > deadline) throw new Error(`events were not handed out within ${ARRIVE_WITHIN_MS} ms`);
    await sleep(50);
  }
}

// ---------------------------------------------------------------------------------------------------- latency

async function latency(
  stage: Stage,
  seconds: number,
  rounds: number,
  progress: (line: string) => void,
): Promise<BenchRow[]> {
  const seen: { free: number[]; troubled: number[] }[] = [];
  for (let i = 1; i <= rounds; i++) {
    const free = await pacedLatencies(stage, seconds, 0);
    const troubled = await pacedLatencies(stage, seconds, 1);
    seen.push({ free, troubled });
    progress(
      `latency, round ${i}/${rounds}: p50 ${percentile(free, 0.5)}, p99 ${percentile(free, 0.99)} ms; with one that hangs and one that answers 503: ` +
        `p50 ${percentile(troubled, 0.5)}, p99 ${percentile(troubled, 0.99)} ms`,
    );
  }
  const p99 = median(seen.map(({ free }) => percentile(free, 0.99)));
  const troubled = median(seen.map((each) => percentile(each.troubled, 0.99)));
  return [
    {
      bench: 'deliveries, published to received, p99',
      value: p99,
      unit: 'ms',
      reference: PACED_BOUND_MS,
      ratio: p99 / PACED_BOUND_MS,
      atMost: 1,
      note: `${PACED_PER_SECOND} events a second, ${PACED_SUBSCRIPTIONS} subscriptions; p50 ${median(seen.map(({ free }) => percentile(free, 0.5)))} ms`,
    },
    {
      bench: 'deliveries, p99 of the healthy ones next to one that hangs and one that answers 503',
      value: troubled,
      unit: 'ms',
      reference: p99,
      ratio: troubled / p99,
      atMost: 1.2,
      note: 'of ten subscriptions; reference: all ten healthy',
    },
  ];
}

/** @param troubled 1: one of the subscriptions hangs for 15 s, another answers 503. */
async function pacedLatencies(stage: Stage, seconds: number, troubled: 0 | 1): Promise<number[]> {
  const subscribers = new Subscribers();
  const healthy = await subscribers.urls(PACED_SUBSCRIPTIONS - 2 * troubled);
  const urls = troubled ? [...healthy, await subscribers.hanging(), await subscribers.refusing()] : healthy;
  const tenant = await newTenant(stage, urls);
  await publishAll(tenant, 50);
  await subscribers.receives(50 * healthy.length, ARRIVE_WITHIN_MS);
  const sentAt = new Map<string, number>();
  const before = subscribers.received;
  const events = PACED_PER_SECOND * seconds;
  await publishAll(tenant, events, { perSecond: PACED_PER_SECOND, sentAt });
  await subscribers.receives(before + events * healthy.length, ARRIVE_WITHIN_MS);
  const latencies = subscribers.arrivals.flatMap(({ id, at }) => {
    const from = sentAt.get(id);
    return from === undefined ? [] : [at - from];
  });
  await stage.db.pool.query(`UPDATE subscriptions SET state = 'deleted' WHERE tenant_id = $1`, [tenant.id]);
  subscribers.close();
  return latencies;
}

// ---------------------------------------------------------------------------------------------------- growth

const GROWN_SUBSCRIPTIONS = 10;
/** Deliveries that one event of the filling has. */
const FILLED_PER_EVENT = 10;

/** Rate and p99 before and after a million deliveries, with their events and attempts, are stored. */
async function grown(
  stage: Stage,
  { quick, rounds, progress }: { quick: boolean; rounds: number; progress: (line: string) => void },
): Promise<BenchRow[]> {
  const stored = quick ? 20_000 : 1_000_000;
  const measure = async (): Promise<{ rate: number; p99: number }> => {
    const seen: { rate: number; p99: number }[] = [];
    for (let i = 0; i < rounds; i++)
      seen.push({
        rate: await deliveredPerSecond(stage, quick ? 200 : 2_000),
        p99: percentile(await pacedLatencies(stage, quick ? 5 : 20, 0), 0.99),
      });
    return { rate: median(seen.map(({ rate }) => rate)), p99: median(seen.map(({ p99 }) => p99)) };
  };
  const before = await measure();
  progress(`storing ${stored} deliveries`);
  await fill(stage, stored);
  const after = await measure();
  progress(
    `with ${stored} deliveries stored: ${after.rate.toFixed(0)}/s (${before.rate.toFixed(0)}/s before), p99 ${after.p99} ms (${before.p99} ms)`,
  );
  const note = `${GROWN_SUBSCRIPTIONS} subscriptions; reference: before they were stored`;
  return [
    {
      bench: `deliveries, time for each with ${stored} stored`,
      value: round(1_000 / after.rate),
      unit: 'ms',
      reference: round(1_000 / before.rate),
      ratio: before.rate / after.rate,
      atMost: 1.15,
      note,
    },
    {
      bench: `deliveries, p99 with ${stored} stored`,
      value: after.p99,
      unit: 'ms',
      reference: before.p99,
      ratio: after.p99 / before.p99,
      atMost: 1.15,
      note,
    },
  ];
}

async function deliveredPerSecond(stage: Stage, events: number): Promise<number> {
  const subscribers = new Subscribers();
  const tenant = await newTenant(stage, await subscribers.urls(GROWN_SUBSCRIPTIONS));
  await publishAll(tenant, 50);
  const before = 50 * GROWN_SUBSCRIPTIONS;
  await subscribers.receives(before, ARRIVE_WITHIN_MS);
  const startedAt = performance.now();
  await publishAll(tenant, events);
  await subscribers.receives(before + events * GROWN_SUBSCRIPTIONS, ARRIVE_WITHIN_MS);
  const seconds = (performance.now() - startedAt) / 1_000;
  subscribers.close();
  return (events * GROWN_SUBSCRIPTIONS) / seconds;
}

/** What a tenant has that has been delivering for long: as the platform would have written it. */
async function fill({ db, config }: Stage, deliveries: number): Promise<void> {
  const tenantId = `bench-filled-${randomUUID()}`;
  const subscriptions: string[] = [];
  for (let i = 0; i < FILLED_PER_EVENT; i++) {
    const { subscription } = await createSubscription(db, createKeyring(config), {
      ...{ tenantId, url: `http://127.0.0.1:1/${i}`, eventTypes: [EVENT_TYPE], description: '' },
      ...{ maxPerTenant: 1_000, allowedPrivateCidrs: config.WEBHOOK_ALLOWED_PRIVATE_CIDRS },
    });
    subscriptions.push(subscription.id);
  }
  const each = 20_000;
  for (let from = 0; from < deliveries; from += each)
    await db.pool.query(
      `WITH events AS (
         INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id, source)
         SELECT 'evt_' || replace(gen_random_uuid()::text, '-', ''), $1, $2,
                '{"type":"' || $2 || '","timestamp":"2026-01-01T00:00:00.000Z","data":{"note":"' || repeat('x', 150) || '"}}', 'bench', 'api'
           FROM generate_series(1, $4::int / $5::int)
         RETURNING id, sequence),
       written AS (
         INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, sequence, status, attempts, last_status_code, finished_at)
         SELECT $1, e.id, s, $2, e.sequence, 'delivered', 1, 204, now() FROM events e CROSS JOIN unnest($3::text[]) AS s
         RETURNING id)
       INSERT INTO delivery_attempts (delivery_id, attempt, started_at, duration_ms, result, status_code)
       SELECT id, 1, now(), 5, 'delivered', 204 FROM written`,
      [tenantId, EVENT_TYPE, subscriptions, Math.min(each, deliveries - from), FILLED_PER_EVENT],
    );
  await db.pool.query('ANALYZE webhook_events, deliveries, delivery_attempts');
}

// ---------------------------------------------------------------------------------------------------- publishing

interface Tenant {
  id: string;
  origin: string;
  token: string;
}

export async function newTenant(stage: Stage, urls: readonly string[]): Promise<Tenant> {
  const id = `bench-${randomUUID()}`;
  const { config, db } = stage;
  for (const url of urls)
    await createSubscription(db, createKeyring(config), {
      ...{ tenantId: id, url, eventTypes: [EVENT_TYPE], description: '', maxPerTenant: 1_000 },
      allowedPrivateCidrs: config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
    });
  const token = await mintToken(config, {
    subject: 'bench',
    tenant: id,
    scopes: ['admin'],
    expiresInS: 3_600,
  });
  const origin = `http://127.0.0.1:${config.API_PORT}`;
  const answer = await fetch(`${origin}/api/v1/event-types`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: EVENT_TYPE }),
  });
  if (!answer.ok) throw new Error(`the event type was not made: ${await answer.text()}`);
  return { id, origin, token };
}

/** Publishes events one by one, by 16 callers or at a pace. @returns events accepted per second. */
export async function publishAll(
  { origin, token }: Tenant,
  events: number,
  { perSecond = Infinity, sentAt }: { perSecond?: number; sentAt?: Map<string, number> } = {},
): Promise<number> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const body = JSON.stringify({
    type: EVENT_TYPE,
    data: { orderId: 'o-1', amount: '100.00', note: 'x'.repeat(100) },
  });
  return callAll(origin, events, perSecond, async (pool) => {
    const at = Date.now();
    const answer = await pool.request({ path: '/api/v1/events', method: 'POST', headers, body });
    const { id } = (await answer.body.json()) as { id: string };
    if (answer.statusCode !== 202) throw new Error(`publishing was answered ${answer.statusCode}`);
    sentAt?.set(id, at);
  });
}

async function callAll(
  origin: string,
  count: number,
  perSecond: number,
  call: (pool: Pool) => Promise<void>,
): Promise<number> {
  const pool = new Pool(origin, { connections: CALLERS, pipelining: 1 });
  const startedAt = performance.now();
  let next = 0;
  const caller = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) {
      const waitMs = startedAt + (index / perSecond) * 1_000 - performance.now();
      if (waitMs > 0) await sleep(waitMs);
      await call(pool);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  const seconds = (performance.now() - startedAt) / 1_000;
  await pool.close();
  return count / seconds;
}

// ---------------------------------------------------------------------------------------------------- references

/** Signed POSTs with keep-alive to the same receiver; the rows of a delivery and its attempt, 200 at a time. */
async function bareLoop(stage: Stage, url: string, count: number): Promise<number> {
  await stage.db.pool.query(
    `CREATE UNLOGGED TABLE IF NOT EXISTS bench_rows (id text, event text, status text, at timestamptz);
     ALTER TABLE bench_rows SET LOGGED; TRUNCATE bench_rows`,
  );
  const { origin, pathname } = new URL(url);
  const [secret, body] = [
    newWebhookSecret(),
    JSON.stringify({ type: EVENT_TYPE, data: { note: 'x'.repeat(150) } }),
  ];
  const written: Promise<unknown>[] = [];
  let ids: string[] = [];
  const write = (): void => {
    for (const _ of ['delivery', 'attempt'])
      written.push(
        stage.db.pool.query(
          `INSERT INTO bench_rows SELECT id, id, 'delivered', now() FROM unnest($1::text[]) AS id`,
          [ids],
        ),
      );
    ids = [];
  };
  const rate = await callAll(origin, count, Infinity, async (pool) => {
    const id = `evt_${randomUUID()}`;
    const headers = {
      'content-type': 'application/json',
      ...signWebhook({ id, at: new Date(), body, secrets: [secret] }),
    };
    const answer = await pool.request({ path: pathname, method: 'POST', headers, body });
    await answer.body.dump();
    if (ids.push(id) === BARE_ROWS) write();
  });
  if (ids.length > 0) write();
  await Promise.all(written);
  return rate;
}

/** A bare Express route that parses JSON and does one insert. */
async function bareRoute(stage: Stage, count: number): Promise<number> {
  await stage.db.pool.query('CREATE TABLE IF NOT EXISTS bench_events (id text PRIMARY KEY, body jsonb)');
  const app = express();
  app.post('/events', express.json(), async (request, response) => {
    const id = randomUUID();
    await stage.db.pool.query({
      name: 'bench_insert',
      text: 'INSERT INTO bench_events VALUES ($1, $2)',
      values: [id, JSON.stringify(request.body)],
    });
    response.status(202).json({ id });
  });
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const body = JSON.stringify({
    type: EVENT_TYPE,
    data: { orderId: 'o-1', amount: '100.00', note: 'x'.repeat(100) },
  });
  try {
    return await callAll(
      `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      count,
      Infinity,
      async (pool) => {
        const answer = await pool.request({
          path: '/events',
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body,
        });
        await answer.body.dump();
      },
    );
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
