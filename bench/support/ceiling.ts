import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { startScript } from '../../test/support/processes';
import { cpuOfEach, type CpuTimes, type NamedProcess } from './process-time';
import type { Stage } from './stage';

const STARTS_IN_FLIGHT = 64;
const COMPLETE_WITHIN_MS = 300_000;

/** Starts `count` things, a bounded number of them at a time. */
export async function startMany(count: number, start: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) await start(index);
  };
  await Promise.all(Array.from({ length: STARTS_IN_FLIGHT }, lane));
}

/**
 * How many workflows of a type have completed since. Visibility lags a little, for remit and its ceiling alike. Only since then:
 * the server goes through all that it counts, and of payments it keeps more than of its ceiling.
 */
export async function completed(client: Client, type: string, since: Date): Promise<number> {
  const query = `WorkflowType = '${type}' AND ExecutionStatus = 'Completed' AND CloseTime >= '${since.toISOString()}'`;
  return (await client.workflow.count(query)).count;
}

/** @throws when fewer than `target` have completed since after 300 s. */
export async function untilCompleted(
  client: Client,
  type: string,
  since: Date,
  target: number,
): Promise<void> {
  const deadline = Date.now() + COMPLETE_WITHIN_MS;
  for (;;) {
    const count = await completed(client, type, since);
    if (count >= target) return;
    if (Date.now() > deadline) throw new Error(`${count} of ${target} ${type} completed within 300 s`);
    await sleep(100);
  }
}

/** What is measured: the least that a durable step costs, and the least that a message costs which starts a workflow. */
const CEILINGS = {
  emptyWorkflow: (client: Client) =>
    client.workflow.start('emptyWorkflow', { workflowId: randomUUID(), taskQueue: 'ceiling' }),
  noopWorkflow: (client: Client) =>
    client.workflow.signalWithStart('noopWorkflow', {
      workflowId: randomUUID(),
      taskQueue: 'ceiling',
      signal: 'noop',
    }),
} as const;

/** A rate, and what it took of the CPU. */
export interface Measured {
  perSecond: number;
  /** Milliseconds for each workflow, by process. */
  cpu: CpuTimes;
}

/**
 * What the Temporal server can do at most, in workflows per second, on a worker with the settings of the queue `payments`:
 * empty one-activity workflows, or no-op workflows by signalWithStart.
 * @param warmUp how many run before it is measured, so that code is compiled and caches are full.
 */
export async function measureCeiling(
  stage: Stage,
  client: Client,
  { workflow, size, warmUp }: { workflow: keyof typeof CEILINGS; size: number; warmUp: number },
): Promise<Measured> {
  const worker = await startScript(path.join(__dirname, 'ceiling-worker.ts'), stage.env);
  const run = async (count: number): Promise<void> => {
    const since = new Date();
    await startMany(count, () => CEILINGS[workflow](client));
    await untilCompleted(client, workflow, since, count);
  };
  try {
    await run(warmUp);
    const startedAt = performance.now();
    const cpu = await cpuOfEach(
      size,
      [...serversOf(stage), { name: 'worker', pid: worker.process.pid! }],
      () => run(size),
    );
    return { perSecond: size / ((performance.now() - startedAt) / 1_000), cpu };
  } finally {
    await worker.stop();
  }
}

/** The rate of empty one-activity workflows: see measureCeiling. */
export async function ceilingRate(stage: Stage, client: Client, size: number): Promise<number> {
  const warmUp = Math.ceil(size / 10);
  return (await measureCeiling(stage, client, { workflow: 'emptyWorkflow', size, warmUp })).perSecond;
}

/** The embedded servers. */
export function serversOf({ embedded }: Stage): NamedProcess[] {
  return (embedded?.processes ?? []).map(({ part, pid }) => ({ name: part, pid }));
}
