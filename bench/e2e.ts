import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Connection } from '@temporalio/client';
import { request } from 'undici';
import { RESERVED_EVENT_WORD } from '../src/contracts/webhooks';
import { paymentStart } from '../src/contracts/workflows/starts';
import { createSubscription } from '../src/domain/subscriptions';
import { createKeyring } from '../src/platform/secrets';
import { connectTemporal } from '../src/platform/temporal';
import { median, percentile, round, type Benchmark, type BenchOptions, type BenchRow } from './report';
import { startRole, type Child } from '../test/support/processes';
import { measureCeiling, serversOf, untilCompleted, type Measured } from './support/ceiling';
import { cpuOfEach, type CpuTimes } from './support/process-time';
import { freePort, openStage, postAll, seedPayments, signedWebhook, type Stage } from './support/stage';
import { Subscribers } from './support/subscribers';

const CONNECTIONS = 32;
const USERS = 200;
const LATENCY_BOUND_MS = 300;
const DELIVERED_WITHIN_MS = 120_000;

/** How many subscriptions hear of a payment, and the least share of the rate without any. */
const SUBSCRIBED = new Map([
  [1, 0.85],
  [10, 0.7],
]);
const EVENT_TYPE = `${RESERVED_EVENT_WORD}.payment.succeeded`;

/** Part of a round's size: so much runs before anything is measured, of remit as of its references. */
const WARM_UP = 1 / 2;
const ROLES = ['api', 'bridge', 'worker', 'relay'];

interface Figures {
  /** Empty one-activity workflows. */
  ceiling: Measured;
  /** No-op workflows by signalWithStart. */
  noop: Measured;
  /** Payments settled, by the number of subscriptions. */
  ours: Map<number, Measured>;
}

/**
 * Signed webhooks over HTTP to settled payments through api, Kafka, bridge, Temporal and PostgreSQL, each role a
 * process of its own: completed workflows per second at saturation next to what the same Temporal server does with the
 * same worker settings at most, by empty one-activity workflows and by no-op workflows; the same with subscriptions that are
 * told of each payment; and the latency at ten payments a second.
 */
export const run: Benchmark = async (options) => {
  const stage = await openStage(options.progress, { WEBHOOK_ALLOWED_PRIVATE_CIDRS: '127.0.0.0/8' });
  const client = await connectTemporal(stage.config);
  let roles: Child[] = [];
  const histories = new Map<number, string>();
  try {
    const [size, rounds] = options.quick ? [150, 1] : [1_000, 3];
    // Before the server has kept many workflows, which slows it.
    roles = await startRoles(stage);
    await settleAll(stage, client, Math.ceil(size / 10));
    const latencies = await latency(stage, options);
    await stopAll(roles);
    const seen: Figures[] = [];
    const warmUp = Math.ceil(size * WARM_UP);
    for (let i = 0; i < rounds; i++) {
      const references = async () => ({
        ceiling: await measureCeiling(stage, client, { workflow: 'emptyWorkflow', size, warmUp }),
        noop: await measureCeiling(stage, client, { workflow: 'noopWorkflow', size, warmUp }),
      });
      const payments = async () => {
        roles = await startRoles(stage);
        await settleAll(stage, client, warmUp);
        const ours = new Map<number, Measured>();
        for (const subscriptions of rotated([0, ...SUBSCRIBED.keys()], i)) {
          const unsubscribe = await subscribe(stage, subscriptions);
          const { lastId, ...measured } = await settleAll(stage, client, size, roles);
          ours.set(subscriptions, measured);
          histories.set(subscriptions, await historyOf(client, lastId));
          await unsubscribe(size);
        }
        await stopAll(roles);
        return ours;
      };
      // In turn, as what comes before and after which: the server gets slower with all that it keeps.
      const figures =
        i % 2 === 0
          ? { ...(await references()), ours: await payments() }
          : { ours: await payments(), ...(await references()) };
      seen.push(figures);
      const { ceiling, noop, ours } = figures;
      options.progress(
        `round ${i + 1}/${rounds}: remit ${[...ours].map(([n, { perSecond }]) => `${perSecond.toFixed(1)}/s with ${n} subscriptions`).join(', ')}; ` +
          `one activity ${ceiling.perSecond.toFixed(1)}/s, no-op ${noop.perSecond.toFixed(1)}/s`,
      );
    }
    for (const line of cpuLines(seen)) options.progress(line);
    for (const [n, history] of histories) options.progress(`history with ${n} subscriptions: ${history}`);
    return [...rateRows(seen, size, histories), ...latencies];
  } finally {
    await stopAll(roles);
    await (client.connection as Connection).close();
    await stage.close();
  }
};

/** So that none is always the first, on code that was compiled a moment ago. */
function rotated<T>(values: readonly T[], by: number): T[] {
  const first = by % values.length;
  return [...values.slice(first), ...values.slice(0, first)];
}

/** What a workflow takes of the CPU, by process: of each case the medians of the rounds. */
function cpuLines(seen: readonly Figures[]): string[] {
  const line = (name: string, of: (figures: Figures) => CpuTimes): string => {
    const names = [...of(seen[0]!).keys()];
    const medians = names.map((each) => median(seen.map((figures) => of(figures).get(each) ?? 0)));
    const sum = medians.reduce((total, each) => total + each, 0);
    return `CPU of ${name}: ${names.map((each, i) => `${each} ${medians[i]!.toFixed(2)}`).join(', ')}; together ${sum.toFixed(1)} ms`;
  };
  return [
    line('an empty one-activity workflow', ({ ceiling }) => ceiling.cpu),
    line('a no-op workflow', ({ noop }) => noop.cpu),
    ...[...seen[0]!.ours.keys()]
      .sort((a, b) => a - b)
      .map((n) => line(`a payment with ${n} subscriptions`, ({ ours }) => ours.get(n)!.cpu)),
  ];
}

/** Ratios are of each round, whose parts follow each other: the machine's own ups and downs hit them alike. */
function rateRows(
  seen: readonly Figures[],
  size: number,
  histories: ReadonlyMap<number, string>,
): BenchRow[] {
  const settled = (subscriptions: number) => (figures: Figures) => figures.ours.get(subscriptions)!.perSecond;
  const row = (
    bench: string,
    value: (figures: Figures) => number,
    reference: (figures: Figures) => number,
    atLeast: number,
    note: string,
  ): BenchRow => ({
    bench,
    value: round(median(seen.map(value))),
    unit: 'payments/s',
    reference: round(median(seen.map(reference))),
    ratio: median(seen.map((figures) => value(figures) / reference(figures))),
    atLeast,
    note,
  });
  return [
    row(
      'e2e payments settled',
      settled(0),
      ({ ceiling }) => ceiling.perSecond,
      0.8,
      `${seen.length} rounds of ${size}, median of values and of the rounds’ ratios; reference: empty one-activity workflows, same server and worker settings`,
    ),
    row(
      'e2e payments settled, next to no-op workflows',
      settled(0),
      ({ noop }) => noop.perSecond,
      0.65,
      `reference: no-op workflows by signalWithStart, same server and worker settings; history: ${histories.get(0)}`,
    ),
    ...[...SUBSCRIBED].map(([subscriptions, atLeast]) =>
      row(
        `e2e payments settled, ${subscriptions} subscription${subscriptions > 1 ? 's' : ''}`,
        settled(subscriptions),
        settled(0),
        atLeast,
        `reference: without subscriptions; history: ${histories.get(subscriptions)}`,
      ),
    ),
  ];
}

/** Has subscribers be told of each payment. @returns what ends it, when so many payments have been told of. */
async function subscribe(stage: Stage, count: number): Promise<(payments: number) => Promise<void>> {
  if (count === 0) return () => Promise.resolve();
  const { config, db } = stage;
  const subscribers = new Subscribers();
  for (const url of await subscribers.urls(count))
    await createSubscription(db, createKeyring(config), {
      ...{ tenantId: 'default', url, eventTypes: [EVENT_TYPE], description: '', maxPerTenant: 1_000 },
      allowedPrivateCidrs: config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
    });
  return async (payments) => {
    await subscribers.receives(payments * count, DELIVERED_WITHIN_MS);
    await db.pool.query(`UPDATE subscriptions SET state = 'deleted' WHERE state <> 'deleted'`);
    subscribers.close();
  };
}

/** What a payment's workflow wrote: events by type. */
async function historyOf(client: Client, paymentId: string): Promise<string> {
  const { workflowId } = paymentStart({ provider: 'decard', transactionId: paymentId });
  const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
  const counts = new Map<string, number>();
  for (const event of events ?? []) {
    // Its attributes are of the one field that is set.
    const field = Object.keys(event).find((key) => key.endsWith('EventAttributes')) ?? 'unknown';
    const name = field.replace('EventAttributes', '');
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const tasks = counts.get('workflowTaskCompleted') ?? 0;
  return `${events?.length} events, ${tasks} workflow task${tasks === 1 ? '' : 's'} (${[...counts].map(([name, n]) => (n > 1 ? `${n} ${name}` : name)).join(', ')})`;
}

export async function startRoles(stage: Stage, env: NodeJS.ProcessEnv = {}): Promise<Child[]> {
  const ports = [stage.config.METRICS_PORT, await freePort(), await freePort(), await freePort()];
  return Promise.all(ROLES.map((name, i) => startRole([name], { ...stage.env, ...env }, ports[i]!)));
}

export async function stopAll(roles: Child[]): Promise<void> {
  await Promise.all(roles.map((role) => role.stop()));
}

/** @param roles whose CPU is looked at beside that of the servers, in the order of ROLES. */
export async function settleAll(
  stage: Stage,
  client: Client,
  size: number,
  roles: readonly Child[] = [],
): Promise<Measured & { lastId: string }> {
  const ids = await seedPayments(stage.db, size, USERS);
  const webhooks = ids.map((id) => signedWebhook(stage.config.PROVIDER_SECRET_DECARD!, id));
  const processes = [
    ...serversOf(stage),
    ...roles.map((role, i) => ({ name: ROLES[i]!, pid: role.process.pid! })),
  ];
  const startedAt = performance.now();
  const cpu = await cpuOfEach(size, processes, async () => {
    const since = new Date();
    await postAll(stage.endpoints.api, '/webhooks/providers/decard', webhooks, CONNECTIONS);
    await untilCompleted(client, 'paymentWorkflow', since, size);
  });
  const seconds = (performance.now() - startedAt) / 1_000;
  const settled = await stage.db.prisma.payment.count({ where: { id: { in: ids }, status: 'succeeded' } });
  if (settled !== size) throw new Error(`${settled} of ${size} payments are settled`);
  return { perSecond: size / seconds, cpu, lastId: ids.at(-1)! };
}

/** From sending the webhook to the commit's timestamp in PostgreSQL (same clock), at ten payments a second. */
async function latency(stage: Stage, { quick, progress }: BenchOptions): Promise<BenchRow[]> {
  const seconds = quick ? 5 : 60;
  progress(`latency at 10 payments a second for ${seconds} s`);
  const ids = await seedPayments(stage.db, seconds * 10, USERS);
  const sentAt = new Map<string, number>();
  const posts: Promise<unknown>[] = [];
  const startedAt = performance.now();
  for (const [i, id] of ids.entries()) {
    await sleep(Math.max(0, startedAt + i * 100 - performance.now()));
    const { headers, body } = signedWebhook(stage.config.PROVIDER_SECRET_DECARD!, id);
    sentAt.set(id, Date.now());
    const post = request(`${stage.endpoints.api}/webhooks/providers/decard`, {
      method: 'POST',
      headers,
      body,
    });
    posts.push(post.then(({ body: answer }) => answer.dump()));
  }
  await Promise.all(posts);
  const deadline = Date.now() + 30_000;
  while ((await stage.db.prisma.payment.count({ where: { id: { in: ids }, status: 'pending' } })) > 0) {
    if (Date.now() > deadline) throw new Error('payments are still pending after 30 s');
    await sleep(200);
  }
  const payments = await stage.db.prisma.payment.findMany({
    where: { id: { in: ids } },
    select: { id: true, settledAt: true },
  });
  const durations = payments.map(({ id, settledAt }) => settledAt!.getTime() - sentAt.get(id)!);
  const row = (name: string, value: number, bound: boolean): BenchRow => ({
    bench: `e2e webhook to settled, ${name}`,
    value: round(value),
    unit: 'ms',
    reference: LATENCY_BOUND_MS,
    ratio: value / LATENCY_BOUND_MS,
    ...(bound ? { atMost: 1, note: `${ids.length} payments at 10 a second; reference: the bound` } : {}),
  });
  return [row('p50', percentile(durations, 0.5), false), row('p99', percentile(durations, 0.99), true)];
}
