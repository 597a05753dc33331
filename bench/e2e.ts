import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Connection } from '@temporalio/client';
import { request } from 'undici';
import { connectTemporal } from '../src/platform/temporal';
import { median, percentile, round, type Benchmark, type BenchOptions, type BenchRow } from './report';
import { startRole, type Child } from '../test/support/processes';
import { ceilingRate, completed, untilCompleted } from './support/ceiling';
import { freePort, openStage, postAll, seedPayments, signedWebhook, type Stage } from './support/stage';

const CONNECTIONS = 32;
const USERS = 200;
const LATENCY_BOUND_MS = 300;

/**
 * Signed webhooks over HTTP to settled payments through api, Kafka, bridge, Temporal and PostgreSQL, each role a
 * process of its own: completed workflows per second at saturation next to the same Temporal server's rate of empty
 * one-activity workflows with the same worker settings; and the latency at ten payments a second.
 */
export const run: Benchmark = async (options) => {
  const stage = await openStage(options.progress);
  const client = await connectTemporal(stage.config);
  let roles: Child[] = [];
  try {
    const [size, rounds] = options.quick ? [150, 1] : [1_000, 3];
    const figures = { ours: [] as number[], ceiling: [] as number[] };
    for (let i = 1; i <= rounds; i++) {
      figures.ceiling.push(await ceilingRate(stage, client, size));
      roles = await startRoles(stage);
      await settleAll(stage, client, Math.ceil(size / 10));
      figures.ours.push(await settleAll(stage, client, size));
      options.progress(
        `round ${i}/${rounds}: remit ${figures.ours.at(-1)!.toFixed(1)}/s, ceiling ${figures.ceiling.at(-1)!.toFixed(1)}/s`,
      );
      if (i < rounds) await stopAll(roles);
    }
    const value = median(figures.ours);
    const reference = median(figures.ceiling);
    const rate: BenchRow = {
      bench: 'e2e payments settled',
      value: round(value),
      unit: 'payments/s',
      reference: round(reference),
      // Of each round, whose two halves follow each other: the machine's own ups and downs hit both alike.
      ratio: median(figures.ours.map((ours, i) => ours / figures.ceiling[i]!)),
      atLeast: 0.8,
      note: `${rounds} rounds of ${size}, median of values and of the rounds’ ratios; reference: empty one-activity workflows, same server and worker settings`,
    };
    return [rate, ...(await latency(stage, options))];
  } finally {
    await stopAll(roles);
    await (client.connection as Connection).close();
    await stage.close();
  }
};

export async function startRoles(stage: Stage, env: NodeJS.ProcessEnv = {}): Promise<Child[]> {
  const names = ['api', 'bridge', 'worker', 'relay'];
  const ports = [stage.config.METRICS_PORT, await freePort(), await freePort(), await freePort()];
  return Promise.all(names.map((name, i) => startRole([name], { ...stage.env, ...env }, ports[i]!)));
}

export async function stopAll(roles: Child[]): Promise<void> {
  await Promise.all(roles.map((role) => role.stop()));
}

export async function settleAll(stage: Stage, client: Client, size: number): Promise<number> {
  const ids = await seedPayments(stage.db, size, USERS);
  const webhooks = ids.map((id) => signedWebhook(stage.config.PROVIDER_SECRET_DECARD!, id));
  const before = await completed(client, 'paymentWorkflow');
  const startedAt = performance.now();
  await postAll(stage.endpoints.api, '/webhooks/providers/decard', webhooks, CONNECTIONS);
  await untilCompleted(client, 'paymentWorkflow', before + size);
  const seconds = (performance.now() - startedAt) / 1_000;
  const settled = await stage.db.prisma.payment.count({ where: { id: { in: ids }, status: 'succeeded' } });
  if (settled !== size) throw new Error(`${settled} of ${size} payments are settled`);
  return size / seconds;
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
