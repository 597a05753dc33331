import type { SpanAttributes } from '../contracts/tracing';
import { TRACEPARENT } from '../contracts/tracing';
import type { Config } from './config';

/**
 * The seam between remit and OpenTelemetry (docs/tracing.md). Nothing of OpenTelemetry is loaded unless
 * OTEL_EXPORTER_OTLP_ENDPOINT is set, and without it every seam costs the check of one variable.
 */

export type { SpanAttributes };
export type SpanKind = 'internal' | 'server' | 'client' | 'producer' | 'consumer';

export interface TraceSpan {
  /** What names it to others. */
  readonly traceparent: string;
  readonly traceId: string;
  readonly spanId: string;
  /** False when it was not sampled: then it is only handed on. */
  readonly recording: boolean;
  rename(name: string): void;
  set(attributes: SpanAttributes): void;
  /** Marks it as failed. */
  fail(error: unknown): void;
  end(): void;
}

export interface SpanStart {
  name: string;
  /** `internal` when left out. */
  kind?: SpanKind;
  attributes?: SpanAttributes;
  /** A span or a traceparent. Left out: the span in which this runs. Null, or no traceparent at all: it begins a trace. */
  parent?: TraceSpan | string | null | undefined;
  /** Other spans that caused it too. */
  links?: readonly (TraceSpan | string)[];
  /** Milliseconds since 1970; now when left out. */
  startedAtMs?: number;
  /** 16 hex digits; drawn when left out. */
  spanId?: string;
}

export interface Tracing {
  start(span: SpanStart): TraceSpan;
  /** The span in which this runs. */
  current(): TraceSpan | undefined;
  /** Runs something in a span, or outside any. */
  within<T>(span: TraceSpan | undefined, run: () => T): T;
  /** Sends what has ended. */
  stop(): Promise<void>;
}

/** What the log says then. */
export const NO_TRACES = 'traces can’t be sent; those of now are lost';

let active: Tracing | undefined;

/** Undefined while tracing is off. */
export const tracing = (): Tracing | undefined => active;

type TracingConfig = Pick<
  Config,
  'OTEL_EXPORTER_OTLP_ENDPOINT' | 'OTEL_TRACES_SAMPLER' | 'OTEL_TRACES_SAMPLER_ARG'
>;

/**
 * Turns tracing on when it is configured: before the logger, the pools and the clients are made. Once a process.
 * @param service name of the process in traces, unless OTEL_SERVICE_NAME gives another.
 * @param onError is told when traces can't be sent, once a minute at most.
 */
export async function startTracing(
  config: TracingConfig,
  service: string,
  onError: (error: unknown) => void,
): Promise<void> {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint } = config;
  if (active !== undefined || endpoint === undefined) return;
  const { createTracing } = await import('./tracing-sdk.js');
  active = createTracing({ ...config, endpoint, service, onError });
}

/** Sends what has ended and turns tracing off. Idempotent. */
export async function stopTracing(): Promise<void> {
  const stopping = active;
  active = undefined;
  await stopping?.stop();
}

/** Fields that join a line of the log with its trace: what pino calls a mixin. */
export function traceFields(): { trace_id?: string; span_id?: string } {
  const span = active?.current();
  return span ? { trace_id: span.traceId, span_id: span.spanId } : {};
}

/** The traceparent of the span in which this runs, for what carries on later; undefined while there is none. */
export const traceparentHere = (): string | undefined => active?.current()?.traceparent;

/** The same as a header, for spreading; nothing while there is none. */
export function traceHeaderHere(): Record<string, string> {
  const traceparent = traceparentHere();
  return traceparent === undefined ? {} : { [TRACEPARENT]: traceparent };
}

/** Adds to the span in which this runs. */
export function annotate(attributes: () => SpanAttributes): void {
  const span = active?.current();
  if (span?.recording) span.set(attributes());
}

/**
 * Runs something in a span of its own below the one in which this runs. Without one, or when that was not sampled, it just
 * runs: what nobody asked for (a poll, a gauge) begins no trace.
 */
export function inSpan<T>(start: () => SpanStart, run: (span?: TraceSpan) => Promise<T>): Promise<T> {
  if (!active?.current()?.recording) return run();
  return inEntrySpan(start, run);
}

/** The same where a trace may begin: a request, a message, an activity. */
export async function inEntrySpan<T>(
  start: () => SpanStart,
  run: (span?: TraceSpan) => Promise<T>,
): Promise<T> {
  if (!active) return run();
  const span = active.start(start());
  try {
    return await active.within(span, () => run(span));
  } catch (error) {
    span.fail(error);
    throw error;
  } finally {
    span.end();
  }
}

/**
 * Runs what several callers share, such as one statement for all of them. A single caller's is done in its own span. What
 * is shared is a span of the first caller's trace that links to the others: a span has one parent.
 * @param callers the span of each, as far as it has one.
 */
export function inSharedSpan<T>(
  name: string,
  callers: readonly (TraceSpan | undefined)[],
  run: () => Promise<T>,
): Promise<T> {
  if (!active) return run();
  const spans = new Set(callers.filter((span) => span !== undefined));
  const [first, ...others] = [...spans].filter((span) => span.recording);
  const [any] = spans;
  if (first === undefined || (others.length === 0 && callers.length === 1))
    return active.within(first ?? any, run);
  return inEntrySpan(
    () => ({
      name,
      parent: first,
      links: others,
      attributes: { 'remit.batch_size': callers.length },
    }),
    run,
  );
}
