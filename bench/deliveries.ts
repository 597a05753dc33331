import { randomUUID } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Connection } from '@temporalio/client';
import { TASK_QUEUES, workflowId, WORKFLOWS } from '../src/contracts/workflows';
import { deliveryPolicyOf } from '../src/domain/delivery-policy';
import type { DeliveryRow } from '../src/domain/payments';
import { createSubscription } from '../src/domain/subscriptions';
import { createKeyring } from '../src/platform/secrets';
import { connectTemporal } from '../src/platform/temporal';
import { startRole, startScript, type Child } from '../test/support/processes';
import { median, percentile, round, type Benchmark, type BenchRow } from './report';
import { freePort, openStage, type Stage } from './support/stage';

const STARTS_IN_FLIGHT = 64;
const HANG_MS = 15_000;

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
  /** Deliveries of the subscribers that answer, per second. */
  perSecond: number;
  /** Milliseconds from the event's row to its arrival, of the same. */
  latenciesMs: number[];
}

/**
 * Events to subscribers, as workflows of payments and orders send them: event and delivery rows in one transaction, one
 * delivery workflow each, on one worker of the deliveries. Beside the same server's rate of empty one-activity workflows,
 * because a delivery can't be less. Hanging: one more subscription, on a host of its own, answers nothing for 15 s.
 */
export const run: Benchmark = async ({ quick, progress }) => {
  const stage = await openStage(progress, {
    WEBHOOK_ALLOWED_PRIVATE_CIDRS: '127.0.0.0/8',
    SUBSCRIPTIONS_MAX_PER_TENANT: '1000',
  });
  const client = await connectTemporal(stage.config);
  const deliveries = quick ? 200 : 1_500;
  const rounds = quick ? 1 : 3;
  const rows: BenchRow[] = [];
  try {
    for (const subscriptions of [1, 10, 100]) {
      const seen: Record<'ceiling' | 'free' | 'hanging', number[]> = { ceiling: [], free: [], hanging: [] };
      const p99: Record<'free' | 'hanging', number[]> = { free: [], hanging: [] };
      for (let i = 1; i <= rounds; i++) {
        seen.ceiling.push(await ceilingRate(stage, client, deliveries));
        for (const kind of ['free', 'hanging'] as const) {
          const { perSecond, latenciesMs } = await deliver(
            stage,
            client,
            subscriptions,
            deliveries,
            kind === 'hanging',
          );
          seen[kind].push(perSecond);
          p99[kind].push(percentile(latenciesMs, 0.99));
        }
        progress(
          `${subscriptions} subscriptions, round ${i}/${rounds}: ${seen.free.at(-1)!.toFixed(1)}/s, ` +
            `with one hanging ${seen.hanging.at(-1)!.toFixed(1)}/s, ceiling ${seen.ceiling.at(-1)!.toFixed(1)}/s`,
        );
      }
      rows.push(...rowsOf(subscriptions, deliveries, seen, p99));
    }
    return rows;
  } finally {
    await (client.connection as Connection).close();
    await stage.close();
  }
};

function rowsOf(
  subscriptions: number,
  deliveries: number,
  seen: Record<'ceiling' | 'free' | 'hanging', number[]>,
  p99: Record<'free' | 'hanging', number[]>,
): BenchRow[] {
  const [rate, ceiling] = [median(seen.free), median(seen.ceiling)];
  const [free, hanging] = [median(p99.free), median(p99.hanging)];
  return [
    {
      bench: `deliveries, ${subscriptions} subscriptions`,
      value: round(rate),
      unit: 'deliveries/s',
      reference: round(ceiling),
      ratio: rate / ceiling,
      ...(subscriptions > 1 && { atLeast: 0.8 }),
      note: `median of ${seen.free.length} rounds of ${deliveries} deliveries; reference: empty one-activity workflows, same server and worker settings`,
    },
    {
      bench: `deliveries, ${subscriptions} subscriptions, p99 with one hanging`,
      value: round(hanging),
      unit: 'ms',
      reference: round(free),
      ratio: hanging / free,
      ...(subscriptions > 1 && { atMost: 1.2 }),
      note: 'event to first attempt of the healthy subscriptions, all events at once; reference: without the hanging one',
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

/** Sends `count` deliveries to `subscriptions` healthy subscriptions of a fresh tenant, and waits until all arrived. */
async function deliver(
  stage: Stage,
  client: Client,
  subscriptions: number,
  count: number,
  hanging: boolean,
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
    const publish = (events: number) => publishAll(stage, client, tenantId, events);
    const warm = await publish(Math.max(1, Math.ceil(count / 10 / subscriptions)));
    await until(() => warm.expected(subscriptions) <= healthy.arrivals.size);
    const before = healthy.arrivals.size;
    const startedAt = performance.now();
    const events = Math.ceil(count / subscriptions);
    const sent = await publish(events);
    await until(() => healthy.arrivals.size >= before + events * subscriptions);
    const seconds = (performance.now() - startedAt) / 1_000;
    const latenciesMs = [...healthy.arrivals].flatMap(([key, at]) => {
      const sentAt = sent.at.get(key.slice(0, key.indexOf('/')));
      return sentAt === undefined ? [] : [at - sentAt];
    });
    return { perSecond: (events * subscriptions) / seconds, latenciesMs };
  } finally {
    await worker.kill();
    healthy.close();
    dead.close();
    // What still waits for the hanging one would be taken up by the worker of the next run.
    await stage.db.pool.query(`UPDATE subscriptions SET state = 'deleted' WHERE tenant_id = $1`, [tenantId]);
  }
}

/** Publishes events as fast as their delivery workflows can be started. @returns when each was written. */
async function publishAll(stage: Stage, client: Client, tenantId: string, events: number) {
  const at = new Map<string, number>();
  const policy = deliveryPolicyOf(stage.config);
  await startMany(events, async () => {
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
  return { at, expected: (subscriptions: number) => at.size * subscriptions };
}
