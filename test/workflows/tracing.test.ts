import { rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { WorkflowClient, type WorkflowClientInterceptor } from '@temporalio/client';
import { defaultPayloadConverter, type Headers } from '@temporalio/common';
import { historyToJSON } from '@temporalio/common/lib/proto-utils';
import type { temporal } from '@temporalio/proto';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import {
  CARRIED_TRACES_HEADER,
  readTraceparent,
  TEMPORAL_TRACE_HEADER,
  TRACEPARENT,
  type WorkflowSpan,
} from '../../src/contracts/tracing';
import { TASK_QUEUES } from '../../src/contracts/workflows';
import { buildWorkflowBundle } from '../../src/platform/build-workflow-bundle';
import { createTimeSkippingEnvironment, workflowBundle } from '../support/workflow-env';
import { SCENARIOS, type Scenario } from './history-scenarios';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const STARTED = `00-${TRACE}-00000000000000a1-01`;
// The server's time is years ahead by now: other tests have let it pass.
const FAR = '2999-01-01T00:00:00.000Z';
const TOLD_LATER = `00-${TRACE}-00000000000000b2-01`;

type History = temporal.api.history.v1.IHistory;

const BUNDLE_WITHOUT = path.join(os.tmpdir(), `remit-workflows-untraced-${process.pid}.js`);
let environment: TestWorkflowEnvironment;
/** Spans that workflows told, in their order. */
const told: WorkflowSpan[] = [];
const sinks = {
  tracing: {
    span: { fn: (_info: unknown, span: WorkflowSpan) => void told.push(span), callDuringReplay: false },
  },
};

beforeAll(async () => {
  environment = await createTimeSkippingEnvironment();
  await buildWorkflowBundle(BUNDLE_WITHOUT, { withTracing: false });
}, 120_000);
afterAll(async () => {
  rmSync(BUNDLE_WITHOUT, { force: true });
  await environment?.teardown();
});

const headerOf = (traceparent: string): Headers => ({
  [TEMPORAL_TRACE_HEADER]: defaultPayloadConverter.toPayload({ [TRACEPARENT]: traceparent }),
});

/** Whoever starts and signals is traced; what comes later comes from another span. */
const traced: WorkflowClientInterceptor = {
  startWithDetails: (input, next) => next({ ...input, headers: headerOf(STARTED) }),
  signalWithStart: (input, next) => next({ ...input, headers: headerOf(STARTED) }),
  signal: (input, next) => next({ ...input, headers: headerOf(TOLD_LATER) }),
};

/** Plays a scenario on workers with or without a trace. @returns the history, and what activities were handed. */
async function play(
  scenario: Scenario,
  codePath: string,
  suffix: string,
  interceptors: WorkflowClientInterceptor[],
): Promise<{ history: History; firstRun: History; handed: Map<string, string | undefined> }> {
  const handed = new Map<string, string | undefined>();
  const workers = await Promise.all(
    [...new Set([scenario.taskQueue, TASK_QUEUES.deliveries])].map((taskQueue) =>
      Worker.create({
        connection: environment.nativeConnection,
        namespace: environment.namespace ?? 'default',
        taskQueue,
        workflowBundle: { codePath },
        activities: scenario.activities,
        sinks,
        interceptors: {
          activity: [
            ({ info }) => ({
              inbound: {
                execute(input, next) {
                  const payload = input.headers[TEMPORAL_TRACE_HEADER];
                  const carrier =
                    payload && defaultPayloadConverter.fromPayload<Record<string, string>>(payload);
                  handed.set(info.activityType, carrier?.[TRACEPARENT]);
                  return next(input);
                },
              },
            }),
          ],
        },
      }),
    ),
  );
  const running = Promise.all(workers.map((worker) => worker.run()));
  const client = new WorkflowClient({
    connection: environment.connection,
    namespace: environment.namespace ?? 'default',
    interceptors,
  });
  const options = {
    workflowId: `${scenario.workflowId}-${suffix}`,
    taskQueue: scenario.taskQueue,
    args: scenario.input === undefined ? [] : [scenario.input],
  };
  try {
    const handle = scenario.signal
      ? await client.signalWithStart(scenario.workflowType, {
          ...options,
          signal: scenario.signal.name,
          signalArgs: [scenario.signal.input],
        })
      : await client.start(scenario.workflowType, options);
    if (scenario.meanwhile) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      // Played a second time, a scenario may have come to its end by now.
      await scenario.meanwhile(handle).catch(() => undefined);
    }
    await ended(options.workflowId);
    const history = await handle.fetchHistory();
    for (const { startChildWorkflowExecutionInitiatedEventAttributes: child } of history.events ?? [])
      if (child?.workflowId) await ended(child.workflowId);
    const firstRun = 'signaledRunId' in handle ? handle.signaledRunId : handle.firstExecutionRunId;
    return { history, firstRun: await client.getHandle(options.workflowId, firstRun).fetchHistory(), handed };
  } finally {
    for (const worker of workers) worker.shutdown();
    await running;
  }
}

/** Time passes while this waits. */
const ended = (workflowId: string): Promise<unknown> =>
  environment.client.workflow
    .getHandle(workflowId)
    .result()
    .catch(() => undefined);

function scenario(name: string): Scenario {
  const found = SCENARIOS.find((each) => each.name === name);
  if (!found) throw new Error(`no scenario ${name}`);
  return found;
}

const replay = (codePath: string, history: History, name: string) =>
  Worker.runReplayHistory({ workflowBundle: { codePath }, sinks }, history, name);

/** Whatever a workflow does: local activities, activities, timers, children, signals, continuing as new. */
const KINDS = [
  'payment-pending-then-success',
  'payment-continued-while-early',
  'order-finished',
  'dispute-evidence-then-won',
  'delivery-exhausted',
  'lane-woken',
  'recovery-of-deliveries',
];

describe('a workflow that is traced', () => {
  it.each(KINDS)(
    '%s: what was recorded with a trace replays without tracing, and the other way round',
    async (name) => {
      const withTracing = workflowBundle().codePath;
      const { history, handed } = await play(scenario(name), withTracing, 'traced', [traced]);
      const spans = told.splice(0);
      // It was there to be replayed, and not only the same history as always.
      expect(historyToJSON(history)).toContain(TEMPORAL_TRACE_HEADER);
      await replay(BUNDLE_WITHOUT, history, name);
      await replay(withTracing, history, name);
      // A replay tells nothing a second time.
      expect(told.splice(0)).toEqual([]);
      expect(spans.length).toBeGreaterThan(0);
      for (const traceparent of handed.values())
        expect(readTraceparent(traceparent)).toMatchObject({ traceId: TRACE, sampled: true });

      const untraced = await play(scenario(name), BUNDLE_WITHOUT, 'untraced', []);
      await replay(withTracing, untraced.history, name);
      expect(told.splice(0)).toEqual([]);
    },
  );

  it('that continues in another run takes along which message belongs to which trace', async () => {
    // Waits long enough for more tries than one history takes.
    let tries = 0;
    const waiting = scenario('payment-continued-while-early');
    const settlePayment = waiting.activities['settlePayment']!;
    const final = (await settlePayment(undefined as never)) as object;
    const early = { ...final, outcome: 'unknown_transaction', status: null, waitUntil: FAR };
    const applied = { ...final, outcome: 'applied', status: 'succeeded', waitUntil: null };
    const carried = [{ name: 'HandleSignal:providerEvent', parent: TOLD_LATER }];
    const { history, firstRun, handed } = await play(
      {
        ...waiting,
        activities: {
          ...waiting.activities,
          settlePayment: () => Promise.resolve((tries += 1) > 720 ? applied : early),
        },
      },
      workflowBundle().codePath,
      'continued',
      [
        {
          signalWithStart: (input, next) =>
            next({
              ...input,
              headers: {
                ...headerOf(STARTED),
                [CARRIED_TRACES_HEADER]: defaultPayloadConverter.toPayload(carried),
              },
            }),
        },
      ],
    );
    expect(firstRun.events?.at(-1)?.workflowExecutionContinuedAsNewEventAttributes).toBeTruthy();
    // The message is told of once, where it came to its end. (This server hands no header on to the signal of a
    // signalWithStart; a real one does, see test/integration/tracing.)
    const spans = told.splice(0).map(({ name, parent }) => `${name} ${parent}`);
    expect(spans.sort()).toEqual([
      `HandleSignal:providerEvent ${TOLD_LATER}`,
      `RunWorkflow:paymentWorkflow ${STARTED}`,
      `RunWorkflow:paymentWorkflow ${STARTED}`,
    ]);
    expect(readTraceparent(handed.get('settlePayment'))).toMatchObject({ traceId: TRACE });
    for (const run of [firstRun, history]) await replay(BUNDLE_WITHOUT, run, 'continued');
  });

  it('without a sampled trace tells nothing and hands it on as it is', async () => {
    const unsampled = `00-${TRACE}-00000000000000a1-00`;
    const { handed } = await play(scenario('order-finished'), workflowBundle().codePath, 'unsampled', [
      { signalWithStart: (input, next) => next({ ...input, headers: headerOf(unsampled) }) },
    ]);
    expect(told.splice(0)).toEqual([]);
    expect(handed.get('payOrder')).toBe(unsampled);
  });
});
