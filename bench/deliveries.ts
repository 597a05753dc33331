import { randomUUID } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowNotFoundError, type Client, type Connection } from '@temporalio/client';
import { TASK_QUEUES, workflowId, WORKFLOWS } from '../src/contracts/workflows';
import { deliveryPolicyOf } from '../src/domain/delivery-policy';
import type { DeliveryRow } from '../src/domain/payments';
import { createSubscription } from '../src/domain/subscriptions';
import { createKeyring } from '../src/platform/secrets';
import { connectTemporal } from '../src/platform/temporal';
import { startRole, startScript, type Child } from '../test/support/processes';
import { median, percentile, round as rounded, type Benchmark, type BenchRow } from './report';
import { freePort, openStage, type Stage } from './support/stage';

const STARTS_IN_FLIGHT = 64;
const HANG_MS = 15_000;
/** About a third of what two cores can do: latency is that of the work, not of a backlog. */
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
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}

interface Run {
  /** Deliveries of the subscribers that answer, per second, when all events come at once. */
  perSecond: number;
  /** From the event's row to its arrival, of the same, at PACED_PER_SECOND. */
  p50Ms: number;
  p99Ms: number;
}

/** What a round of a part saw. */
interface Round {
  /** Empty workflows per second. */
  ceiling: number;
  free: Run;
  /** With one more subscription, that hangs. */
  hanging: Run;
}

/**
 * Events to subscribers, as workflows of payments and orders send them: event and delivery rows in one transaction, one
 * delivery workflow each, on one worker of the deliveries. Beside the same server's rate of empty one-activity workflows,
 * because a delivery can't be less. Latency is measured at a steady load, before the rate at full load. Hanging: one more
 * subscription, on a host of its own, answers nothing for 15 s; nobody knows that of it when the load begins.
 * Each round has servers of its own, because Temporal's gets slower with what it keeps; with and without the hanging one
 * take turns in being first.
 */
export const run: Benchmark = async ({ quick, progress }) => {
  const rounds = quick ? 1 : 3;
  const rows: BenchRow[] = [];
  for (const subscriptions of [1, 10, 100]) {
    const seen: Round[] = [];
    for (let i = 1; i <= rounds; i++) {
      const { ceiling, free, hanging } = await round({
        subscriptions,
        hangingFirst: i % 2 === 0,
        quick,
        progress,
      });
      seen.push({ ceiling, free, hanging });
      progress(
        `${subscriptions} subscriptions, round ${i}/${rounds}: ${free.perSecond.toFixed(1)}/s, ` +
          `with one hanging ${hanging.perSecond.toFixed(1)}/s, ceiling ${ceiling.toFixed(1)}/s; ` +
          `p50 ${Math.round(free.p50Ms)} ms, p99 ${Math.round(free.p99Ms)} ms, ` +
          `with one hanging ${Math.round(hanging.p50Ms)} and ${Math.round(hanging.p99Ms)} ms`,
      );
    }
    rows.push(...rowsOf(subscriptions, seen));
  }
  return rows;
};

async function round({
  subscriptions,
  hangingFirst,
  quick,
  progress,
}: {
  subscriptions: number;
  hangingFirst: boolean;
  quick: boolean;
  progress: (line: string) => void;
}): Promise<Round> {
  const stage = await openStage(progress, {
    WEBHOOK_ALLOWED_PRIVATE_CIDRS: '127.0.0.0/8',
    SUBSCRIPTIONS_MAX_PER_TENANT: '1000',
  });
  const client = await connectTemporal(stage.config);
  const [deliveries, pacedSeconds] = quick ? [200, 10] : [600, 30];
  try {
    const ceiling = await ceilingRate(stage, client, deliveries);
    const load = (hanging: boolean) =>
      deliver(stage, client, { subscriptions, deliveries, pacedSeconds, hanging });
    const first = await load(hangingFirst);
    const second = await load(!hangingFirst);
    return { ceiling, free: hangingFirst ? second : first, hanging: hangingFirst ? first : second };
  } finally {
    await (client.connection as Connection).close();
    await stage.close();
  }
}

function rowsOf(subscriptions: number, seen: readonly Round[]): BenchRow[] {
  const of = (figure: (round: Round) => number): number => median(seen.map(figure));
  return [
    {
      bench: `deliveries, ${subscriptions} subscriptions`,
      value: rounded(of(({ free }) => free.perSecond)),
      unit: 'deliveries/s',
      reference: rounded(of(({ ceiling }) => ceiling)),
      ratio: of(({ free, ceiling }) => free.perSecond / ceiling),
      ...(subscriptions > 1 && { atLeast: 0.8 }),
      note: `medians of ${seen.length} rounds and of their ratios; reference: empty one-activity workflows, same server and worker settings`,
    },
    {
      bench: `deliveries, ${subscriptions} subscriptions, with one hanging`,
      value: rounded(of(({ hanging }) => hanging.perSecond)),
      unit: 'deliveries/s',
      reference: rounded(of(({ free }) => free.perSecond)),
      ratio: of(({ hanging, free }) => hanging.perSecond / free.perSecond),
      note: 'to those that answer; reference: without the hanging one',
    },
    {
      bench: `deliveries, ${subscriptions} subscriptions, p99 with one hanging`,
      value: rounded(of(({ hanging }) => hanging.p99Ms)),
      unit: 'ms',
      reference: rounded(of(({ free }) => free.p99Ms)),
      ratio: of(({ hanging, free }) => hanging.p99Ms / free.p99Ms),
      ...(subscriptions > 1 && { atMost: 1.2 }),
      note:
        `event to first attempt of the healthy subscriptions, ${PACED_PER_SECOND} deliveries a second to them; reference: ` +
        `without the hanging one (p50 ${rounded(of(({ free }) => free.p50Ms))} ms, with it ${rounded(of(({ hanging }) => hanging.p50Ms))} ms)`,
    },
  ];
}

async function startMany(count: number, start: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) await start(index);
  };
  await Promise.all(Array.from({ length: STARTS_IN_FLIGHT }, lane));
}

async function ceilingRate(stage: Stage, client: Client, size: number): Promise<number> {
  const worker = await startScript(path.join(__dirname, 'support', 'ceiling-worker.ts'), stage.env);
  try {
    const run = async (count: number): Promise<void> => {
      const before = (
        await client.workflow.count("WorkflowType = 'emptyWorkflow' AND ExecutionStatus = 'Completed'")
      ).count;
      await startMany(count, () =>
        client.workflow.start('emptyWorkflow', { workflowId: randomUUID(), taskQueue: 'ceiling' }),
      );
      await until(async () => {
        const { count: now } = await client.workflow.count(
          "WorkflowType = 'emptyWorkflow' AND ExecutionStatus = 'Completed'",
        );
        return now >= before + count;
      });
    };
    await run(Math.ceil(size / 10));
    const startedAt = performance.now();
    await run(size);
    return size / ((performance.now() - startedAt) / 1_000);
  } finally {
    await worker.stop();
  }
}

async function until(reached: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 300_000;
  while (!(await reached())) {
    if (Date.now() > deadline) throw new Error('not all of them came within 300 s');
    await sleep(50);
  }
}

interface Load {
  /** Healthy ones. */
  subscriptions: number;
  /** At full load. */
  deliveries: number;
  pacedSeconds: number;
  hanging: boolean;
}

/** Sends webhooks to the subscriptions of a fresh tenant, at a steady pace and then all at once, until all arrived. */
async function deliver(
  stage: Stage,
  client: Client,
  { subscriptions, deliveries, pacedSeconds, hanging }: Load,
): Promise<Run> {
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
    const publish = async (events: number, perSecond?: number): Promise<Map<string, number>> => {
      const before = healthy.arrivals.size;
      const sentAt = await publishAll(stage, client, tenantId, events, perSecond);
      await until(() => healthy.arrivals.size >= before + events * subscriptions);
      return sentAt;
    };
    await publish(Math.max(1, Math.ceil(deliveries / 20 / subscriptions)));
    const pace = PACED_PER_SECOND / subscriptions;
    const sentAt = await publish(Math.ceil(pace * pacedSeconds), pace);
    const startedAt = performance.now();
    const events = Math.ceil(deliveries / subscriptions);
    await publish(events);
    const seconds = (performance.now() - startedAt) / 1_000;
    const latenciesMs = [...healthy.arrivals].flatMap(([key, at]) => {
      const from = sentAt.get(key.slice(0, key.indexOf('/')));
      return from === undefined ? [] : [at - from];
    });
    return {
      perSecond: (events * subscriptions) / seconds,
      p50Ms: percentile(latenciesMs, 0.5),
      p99Ms: percentile(latenciesMs, 0.99),
    };
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
