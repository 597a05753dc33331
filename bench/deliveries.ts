import { randomUUID } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowNotFoundError, type Client, type Connection } from '@temporalio/client';
import { TASK_QUEUES, workflowId, WORKFLOWS } from '../src/contracts/workflows';
import { deliveryPolicyOf } from '../src/domain/delivery-policy';
import type { DeliveryRow } from '../src/domain/payments';
import { createSubscription } from '../src/domain/subscriptions';
import { createKeyring } from '../src/platform/secrets';
import { connectTemporal } from '../src/platform/temporal';
import { startRole, type Child } from '../test/support/processes';
import { median, percentile, round, type Benchmark, type BenchRow } from './report';
import { ceilingRate, completed, startMany, untilCompleted } from './support/ceiling';
import { freePort, openStage, type Stage } from './support/stage';

const HANG_MS = 15_000;
/**
 * Deliveries a second at a steady load, those to a hanging subscription among them: about half of what two cores can do,
 * so that latency is that of the work and not of a backlog.
 */
const PACED_PER_SECOND = 20;
/** The server goes on with what was ended at once, and would slow the next run. */
const SETTLE_MS = 5_000;

/** A subscriber's server: when each webhook arrived, by its id and path; paths below /hang get no answer for 15 s. */
class Subscribers {
  readonly arrivals = new Map<string, number>();
  private readonly server = http.createServer((request, response) => {
    const key = `${String(request.headers['webhook-id'])}${request.url}`;
    if (!this.arrivals.has(key)) this.arrivals.set(key, Date.now());
    request.resume();
    request.on('end', () => {
      if (request.url?.startsWith('/hang'))
        setTimeout(() => response.writeHead(204).end(), HANG_MS + 1_000).unref();
      else response.writeHead(204).end();
    });
  });

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    // A benchmark that fails before it closes them ends all the same.
    this.server.unref();
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** What a round of a part saw. */
interface Round {
  /** Empty workflows per second, before and after the deliveries: Temporal's server gets slower with what it keeps. */
  ceiling: number;
  /** Deliveries per second to the subscribers that answer, when all events come at once. */
  free: number;
  /** The same with one more subscription, that hangs. */
  hanging: number;
  /** From the event's row to its arrival at those that answer, at a steady load. */
  freeLatency: Latency;
  hangingLatency: Latency;
}

interface Latency {
  p50Ms: number;
  p99Ms: number;
}

/**
 * Events to subscribers, as workflows of payments and orders send them: event and delivery rows in one transaction, one
 * delivery workflow each, on one worker of the deliveries. Beside the same server's rate of empty one-activity workflows,
 * because a delivery can't be less; and the latency at a steady load. Hanging: one more subscription, on a host of its
 * own, answers nothing for 15 s; nobody knows that of it when the load begins.
 * Rates and latencies of each round have servers of their own; latencies with and without the hanging one take turns in
 * being first.
 */
export const run: Benchmark = async ({ quick, progress }) => {
  const rounds = quick ? 1 : 3;
  const rows: BenchRow[] = [];
  for (const subscriptions of [1, 10, 100]) {
    const seen: Round[] = [];
    for (let i = 1; i <= rounds; i++) {
      const rates = await ratesOf(subscriptions, quick ? 200 : 600, progress);
      const latencies = await latenciesOf(subscriptions, quick ? 10 : 30, i % 2 === 0, progress);
      seen.push({ ...rates, ...latencies });
      const { freeLatency: free, hangingLatency: hanging } = latencies;
      progress(
        `${subscriptions} subscriptions, round ${i}/${rounds}: ${rates.free.toFixed(1)}/s, ` +
          `with one hanging ${rates.hanging.toFixed(1)}/s, ceiling ${rates.ceiling.toFixed(1)}/s; ` +
          `p50 ${free.p50Ms} ms, p99 ${free.p99Ms} ms, with one hanging ${hanging.p50Ms} and ${hanging.p99Ms} ms`,
      );
    }
    rows.push(...rowsOf(subscriptions, seen));
  }
  return rows;
};

async function ratesOf(
  subscriptions: number,
  deliveries: number,
  progress: (line: string) => void,
): Promise<Pick<Round, 'ceiling' | 'free' | 'hanging'>> {
  return onStage(progress, async (stage, client) => {
    const events = Math.ceil(deliveries / subscriptions);
    const before = await ceilingRate(stage, client, deliveries);
    const free = await withSubscribers(stage, client, subscriptions, false, (publish) =>
      rateOf(publish, events),
    );
    const after = await ceilingRate(stage, client, deliveries);
    const hanging = await withSubscribers(stage, client, subscriptions, true, (publish) =>
      rateOf(publish, events),
    );
    return { ceiling: (before + after) / 2, free, hanging };
  });
}

async function rateOf(publish: Publish, events: number): Promise<number> {
  await publish(Math.ceil(events / 10));
  const startedAt = performance.now();
  const { arrived } = await publish(events);
  return arrived / ((performance.now() - startedAt) / 1_000);
}

async function latenciesOf(
  subscriptions: number,
  seconds: number,
  hangingFirst: boolean,
  progress: (line: string) => void,
): Promise<Pick<Round, 'freeLatency' | 'hangingLatency'>> {
  return onStage(progress, async (stage, client) => {
    const perSecond = PACED_PER_SECOND / (subscriptions + 1);
    const latency = (hanging: boolean): Promise<Latency> =>
      withSubscribers(stage, client, subscriptions, hanging, async (publish) => {
        await publish(Math.ceil(20 / subscriptions));
        const { latenciesMs } = await publish(Math.ceil(perSecond * seconds), perSecond);
        return { p50Ms: percentile(latenciesMs, 0.5), p99Ms: percentile(latenciesMs, 0.99) };
      });
    const first = await latency(hangingFirst);
    const second = await latency(!hangingFirst);
    return hangingFirst
      ? { freeLatency: second, hangingLatency: first }
      : { freeLatency: first, hangingLatency: second };
  });
}

async function onStage<T>(
  progress: (line: string) => void,
  work: (stage: Stage, client: Client) => Promise<T>,
): Promise<T> {
  const stage = await openStage(progress, {
    WEBHOOK_ALLOWED_PRIVATE_CIDRS: '127.0.0.0/8',
    SUBSCRIPTIONS_MAX_PER_TENANT: '1000',
  });
  const client = await connectTemporal(stage.config);
  try {
    return await work(stage, client);
  } finally {
    await (client.connection as Connection).close();
    await stage.close();
  }
}

function rowsOf(subscriptions: number, seen: readonly Round[]): BenchRow[] {
  const of = (figure: (round: Round) => number): number => median(seen.map(figure));
  const [free, hanging] = [of((each) => each.free), of((each) => each.hanging)];
  const p50 = {
    free: of((each) => each.freeLatency.p50Ms),
    hanging: of((each) => each.hangingLatency.p50Ms),
  };
  return [
    {
      bench: `deliveries, ${subscriptions} subscriptions`,
      value: round(free),
      unit: 'deliveries/s',
      reference: round(of(({ ceiling }) => ceiling)),
      ratio: of((each) => each.free / each.ceiling),
      ...(subscriptions > 1 && { atLeast: 0.8 }),
      note: `medians of ${seen.length} rounds and of their ratios; reference: empty one-activity workflows, same server, before and after`,
    },
    {
      bench: `deliveries, ${subscriptions} subscriptions, with one hanging`,
      value: round(hanging),
      unit: 'deliveries/s',
      reference: round(free),
      ratio: of((each) => each.hanging / each.free),
      note: 'to those that answer; reference: without the hanging one',
    },
    {
      bench: `deliveries, ${subscriptions} subscriptions, p99 with one hanging`,
      value: of(({ hangingLatency }) => hangingLatency.p99Ms),
      unit: 'ms',
      reference: of(({ freeLatency }) => freeLatency.p99Ms),
      ratio: of(({ hangingLatency, freeLatency }) => hangingLatency.p99Ms / freeLatency.p99Ms),
      ...(subscriptions > 1 && { atMost: 1.2 }),
      note: `event to first attempt of the healthy subscriptions, ${PACED_PER_SECOND} deliveries a second with those to the hanging one; reference: without it (p50 ${p50.free} ms, with it ${p50.hanging} ms)`,
    },
  ];
}

/** Publishes events at a pace, or all at once, and waits until the subscribers that answer have them all. */
type Publish = (events: number, perSecond?: number) => Promise<{ arrived: number; latenciesMs: number[] }>;

/** Runs a worker of the deliveries and the subscribers of a fresh tenant. @param subscriptions those that answer. */
async function withSubscribers<T>(
  stage: Stage,
  client: Client,
  subscriptions: number,
  hanging: boolean,
  work: (publish: Publish) => Promise<T>,
): Promise<T> {
  const tenantId = `bench-${randomUUID()}`;
  const [healthy, dead] = [new Subscribers(), new Subscribers()];
  const [url, deadUrl] = [await healthy.listen(), await dead.listen()];
  const urls = Array.from({ length: subscriptions }, (_, index) => `${url}/${index}`);
  if (hanging) urls.push(`${deadUrl}/hang`);
  for (const each of urls)
    await createSubscription(stage.db, createKeyring(stage.config), {
      tenantId,
      url: each,
      eventTypes: ['payment.*'],
      description: '',
      allowedPrivateCidrs: stage.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
      maxPerTenant: 1_000,
    });
  const worker: Child = await startRole(['worker', '--queue', 'deliveries'], stage.env, await freePort());
  try {
    return await work(async (events, perSecond) => {
      const before = await completed(client, WORKFLOWS.delivery);
      const sentAt = await publishAll(stage, client, tenantId, events, perSecond);
      const arrived = events * subscriptions;
      await untilCompleted(client, WORKFLOWS.delivery, before + arrived);
      const latenciesMs = [...healthy.arrivals].flatMap(([key, at]) => {
        const from = sentAt.get(key.slice(0, key.indexOf('/')));
        return from === undefined ? [] : [at - from];
      });
      if (latenciesMs.length !== arrived)
        throw new Error(`${latenciesMs.length} of ${arrived} webhooks arrived`);
      return { arrived, latenciesMs };
    });
  } finally {
    await worker.kill();
    healthy.close();
    dead.close();
    await endAll(stage, client, tenantId);
  }
}

/** Ends what still waits for the hanging one: the worker of the next run would take it up. */
async function endAll(stage: Stage, client: Client, tenantId: string): Promise<void> {
  await stage.db.pool.query(`UPDATE subscriptions SET state = 'deleted' WHERE tenant_id = $1`, [tenantId]);
  const { rows } = await stage.db.pool.query<{ event_id: string; subscription_id: string }>(
    `SELECT event_id, subscription_id FROM deliveries WHERE tenant_id = $1 AND status = 'pending'`,
    [tenantId],
  );
  await startMany(rows.length, async (index) => {
    const { event_id: eventId, subscription_id: subscriptionId } = rows[index]!;
    try {
      await client.workflow.getHandle(workflowId.delivery(eventId, subscriptionId)).terminate();
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError)) throw error;
    }
  });
  if (rows.length > 0) await sleep(SETTLE_MS);
}

/**
 * Publishes events at a pace, or as fast as their delivery workflows can be started.
 * @returns when each was written, in milliseconds.
 */
async function publishAll(
  stage: Stage,
  client: Client,
  tenantId: string,
  events: number,
  perSecond = Infinity,
): Promise<Map<string, number>> {
  const at = new Map<string, number>();
  const policy = deliveryPolicyOf(stage.config);
  const startedAt = performance.now();
  await startMany(events, async (index) => {
    await sleep(Math.max(0, startedAt + (index / perSecond) * 1_000 - performance.now()));
    const { rows } = await stage.db.pool.query<{ deliveries: DeliveryRow[] }>(
      `SELECT emit_event(new_event_id(), $1, 'payment.succeeded', 'payment', 'p', '{"id":"p"}', 'bench') AS deliveries`,
      [tenantId],
    );
    const { deliveries } = rows[0]!;
    at.set(deliveries[0]!.eventId, Date.now());
    await Promise.all(
      deliveries.map((row) =>
        client.workflow.start(WORKFLOWS.delivery, {
          workflowId: workflowId.delivery(row.eventId, row.subscriptionId),
          taskQueue: TASK_QUEUES.deliveries,
          args: [policy(row, 'bench')],
        }),
      ),
    );
  });
  return at;
}
