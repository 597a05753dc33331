import type { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { WORKFLOWS } from '../../../src/contracts/workflows';
import { reconcile } from '../../../src/domain/reconciliation';
import { lookAtWorkflows } from '../../../src/platform/failing-workflows';
import type { Database } from '../../../src/platform/postgres';
import { connectTemporal } from '../../../src/platform/temporal';
import { createTestSpace, eventually, openTestDatabase, type TestSpace } from '../../support/harness';

const QUEUE = 'a queue of this test';
let space: TestSpace;
let db: Database;
let client: Client;
let connection: NativeConnection;
beforeAll(async () => {
  // That a workflow task fails is the case that is tried, and nothing to be told of.
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  space = await createTestSpace({ temporal: true });
  db = openTestDatabase(space);
  client = await connectTemporal(space.config);
  connection = await NativeConnection.connect({ address: space.config.TEMPORAL_ADDRESS });
});
afterAll(async () => {
  await db?.close();
  await connection?.close();
  await (client?.connection as Connection | undefined)?.close();
});

/** Runs workflows of this code while `check` does its work. */
async function withWorker(code: string, check: () => Promise<void>): Promise<void> {
  const worker = await Worker.create({
    connection,
    namespace: space.config.TEMPORAL_NAMESPACE,
    taskQueue: QUEUE,
    workflowsPath: require.resolve(code),
  });
  await worker.runUntil(check);
}

async function found(stuckAfterMs: number) {
  const report = await reconcile(db, {
    ...{ maxFindings: 5, days: 1, timeoutMs: 60_000, stuckAfterMs },
    workflows: await lookAtWorkflows(client),
  });
  const check = report.checks.find(({ name }) => name === 'workflows_vs_tasks')!;
  expect(report.clean).toBe(check.found === 0);
  return { found: check.found, findings: check.findings };
}

describe('reconciliation', () => {
  it('finds an open workflow whose code throws, and no longer once a worker carries it on', async () => {
    const start = (workflowId: string, taskQueue: string) =>
      client.workflow.start(WORKFLOWS.payment, {
        workflowId,
        taskQueue,
        workflowTaskTimeout: '1s',
        args: [],
      });
    const failing = await start('payment/broken', QUEUE);
    // One whose task waits, since no worker serves its queue, is not what is looked for.
    const waiting = await start('payment/waiting', 'a queue without workers');
    await withWorker('./broken-workflow.ts', async () => {
      await eventually(async () =>
        expect(await found(0)).toEqual({
          found: 1,
          findings: [
            {
              subject: 'workflow:payment/broken',
              detail: expect.stringMatching(
                /^paymentWorkflow fails since \d{4}-.*Z, attempt \d+: Cannot read properties of undefined/,
              ) as string,
            },
          ],
        }),
      );
      // For less than the margin it may be about to be mended.
      expect(await found(3_600_000)).toEqual({ found: 0, findings: [] });
    });
    await withWorker('./mended-workflow.ts', () =>
      eventually(async () => expect(await found(0)).toEqual({ found: 0, findings: [] })),
    );
    await Promise.all([failing, waiting].map((each) => each.terminate()));
  });
});
