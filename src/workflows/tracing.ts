import { defaultPayloadConverter, type Headers, type Payload } from '@temporalio/common';
import {
  AsyncLocalStorage,
  ContinueAsNew,
  proxySinks,
  workflowInfo,
  type Sinks,
  type WorkflowInterceptors,
} from '@temporalio/workflow';
import {
  CARRIED_TRACES_HEADER,
  idsOf,
  readTraceparent,
  TEMPORAL_TRACE_HEADER,
  TRACEPARENT,
  writeTraceparent,
  type SpanAttributes,
  type WorkflowSpan,
} from '../contracts/tracing';

/**
 * How a trace passes through a workflow: from the header of what it was started or told with to the headers of the steps
 * and workflows that follow. Headers alone decide, and they are in the history; nothing here issues a command, draws a
 * random number or puts anything between a promise and who waits for it. So a history that was recorded with this
 * replays without it, and the other way round (test/workflows/tracing.test.ts).
 *
 * A span is told when it ends, and a workflow may live for days: so nothing hangs below the span of a run. What a message
 * causes hangs below the span of the message; everything else below whatever started the workflow.
 */

interface TracingSinks extends Sinks {
  tracing: { span(span: WorkflowSpan): void };
}

const { tracing } = proxySinks<TracingSinks>();

/** Traceparent of what runs. */
const here = new AsyncLocalStorage<string>();

/** What is known of a message: the span that its steps hang below. */
interface MessageTrace {
  name: string;
  parent: string;
  traceparent: string;
  /** Tells the span; once. */
  end(error?: string): void;
}

const traces = new WeakMap<object, MessageTrace>();

/** A mailbox may wrap what a signal brought: `{ request }`, `{ event }`. */
function traceOf(message: object): MessageTrace | undefined {
  const direct = traces.get(message);
  if (direct) return direct;
  for (const inner of Object.values(message) as unknown[]) {
    const found = typeof inner === 'object' && inner !== null ? traces.get(inner) : undefined;
    if (found) return found;
  }
  return undefined;
}

/** Runs the steps of a message in its trace. */
export function withinTrace<T>(message: object, run: () => T): T {
  const trace = traceOf(message);
  return trace ? here.run(trace.traceparent, run) : run();
}

/** A message is done with. @param error why it was not applied. */
export function endTrace(message: object, error?: string): void {
  traceOf(message)?.end(error);
}

export function interceptors(): WorkflowInterceptors {
  let started: string | undefined;
  let spans = 0;
  const open = new Set<MessageTrace>();

  function begin(name: string, parent: string, message: unknown): MessageTrace {
    const of = readTraceparent(parent);
    // What was not sampled is only handed on.
    if (!of?.sampled) return { name, parent, traceparent: parent, end: () => undefined };
    const spanId = spanIdOf(`${workflowInfo().runId} ${(spans += 1)}`);
    const span = { name, spanId, parent, startedAtMs: Date.now(), attributes: idsOf(message) };
    const trace: MessageTrace = {
      name,
      parent,
      traceparent: writeTraceparent({ ...of, spanId }),
      end(error) {
        if (open.delete(trace)) tracing.span({ ...span, ...(error !== undefined && { error }) });
      },
    };
    open.add(trace);
    return trace;
  }

  /** Tells the span of this run, and those of messages that it ends with. */
  function endRun(attributes: SpanAttributes, startedAtMs: number, error?: unknown): void {
    const continues = error instanceof ContinueAsNew;
    const failure = error === undefined || continues ? undefined : messageOf(error);
    // The next run tells of what it was given.
    if (!continues) for (const trace of open) trace.end(failure);
    if (!started || !readTraceparent(started)?.sampled) return;
    const { workflowType, runId } = workflowInfo();
    tracing.span({
      name: `RunWorkflow:${workflowType}`,
      spanId: spanIdOf(`${runId} run`),
      parent: started,
      startedAtMs,
      attributes,
      ...(failure !== undefined && { error: failure }),
    });
  }

  const handOn = <I extends { headers: Headers }>(input: I): I => {
    const traceparent = here.getStore() ?? started;
    return traceparent === undefined
      ? input
      : { ...input, headers: { ...input.headers, [TEMPORAL_TRACE_HEADER]: payloadOf(traceparent) } };
  };

  return {
    inbound: [
      {
        execute(input, next) {
          started = traceparentOf(input.headers);
          const carried = carriedOf(input.headers);
          carriedMessages(input.args).forEach((message, index) => {
            const from = carried[index];
            if (from) traces.set(message, begin(from.name, from.parent, message));
          });
          if (started === undefined && carried.length === 0) return next(input);
          const startedAtMs = Date.now();
          const attributes = idsOf(input.args[0]);
          const result = started === undefined ? next(input) : here.run(started, () => next(input));
          // Beside what waits for the result, not between them.
          result.then(
            () => endRun(attributes, startedAtMs),
            (error: unknown) => endRun(attributes, startedAtMs, error),
          );
          return result;
        },
        handleSignal(input, next) {
          const parent = traceparentOf(input.headers);
          if (parent === undefined) return next(input);
          const [message] = input.args;
          if (typeof message === 'object' && message !== null)
            traces.set(message, begin(`HandleSignal:${input.signalName}`, parent, message));
          return here.run(parent, () => next(input));
        },
        handleUpdate(input, next) {
          const parent = traceparentOf(input.headers);
          if (parent === undefined) return next(input);
          const trace = begin(`HandleUpdate:${input.name}`, parent, input.args[0]);
          const result = here.run(trace.traceparent, () => next(input));
          result.then(
            () => trace.end(),
            (error: unknown) => trace.end(messageOf(error)),
          );
          return result;
        },
      },
    ],
    outbound: [
      {
        scheduleActivity: (input, next) => next(handOn(input)),
        scheduleLocalActivity: (input, next) => next(handOn(input)),
        startChildWorkflowExecution: (input, next) => next(handOn(input)),
        signalWorkflow: (input, next) => next(handOn(input)),
        continueAsNew(input, next) {
          const carried = carriedMessages(input.args).map((message) => {
            const trace = traceOf(message);
            return trace ? { name: trace.name, parent: trace.parent } : null;
          });
          return next({
            ...input,
            headers: {
              ...input.headers,
              ...(started !== undefined && { [TEMPORAL_TRACE_HEADER]: payloadOf(started) }),
              ...(carried.some((each) => each !== null) && {
                [CARRIED_TRACES_HEADER]: defaultPayloadConverter.toPayload(carried),
              }),
            },
          });
        },
      },
    ],
    internals: [
      {
        dispose(input, next) {
          // Its hooks would keep the workflow in memory.
          here.disable();
          next(input);
        },
      },
    ],
  };
}

function payloadOf(traceparent: string): Payload {
  return defaultPayloadConverter.toPayload({ [TRACEPARENT]: traceparent });
}

function valueOf(headers: Headers, name: string): unknown {
  const payload = headers[name];
  try {
    return payload ? defaultPayloadConverter.fromPayload(payload) : undefined;
  } catch {
    // In an encoding of somebody else's.
    return undefined;
  }
}

/** Undefined when there is none that can be read: anybody may start workflows. */
function traceparentOf(headers: Headers): string | undefined {
  const carrier = valueOf(headers, TEMPORAL_TRACE_HEADER);
  const text = (carrier as Record<string, unknown> | null | undefined)?.[TRACEPARENT];
  return typeof text === 'string' && readTraceparent(text) ? text : undefined;
}

function carriedOf(headers: Headers): (Pick<MessageTrace, 'name' | 'parent'> | null)[] {
  const carried = valueOf(headers, CARRIED_TRACES_HEADER);
  return Array.isArray(carried) ? (carried as Pick<MessageTrace, 'name' | 'parent'>[]) : [];
}

/** The messages that a run which continues another is given, of whatever workflow (CarriedMessages). */
function carriedMessages([input]: readonly unknown[]): object[] {
  const { resume } = (input ?? {}) as { resume?: { carried?: { messages?: object[] } } };
  return resume?.carried?.messages ?? [];
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** 16 hex digits from a text, spread evenly: two rounds of cyrb53, a hash that needs no BigInt and no crypto. */
function spanIdOf(text: string): string {
  return half(text, 0x9e3779b9) + half(text, 0x85ebca6b);
}

function half(text: string, seed: number): string {
  let high = 0xdeadbeef ^ seed;
  let low = 0x41c6ce57 ^ seed;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    high = Math.imul(high ^ code, 2_654_435_761);
    low = Math.imul(low ^ code, 1_597_334_677);
  }
  high = Math.imul(high ^ (high >>> 16), 2_246_822_507) ^ Math.imul(low ^ (low >>> 13), 3_266_489_909);
  return (high >>> 0).toString(16).padStart(8, '0');
}
