import { defineSearchAttributeKey, type TypedSearchAttributes } from '@temporalio/common';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, makeTelemetryFilterString, Runtime, Worker } from '@temporalio/worker';
import { SEARCH_ATTRIBUTES, TASK_QUEUES } from '../../src/contracts/workflows';

/** The bundle of all workflows, built once by workflow-setup.ts. */
export const workflowBundle = () => ({ codePath: process.env['REMIT_TEST_WORKFLOW_BUNDLE']! });

let quiet = false;

const START_ATTEMPTS = 5;

/** The SDK gives the server five seconds to start, which a busy machine may not have for a JVM. */
async function startServer(): Promise<TestWorkflowEnvironment> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await TestWorkflowEnvironment.createTimeSkipping({
        server: {
          executable: { type: 'existing-path', path: process.env['REMIT_TEST_TIME_SKIPPING_SERVER']! },
        },
      });
    } catch (error) {
      if (attempt === START_ATTEMPTS) throw error;
    }
  }
}

/** The time-skipping Temporal server with remit's search attributes: days of business time pass in milliseconds. */
export async function createTimeSkippingEnvironment(): Promise<TestWorkflowEnvironment> {
  if (!quiet) {
    quiet = true;
    Runtime.install({
      logger: new DefaultLogger('ERROR'),
      telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' }) } },
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

/** A keyword search attribute of a workflow as it stands. */
export function keyword(
  attributes: TypedSearchAttributes,
  name: keyof typeof SEARCH_ATTRIBUTES,
): string | undefined {
  return attributes.get(defineSearchAttributeKey(name, 'KEYWORD'));
}
