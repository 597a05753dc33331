import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Attributes,
  type Context,
  type Span,
  type SpanContext,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BasicTracerProvider,
  BatchSpanProcessor,
  ParentBasedSampler,
  RandomIdGenerator,
  TraceIdRatioBasedSampler,
  type IdGenerator,
  type ReadableSpan,
  type Sampler,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-base';
import { readTraceparent, writeTraceparent, type SpanAttributes } from '../contracts/tracing';
import type { Config } from './config';
import { VERSION } from './project';
import type { SpanStart, TraceSpan, Tracing } from './tracing';

/** All that remit knows of OpenTelemetry's SDK. Loaded by `startTracing` alone, when tracing is on. */

/** Longer values are cut: an attribute is no place for a document. */
const ATTRIBUTE_MAX_CHARACTERS = 1_000;
const ERRORS_EVERY_MS = 60_000;
const STOP_MAX_MS = 3_000;

const KINDS = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
} as const;

interface TracingOptions extends Pick<Config, 'OTEL_TRACES_SAMPLER' | 'OTEL_TRACES_SAMPLER_ARG'> {
  /** Base of OTLP/HTTP. */
  endpoint: string;
  service: string;
  onError: (error: unknown) => void;
}

export function createTracing(options: TracingOptions): Tracing {
  const ids = new ChosenIds();
  const resource = defaultResource()
    .merge(resourceFromAttributes({ 'service.name': options.service, 'service.version': VERSION }))
    // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word.
    .merge(detectResources({ detectors: [envDetector] }));
  const provider = new BasicTracerProvider({
    resource,
    sampler: samplerOf(options),
    idGenerator: ids,
    spanLimits: { attributeValueLengthLimit: ATTRIBUTE_MAX_CHARACTERS },
    spanProcessors: [new BatchSpanProcessor(exporterOf(options))],
  });
  const tracer = provider.getTracer('remit', VERSION);
  const storage = new AsyncLocalStorage<TraceSpan | undefined>();

  return {
    start({ name, kind = 'internal', attributes, parent, links = [], startedAtMs, spanId }: SpanStart) {
      const from = parent === undefined ? storage.getStore() : parent;
      ids.next = spanId;
      const span = tracer.startSpan(
        name,
        {
          kind: KINDS[kind],
          ...(attributes && { attributes: known(attributes) }),
          ...(startedAtMs !== undefined && { startTime: startedAtMs }),
          links: links.flatMap((link) => {
            const context = contextOf(link);
            return context ? [{ context }] : [];
          }),
        },
        contextBelow(from),
      );
      ids.next = undefined;
      return new RecordedSpan(span);
    },
    current: () => storage.getStore(),
    within: (span, run) => storage.run(span, run),
    stop: () => withinTime(provider.shutdown()),
  };
}

/** A collector that does not answer costs the last spans, and not the time that a process has for its ordered end. */
async function withinTime(shutdown: Promise<void>): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([shutdown, sleep(STOP_MAX_MS, undefined, { signal: over.signal })]);
  } finally {
    over.abort();
  }
}

/** Span ids are drawn, but for spans whose id was made elsewhere: workflows make the same one whenever they are replayed. */
class ChosenIds implements IdGenerator {
  next: string | undefined;
  private readonly drawn = new RandomIdGenerator();
  generateTraceId = (): string => this.drawn.generateTraceId();
  generateSpanId = (): string => this.next ?? this.drawn.generateSpanId();
}

class RecordedSpan implements TraceSpan {
  readonly traceparent: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly recording: boolean;

  constructor(private readonly span: Span) {
    const { traceId, spanId, traceFlags } = span.spanContext();
    this.traceId = traceId;
    this.spanId = spanId;
    this.recording = span.isRecording();
    this.traceparent = writeTraceparent({
      traceId,
      spanId,
      sampled: (traceFlags & TraceFlags.SAMPLED) !== 0,
    });
  }

  rename(name: string): void {
    this.span.updateName(name);
  }

  set(attributes: SpanAttributes): void {
    this.span.setAttributes(known(attributes));
  }

  fail(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.span.setStatus({ code: SpanStatusCode.ERROR, message: message.slice(0, ATTRIBUTE_MAX_CHARACTERS) });
    if (error instanceof Error) this.span.setAttributes({ 'error.type': error.name });
  }

  end(): void {
    this.span.end();
  }
}

function known(attributes: SpanAttributes): Attributes {
  const result: Attributes = {};
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined && value !== null) result[name] = value;
  return result;
}

function contextOf(span: TraceSpan | string): SpanContext | undefined {
  const text = typeof span === 'string' ? span : span.traceparent;
  const name = readTraceparent(text);
  return (
    name && {
      traceId: name.traceId,
      spanId: name.spanId,
      traceFlags: name.sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
      isRemote: typeof span === 'string',
    }
  );
}

function contextBelow(parent: TraceSpan | string | null | undefined): Context {
  const context = parent ? contextOf(parent) : undefined;
  return context ? trace.setSpanContext(ROOT_CONTEXT, context) : ROOT_CONTEXT;
}

function samplerOf({ OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: share }: TracingOptions): Sampler {
  const [root, parentBased] = /^parentbased_/.test(name)
    ? [name.slice('parentbased_'.length), true]
    : [name, false];
  const sampler =
    root === 'traceidratio'
      ? new TraceIdRatioBasedSampler(share)
      : root === 'always_off'
        ? new AlwaysOffSampler()
        : new AlwaysOnSampler();
  return parentBased ? new ParentBasedSampler({ root: sampler }) : sampler;
}

/** OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT, _COMPRESSION and _CERTIFICATE are read by the exporter itself. */
function exporterOf({ endpoint, onError }: TracingOptions): SpanExporter {
  const exporter = new OTLPTraceExporter({ url: `${endpoint.replace(/\/+$/, '')}/v1/traces` });
  let toldAt = -Infinity;
  return {
    export(spans: ReadableSpan[], done) {
      exporter.export(spans, (result) => {
        if (result.error && performance.now() - toldAt > ERRORS_EVERY_MS) {
          toldAt = performance.now();
          onError(result.error);
        }
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
  };
}
