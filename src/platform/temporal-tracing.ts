import type { ActivityInboundCallsInterceptor, InjectedSinks, WorkerOptions } from '@temporalio/worker';
import type { WorkflowClientInterceptor } from '@temporalio/client';
import { defaultPayloadConverter, type Headers } from '@temporalio/common';
import type { Context as ActivityContext } from '@temporalio/activity';
import { WORKFLOWS } from '../contracts/workflows/names';
import { idsOf, TEMPORAL_TRACE_HEADER, TRACEPARENT, type WorkflowSpan } from '../contracts/tracing';
import { inEntrySpan, inSpan, traceparentHere, tracing, type SpanAttributes } from './tracing';

/**
 * How traces pass through Temporal: in the header that its own SDKs use. What goes on inside a workflow is in
 * workflows/tracing.ts. Spans and their attributes are named as Temporal's SDKs name them.
 */

/** A lane sends what comes for its subscription, for as long as something comes: its steps belong to nobody's trace. */
const ON_THEIR_OWN: readonly string[] = [WORKFLOWS.lane];

function withTrace(headers: Headers, workflowType = ''): Headers {
  const traceparent = traceparentHere();
  if (traceparent === undefined || ON_THEIR_OWN.includes(workflowType)) return headers;
  return {
    ...headers,
    [TEMPORAL_TRACE_HEADER]: defaultPayloadConverter.toPayload({ [TRACEPARENT]: traceparent }),
  };
}

/** The traceparent in a header of Temporal, unchecked; undefined when there is none. */
function traceparentOf(headers: Headers): unknown {
  const payload = headers[TEMPORAL_TRACE_HEADER];
  if (!payload) return undefined;
  try {
    const carrier: unknown = defaultPayloadConverter.fromPayload(payload);
    return (carrier as Record<string, unknown> | null)?.[TRACEPARENT];
  } catch {
    // In an encoding of somebody else's.
    return undefined;
  }
}

/** What clients are made with; nothing while tracing is off. */
export function clientTracing(): { interceptors?: { workflow: WorkflowClientInterceptor[] } } {
  if (!tracing()) return {};
  const call = <T>(
    name: string,
    workflowId: string,
    args: readonly unknown[],
    run: () => Promise<T>,
  ): Promise<T> =>
    inSpan(
      () => ({
        name,
        kind: 'client',
        attributes: { ...idsOf(args[0]), temporalWorkflowID: workflowId },
      }),
      run,
    );
  const interceptor: WorkflowClientInterceptor = {
    startWithDetails: (input, next) =>
      call(`StartWorkflow:${input.workflowType}`, input.options.workflowId, input.options.args, () =>
        next({ ...input, headers: withTrace(input.headers, input.workflowType) }),
      ),
    signal: (input, next) =>
      call(`SignalWorkflow:${input.signalName}`, input.workflowExecution.workflowId ?? '', input.args, () =>
        next({ ...input, headers: withTrace(input.headers) }),
      ),
    signalWithStart: (input, next) =>
      call(`SignalWithStartWorkflow:${input.workflowType}`, input.options.workflowId, input.signalArgs, () =>
        next({ ...input, headers: withTrace(input.headers, input.workflowType) }),
      ),
    startUpdate: (input, next) =>
      call(`UpdateWorkflow:${input.updateName}`, input.workflowExecution.workflowId ?? '', input.args, () =>
        next({ ...input, headers: withTrace(input.headers) }),
      ),
    startUpdateWithStart: (input, next) =>
      call(
        `UpdateWithStartWorkflow:${input.workflowType}`,
        input.workflowStartOptions.workflowId,
        input.updateArgs,
        () =>
          next({
            ...input,
            workflowStartHeaders: withTrace(input.workflowStartHeaders),
            updateHeaders: withTrace(input.updateHeaders),
          }),
      ),
  };
  return { interceptors: { workflow: [interceptor] } };
}

/** Spans that workflows tell of. Always there, as workflows tell of them when whoever started them was traced. */
const SINKS: InjectedSinks<{ tracing: { span(span: WorkflowSpan): void } }> = {
  tracing: {
    span: {
      fn: ({ workflowId, runId }, { attributes, error, ...span }) => {
        const started = tracing()?.start({
          ...span,
          attributes: { ...attributes, ...workflowAttributes({ workflowId, runId }) },
        });
        if (error !== undefined) started?.fail(error);
        started?.end();
      },
      callDuringReplay: false,
    },
  },
};

/** What workers are made with. */
export function workerTracing(): Pick<WorkerOptions, 'sinks' | 'interceptors'> {
  if (!tracing()) return { sinks: SINKS };
  return {
    sinks: SINKS,
    interceptors: { activity: [(context) => ({ inbound: activityInterceptor(context) })] },
  };
}

function activityInterceptor({ info }: ActivityContext): ActivityInboundCallsInterceptor {
  return {
    execute(input, next) {
      const parent = traceparentOf(input.headers);
      return inEntrySpan(
        () => ({
          name: `RunActivity:${info.activityType}`,
          parent: typeof parent === 'string' ? parent : null,
          attributes: {
            ...idsOf(input.args[0]),
            ...workflowAttributes(info.workflowExecution),
            temporalActivityID: info.activityId,
            'remit.attempt': info.attempt,
          },
        }),
        () => next(input),
      );
    },
  };
}

function workflowAttributes(execution: { workflowId: string; runId: string } | undefined): SpanAttributes {
  return { temporalWorkflowID: execution?.workflowId, temporalRunID: execution?.runId };
}
