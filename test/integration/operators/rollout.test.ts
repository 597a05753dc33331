import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Connection } from '@temporalio/client';
import { workflowId } from '../../../src/contracts/workflows';
import { historiesOf, replayHistories } from '../../../src/operations/replay-histories';
import { rolloutPromote, rolloutRamp, rolloutRollback, rolloutStatus } from '../../../src/operations/rollout';
import { buildWorkflowBundle } from '../../../src/platform/build-workflow-bundle';
import { connectTemporal } from '../../../src/platform/temporal';
import { buildIdOf, readDeployment } from '../../../src/platform/worker-versions';
import { startApi } from '../../../src/roles/api';
import { startBridge } from '../../../src/roles/bridge';
import { ALL_QUEUES, startWorker } from '../../../src/roles/worker';
import {
  createTestSpace,
  eventually,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { noteResult } from '../../support/nightly';
import { newUser, TestApi } from '../api/support';

/** As many payments settle meanwhile; a rollout under load has 2,000. */
const PAYMENTS = Number(process.env['REMIT_ROLLOUT_PAYMENTS'] ?? 60);
const TOGETHER = 4;
const PATIENCE_MS = 90_000 + PAYMENTS * 200;

let folder: string;
let space: TestSpace;
let api: TestApi;
let temporal: Client;
const running: RunningRoles<unknown>[] = [];
const versions = { one: { path: '', id: '' }, two: { path: '', id: '' } };

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'remit-rollout-'));
  const code = require.resolve('../../support/workflows-of-version-2');
  versions.one.path = await buildWorkflowBundle(path.join(folder, 'one.js'));
  versions.two.path = await buildWorkflowBundle(path.join(folder, 'two.js'), { workflowsPath: code });
  for (const version of Object.values(versions)) version.id = await buildIdOf(version.path);
  space = await createTestSpace({
    topics: true,
    temporal: true,
    env: { TEMPORAL_WORKER_VERSIONING: 'true' },
  });
  temporal = await connectTemporal(space.config);
  const roles = await runRoles(space, async (context) => {
    const started = await startApi(context);
    await startBridge(context);
    return started;
  });
  running.push(roles);
  api = TestApi.of(space, roles);
}, 180_000);
afterAll(async () => {
  await Promise.all(running.splice(0).map((roles) => roles.stop()));
  await (temporal?.connection as Connection | undefined)?.close();
  await rm(folder, { recursive: true, force: true });
}, 90_000);

const startVersion = async ({ path: bundle, id }: { path: string; id: string }) => {
  running.push(await runRoles(space, (context) => startWorker(context, ALL_QUEUES, bundle)));
  await eventually(async () => {
    const deployment = await readDeployment(temporal);
    expect(deployment?.versions.map(({ buildId }) => buildId)).toContain(id);
  }, PATIENCE_MS);
};
const lines: string[] = [];
const say = (line: string) => void lines.push(line);

/** A payment and the webhook that settles it. @returns the payment's id. */
async function pay(userId: string): Promise<string> {
  const body = { userId, amount: '1.00', currency: 'TRY', provider: 'decard' };
  const { id } = (await api.operator('POST', '/api/v1/payments', body)).body as { id: string };
  const said = { provider: 'decard', transactionId: id, status: 'success', amount: 1 };
  expect((await api.webhook(JSON.stringify({ ...said, currency: 'TRY', type: 'payment' }))).status).toBe(202);
  return id;
}

/** The versions that ran a payment's workflow, and how many of its tasks failed. */
async function livedOn(paymentId: string): Promise<{ builds: string[]; failedTasks: number }> {
  const { events } = await temporal.workflow
    .getHandle(workflowId.payment('decard', paymentId))
    .fetchHistory();
  const builds = new Set<string>();
  let failedTasks = 0;
  for (const event of events ?? []) {
    const completed = event.workflowTaskCompletedEventAttributes;
    if (completed)
      builds.add(completed.deploymentVersion?.buildId ?? completed.workerDeploymentVersion ?? '');
    if (event.workflowTaskFailedEventAttributes) failedTasks += 1;
  }
  return { builds: [...builds], failedTasks };
}

/** Task queues learn a moment later where new workflows go. @returns the payments that were made until one did. */
async function untilLivedOn(build: string, userId: string): Promise<string[]> {
  const ids: string[] = [];
  await eventually(
    async () => {
      const id = await pay(userId);
      ids.push(id);
      await settled([id]);
      expect((await livedOn(id)).builds).toEqual([build]);
    },
    PATIENCE_MS,
    1_000,
  );
  return ids;
}

const settled = (ids: readonly string[]) =>
  eventually(
    async () => {
      for (const id of ids) {
        const { body } = await api.operator('GET', `/api/v1/payments/${id}`);
        expect({ id, ...(body as object) }).toMatchObject({ id, status: 'succeeded' });
      }
    },
    PATIENCE_MS,
    500,
  );

it('the first version becomes the current one by itself', async () => {
  await startVersion(versions.one);
  await eventually(
    async () => expect((await readDeployment(temporal))?.current).toBe(versions.one.id),
    PATIENCE_MS,
  );
}, 180_000);

it(
  'a changed payment workflow is ramped, promoted and rolled back while payments settle: none is lost, no workflow task fails',
  async () => {
    const userId = newUser();
    await api.fund(userId, '1.00');
    await startVersion(versions.two);
    const startedAt = performance.now();
    const ids: string[] = [];
    const producing = Promise.all(
      Array.from({ length: TOGETHER }, async () => {
        while (ids.length < PAYMENTS) ids.push(await pay(userId));
      }),
    );
    const share = async (part: number) => {
      while (ids.length < PAYMENTS * part) await sleep(20);
    };
    const build = versions.two.id;
    await share(0.2);
    await rolloutRamp(temporal, 10, { build }, say);
    await share(0.4);
    await rolloutRamp(temporal, 100, { build }, say);
    await share(0.6);
    await rolloutPromote(temporal, { build }, say);
    expect((await readDeployment(temporal))?.current).toBe(build);
    await share(0.8);
    ids.push(...(await untilLivedOn(versions.two.id, userId)));
    await rolloutRollback(temporal, {}, say);
    await producing;
    ids.push(...(await untilLivedOn(versions.one.id, userId)));
    const later = await Promise.all(Array.from({ length: TOGETHER }, () => pay(userId)));
    await settled([...ids, ...later]);
    const seconds = (performance.now() - startedAt) / 1_000;

    const lives = new Map<string, Awaited<ReturnType<typeof livedOn>>>();
    for (const id of [...ids, ...later]) lives.set(id, await livedOn(id));
    const all = [...lives.values()];
    expect(all.filter(({ failedTasks }) => failedTasks > 0)).toEqual([]);
    // Pinned: each ended on the version that it began on.
    expect(all.filter(({ builds }) => builds.length !== 1)).toEqual([]);
    const on = (id: string) => all.filter(({ builds }) => builds[0] === id).length;
    expect(on(versions.two.id)).toBeGreaterThan(0);
    expect(on(versions.one.id) + on(versions.two.id)).toBe(all.length);
    for (const id of later) expect(lives.get(id)?.builds).toEqual([versions.one.id]);
    const deployment = await readDeployment(temporal);
    expect(deployment).toMatchObject({ current: versions.one.id, ramping: null });
    noteResult(
      `${all.length} payments in ${seconds.toFixed(0)} s, ${on(versions.one.id)} on version 1 and ${on(versions.two.id)} on version 2; no workflow task failed, none lost`,
    );
  },
  300_000 + PAYMENTS * 1_000,
);

it('status says what each version has, and a ramp ends by a rollback', async () => {
  await rolloutRamp(temporal, 5, { build: versions.two.id }, say);
  lines.length = 0;
  await rolloutStatus(temporal, {}, say);
  const status = lines.join('\n');
  expect(status).toMatch(new RegExp(`${versions.one.id}.*current.*95 %`));
  expect(status).toMatch(new RegExp(`${versions.two.id}.*ramping.*5 %`));
  await rolloutRollback(temporal, {}, say);
  expect(await readDeployment(temporal)).toMatchObject({ current: versions.one.id, ramping: null });
  await expect(rolloutRamp(temporal, 5, { build: 'nowhere' }, say)).rejects.toThrow(
    /no worker of the version nowhere/,
  );
});

it('a version whose workers are gone is given nothing, unless that is meant', async () => {
  // The server lists who polled within the last minutes.
  const later = Date.now() + 600_000;
  const refused = new RegExp(
    `no worker of the version ${versions.two.id} polls deliveries, .*payments now.*--force`,
  );
  const build = versions.two.id;
  await expect(rolloutRamp(temporal, 5, { build }, say, later)).rejects.toThrow(refused);
  await expect(rolloutPromote(temporal, { build }, say, later)).rejects.toThrow(refused);
  expect(await readDeployment(temporal)).toMatchObject({ current: versions.one.id, ramping: null });
  await rolloutPromote(temporal, { build, force: true }, say, later);
  await expect(rolloutRollback(temporal, {}, say, later)).rejects.toThrow(`version ${versions.one.id} polls`);
  await rolloutRollback(temporal, {}, say);
  lines.length = 0;
  await rolloutStatus(temporal, { json: true }, say);
  const status = JSON.parse(lines[0]!) as { versions: { queuesWithoutWorkers: string[] }[] };
  expect(status.versions.map(({ queuesWithoutWorkers }) => queuesWithoutWorkers)).toEqual([[], []]);
});

it('promoting a version ends the ramp of another one, and says so', async () => {
  await rolloutRamp(temporal, 5, { build: versions.two.id }, say);
  lines.length = 0;
  await rolloutPromote(temporal, { build: versions.one.id }, say);
  expect(await readDeployment(temporal)).toMatchObject({ current: versions.one.id, ramping: null });
  expect(lines[0]).toBe(`the ramp of ${versions.two.id} (5 %) has ended`);
});

it(
  'histories replay on the version that wrote them, and are told where they do not',
  async () => {
    const query = `WorkflowType = 'paymentWorkflow'`;
    const replay = (codePath: string) =>
      replayHistories(temporal, space.config, { query, limit: 10_000 }, codePath);
    const onOne = await replay(versions.one.path);
    const onTwo = await replay(versions.two.path);
    expect(onOne.passed).toBeGreaterThan(0);
    expect(onTwo.passed).toBeGreaterThan(0);
    // Each fails exactly on what the other wrote.
    expect(onOne.failed).toHaveLength(onTwo.passed);
    expect(onTwo.failed).toHaveLength(onOne.passed);
    expect(onOne.buildId).toBe(versions.one.id);
    expect(onOne.failed[0]?.reason).toMatch(/determinis/i);
    const some = await replayHistories(temporal, space.config, { query, limit: 2 }, versions.one.path);
    expect({ count: some.passed + some.failed.length, cut: some.cut }).toEqual({ count: 2, cut: true });
  },
  120_000 + PAYMENTS * 500,
);

it('a history that is gone before it is fetched is left out, and the others are replayed', async () => {
  async function* listed() {
    for await (const { workflowId, runId } of temporal.workflow.list({ pageSize: 10 })) {
      yield { workflowId, runId };
      yield { workflowId: `${workflowId}-of-yesterday`, runId };
      if ((seen += 1) === 3) return;
    }
  }
  let seen = 0;
  let found = 0;
  for await (const { history } of historiesOf(temporal, listed()))
    found += (history.events ?? []).length > 0 ? 1 : 0;
  expect(found).toBe(3);
});
