import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { startScript } from '../../test/support/processes';
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

/** How many workflows of a type have completed. Visibility lags a little, for remit and its ceiling alike. */
export async function completed(client: Client, type: string): Promise<number> {
  return (await client.workflow.count(`WorkflowType = '${type}' AND ExecutionStatus = 'Completed'`)).count;
}

/** @throws when fewer than `target` have completed after 300 s. */
export async function untilCompleted(client: Client, type: string, target: number): Promise<void> {
  const deadline = Date.now() + COMPLETE_WITHIN_MS;
  for (;;) {
    const count = await completed(client, type);
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

/**
 * What the Temporal server can do at most, in workflows per second, on a worker with the settings of the queue `payments`:
 * empty one-activity workflows, or no-op workflows by signalWithStart.
 */
export async function ceilingRate(
  stage: Stage,
  client: Client,
  size: number,
  workflow: keyof typeof CEILINGS = 'emptyWorkflow',
): Promise<number> {
  const worker = await startScript(path.join(__dirname, 'ceiling-worker.ts'), stage.env);
  const run = async (count: number): Promise<void> => {
    const before = await completed(client, workflow);
    await startMany(count, () => CEILINGS[workflow](client));
    await untilCompleted(client, workflow, before + count);
  };
  try {
    await run(Math.ceil(size / 10));
    const startedAt = performance.now();
    await run(size);
    return size / ((performance.now() - startedAt) / 1_000);
  } finally {
    await worker.stop();
  }
}
