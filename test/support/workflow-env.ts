import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { inspect } from 'node:util';
import { defineSearchAttributeKey, type DataConverter, type TypedSearchAttributes } from '@temporalio/common';
import type { WorkflowHandle } from '@temporalio/client';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, makeTelemetryFilterString, Runtime, Worker } from '@temporalio/worker';
import { SEARCH_ATTRIBUTES, TASK_QUEUES } from '../../src/contracts/workflows';
import { dataConverterOf } from '../../src/platform/payload-encryption';
import { eventually, freePort } from './harness';

/** The bundle of all workflows, built once by workflow-setup.ts. */
export const workflowBundle = () => ({ codePath: process.env['REMIT_TEST_WORKFLOW_BUNDLE']! });

const ERRORS = makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' });
const REFUSALS = 'temporalio_sdk_core::worker::workflow=WARN';

/** Errors, and tasks that the test server refuses: it hands out no other, and the test would only run into its limit (docs/testing.md). */
const logger = new DefaultLogger('WARN', ({ level, message, meta }) => {
  if (level === 'ERROR' || message.startsWith('Error while completing workflow'))
    process.stderr.write(`${message} ${inspect(meta)}\n`);
});

let quiet = false;

const START_ATTEMPTS = 3;
const START_MS = 120_000;

/** What the SDK's public ways call, which know no server that is there already and skips time. */
const create = TestWorkflowEnvironment['create'] as (options: {
  server: { type: 'existing' };
  address: string;
  supportsTimeSkipping: boolean;
}) => Promise<TestWorkflowEnvironment>;

/** Started here and not by the SDK, which gives it five seconds: a busy machine may not have them for a JVM. */
async function startServer(): Promise<TestWorkflowEnvironment> {
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    // Without --enable-time-skipping: time is skipped while a test waits for a result or sleeps, and not otherwise.
    const server = spawn(process.env['REMIT_TEST_TIME_SKIPPING_SERVER']!, [String(port)], {
      stdio: 'ignore',
    });
    const kill = () => void server.kill('SIGKILL');
    process.once('exit', kill);
    try {
      await eventually(() => untilAnswered(port, server), START_MS, 100);
      const environment = await create.call(TestWorkflowEnvironment, {
        server: { type: 'existing' },
        address: `127.0.0.1:${port}`,
        supportsTimeSkipping: true,
      });
      const teardown = environment.teardown.bind(environment);
      environment.teardown = async () => {
        await teardown();
        process.off('exit', kill);
        kill();
      };
      return environment;
    } catch (error) {
      kill();
      if (attempt === START_ATTEMPTS) throw error;
    }
  }
}

/** @throws while it does not listen. Resolves as well when it has ended: the port was another's. */
async function untilAnswered(port: number, server: ChildProcess): Promise<void> {
  if (server.exitCode !== null) return;
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
  } finally {
    socket.destroy();
  }
}

/** The time-skipping Temporal server with remit's search attributes: days of business time pass in milliseconds. */
export async function createTimeSkippingEnvironment(): Promise<TestWorkflowEnvironment> {
  if (!quiet) {
    quiet = true;
    Runtime.install({
      logger,
      telemetryOptions: { logging: { forward: {}, filter: `${ERRORS},${REFUSALS}` } },
    });
  }
  const environment = await startServer();
  const KEYWORD = 2;
  await environment.connection.operatorService.addSearchAttributes({
    namespace: environment.namespace ?? 'default',
    searchAttributes: Object.fromEntries(Object.keys(SEARCH_ATTRIBUTES).map((name) => [name, KEYWORD])),
  });
  return environment;
}

/** With a key for tests only: what histories are recorded and replayed with that are encrypted. It reads others too. */
export const ENCRYPTED = dataConverterOf({
  TEMPORAL_NAMESPACE: 'default',
  TEMPORAL_ENCRYPT_PAYLOADS: true,
  ENCRYPTION_KEY: Buffer.alloc(32, 9).toString('base64'),
  ENCRYPTION_KEYS_OLD: [],
});

type Activities = Record<string, (input: never) => Promise<unknown>>;

/** Workers on all of remit's task queues, whose activities each test plays in its own way. */
export interface PlayedWorkers {
  /** From now on these are the activities. */
  play(activities: Activities): void;
  stop(): Promise<void>;
}

/** Starts the workers once for a test file: starting and stopping them takes longer than most tests. */
export async function startPlayedWorkers(
  environment: TestWorkflowEnvironment,
  names: readonly string[],
  dataConverter?: DataConverter,
): Promise<PlayedWorkers> {
  let current: Activities = {};
  const activities = Object.fromEntries(
    names.map((name) => [
      name,
      (input: never) =>
        current[name]?.(input) ?? Promise.reject(new Error(`${name} is not played in this test`)),
    ]),
  );
  const workers = await Promise.all(
    Object.values(TASK_QUEUES).map((taskQueue) =>
      Worker.create({
        connection: environment.nativeConnection,
        namespace: environment.namespace ?? 'default',
        taskQueue,
        workflowBundle: workflowBundle(),
        activities,
        ...(dataConverter && { dataConverter }),
      }),
    ),
  );
  const running = workers.map((worker) => worker.run());
  return {
    play: (next) => void (current = next),
    async stop() {
      for (const worker of workers) worker.shutdown();
      await Promise.all(running);
    },
  };
}

/** A test server with played workers, for all tests of a file. */
export interface PlayedStage {
  readonly environment: TestWorkflowEnvironment;
  play(activities: Activities): void;
  /** Ends the workflow after its test, so that one which a failed test left behind does not take the next one's answers. */
  track<T extends WorkflowHandle>(handle: T): T;
}

/** Begins a stage before the tests of a file, and ends it after them. @param names the activities that tests play. */
export function playedStage(names: readonly string[]): PlayedStage {
  let environment: TestWorkflowEnvironment;
  let workers: PlayedWorkers;
  const tracked: WorkflowHandle[] = [];
  beforeAll(async () => {
    environment = await createTimeSkippingEnvironment();
    workers = await startPlayedWorkers(environment, names);
  });
  afterEach(async () => {
    for (const handle of tracked.splice(0)) await handle.terminate().catch(() => undefined);
  });
  afterAll(async () => {
    await workers.stop();
    await environment.teardown();
  });
  return {
    get environment() {
      return environment;
    },
    play: (activities) => workers.play(activities),
    track(handle) {
      tracked.push(handle);
      return handle;
    },
  };
}

/** A keyword search attribute of a workflow as it stands. */
export function keyword(
  attributes: TypedSearchAttributes,
  name: keyof typeof SEARCH_ATTRIBUTES,
): string | undefined {
  return attributes.get(defineSearchAttributeKey(name, 'KEYWORD'));
}
