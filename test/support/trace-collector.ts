import http from 'node:http';
import type { AddressInfo } from 'node:net';
import protobuf from 'protobufjs';

/** An OTLP collector as far as traces need one: takes protobuf over HTTP, and keeps every span. */

export interface CollectedSpan {
  traceId: string;
  spanId: string;
  /** Undefined for the first of a trace. */
  parentSpanId: string | undefined;
  name: string;
  /** As OpenTelemetry numbers them: 1 internal, 2 server, 3 client, 4 producer, 5 consumer. */
  kind: number;
  startNano: bigint;
  endNano: bigint;
  attributes: Record<string, string | number | boolean>;
  links: { traceId: string; spanId: string }[];
  failed: boolean;
  service: string;
}

/** What of opentelemetry/proto/trace/v1 is read here: fields by their published numbers, the others are skipped. */
const PROTO = `
  syntax = "proto3";
  message Request { repeated ResourceSpans resource_spans = 1; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
  message Resource { repeated KeyValue attributes = 1; }
  message ScopeSpans { repeated Span spans = 2; }
  message Span {
    bytes trace_id = 1;
    bytes span_id = 2;
    bytes parent_span_id = 4;
    string name = 5;
    int32 kind = 6;
    fixed64 start_time_unix_nano = 7;
    fixed64 end_time_unix_nano = 8;
    repeated KeyValue attributes = 9;
    repeated Link links = 13;
    Status status = 15;
  }
  message Link { bytes trace_id = 1; bytes span_id = 2; }
  message Status { string message = 2; int32 code = 3; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message AnyValue {
    oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; }
  }
`;
const ERROR = 2;

interface WireValue {
  key: string;
  value?: { stringValue?: string; boolValue?: boolean; intValue?: string; doubleValue?: number };
}
interface WireSpan {
  traceId: Buffer;
  spanId: Buffer;
  parentSpanId?: Buffer;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes?: WireValue[];
  links?: { traceId: Buffer; spanId: Buffer }[];
  status?: { code?: number };
}
interface WireRequest {
  resourceSpans?: { resource?: { attributes?: WireValue[] }; scopeSpans?: { spans?: WireSpan[] }[] }[];
}

export class TraceCollector {
  readonly spans: CollectedSpan[] = [];
  private readonly request = protobuf.parse(PROTO).root.lookupType('Request');
  private server: http.Server | undefined;

  /** @returns what OTEL_EXPORTER_OTLP_ENDPOINT is to be. */
  async listen(): Promise<string> {
    this.server = http.createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const taken = request.method === 'POST' && request.url === '/v1/traces';
        if (taken) this.take(Buffer.concat(chunks));
        response.writeHead(taken ? 200 : 404, { 'content-type': 'application/x-protobuf' }).end();
      });
    });
    await new Promise<void>((resolve) => this.server!.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((resolve) => (this.server ? this.server.close(resolve) : resolve(undefined)));
  }

  of(traceId: string): CollectedSpan[] {
    return this.spans.filter((span) => span.traceId === traceId);
  }

  private take(body: Buffer): void {
    const { resourceSpans = [] } = this.request.toObject(this.request.decode(body), {
      longs: String,
    }) as WireRequest;
    for (const { resource, scopeSpans = [] } of resourceSpans) {
      const service = String(valuesOf(resource?.attributes)['service.name']);
      for (const { spans = [] } of scopeSpans)
        for (const { traceId, spanId, parentSpanId, ...span } of spans)
          this.spans.push({
            traceId: hex(traceId),
            spanId: hex(spanId),
            parentSpanId: parentSpanId && parentSpanId.length > 0 ? hex(parentSpanId) : undefined,
            name: span.name,
            kind: span.kind,
            startNano: BigInt(span.startTimeUnixNano),
            endNano: BigInt(span.endTimeUnixNano),
            attributes: valuesOf(span.attributes),
            links: (span.links ?? []).map((link) => ({
              traceId: hex(link.traceId),
              spanId: hex(link.spanId),
            })),
            failed: span.status?.code === ERROR,
            service,
          });
    }
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function valuesOf(attributes: readonly WireValue[] = []): CollectedSpan['attributes'] {
  return Object.fromEntries(
    attributes.map(({ key, value: { stringValue, boolValue, intValue, doubleValue } = {} }) => [
      key,
      stringValue ?? boolValue ?? doubleValue ?? Number(intValue),
    ]),
  );
}

export interface TraceNode {
  span: CollectedSpan;
  children: TraceNode[];
}

/** The spans of one trace as trees, in the order of their starts: one, when none is missing. */
export function treesOf(spans: readonly CollectedSpan[]): TraceNode[] {
  const nodes = new Map(spans.map((span): [string, TraceNode] => [span.spanId, { span, children: [] }]));
  const roots: TraceNode[] = [];
  const inOrder = [...nodes.values()].sort((a, b) =>
    a.span.startNano < b.span.startNano ? -1 : a.span.startNano > b.span.startNano ? 1 : 0,
  );
  for (const node of inOrder) {
    const parent = node.span.parentSpanId === undefined ? undefined : nodes.get(node.span.parentSpanId);
    (parent?.children ?? roots).push(node);
  }
  return roots;
}

/** Trees as text, one line for each span. */
export function drawTrees(trees: readonly TraceNode[], lineOf: (span: CollectedSpan) => string): string[] {
  const draw = (nodes: readonly TraceNode[], indent: string): string[] =>
    nodes.flatMap(({ span, children }, index) => {
      const last = index === nodes.length - 1;
      return [
        `${indent}${last ? '└─ ' : '├─ '}${lineOf(span)}`,
        ...draw(children, indent + (last ? '   ' : '│  ')),
      ];
    });
  return trees.flatMap(({ span, children }) => [lineOf(span), ...draw(children, '')]);
}
