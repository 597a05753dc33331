/**
 * What everything agrees on about traces (docs/tracing.md). Pure: workflows need it too.
 */

/** The W3C header that names a span: of HTTP requests, of Kafka messages, and of rows that wait to become one. */
export const TRACEPARENT = 'traceparent';

/** The Temporal header in which the SDKs of Temporal hand on a span; its payload is `{traceparent}` in JSON. */
export const TEMPORAL_TRACE_HEADER = '_tracer-data';
/** The Temporal header of a run that continues another: the spans of the messages that it was given. */
export const CARRIED_TRACES_HEADER = 'remit-carried-traces';

export interface SpanName {
  traceId: string;
  spanId: string;
  sampled: boolean;
}

// Version 00 has exactly this length; a later one may have more, of which nothing is read.
const FORM =
  /^(?!ff)(?!00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

/** Reads a traceparent; undefined when it is none, as anybody may have written it. */
export function readTraceparent(text: unknown): SpanName | undefined {
  const found = typeof text === 'string' && text.length <= 128 ? FORM.exec(text) : null;
  if (!found) return undefined;
  const [, traceId, spanId, flags] = found as unknown as [string, string, string, string];
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

export function writeTraceparent({ traceId, spanId, sampled }: SpanName): string {
  return `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;
}

export type SpanAttributes = Record<string, string | number | boolean | null | undefined>;

/** The ids that an operator types, by what our messages and inputs call them, and as attributes of spans. */
const IDS: Readonly<Record<string, string>> = {
  correlationId: 'remit.correlation_id',
  tenantId: 'remit.tenant_id',
  provider: 'remit.provider',
  providerEventId: 'remit.provider_event_id',
  transactionId: 'remit.payment_id',
  orderId: 'remit.order_id',
  refundId: 'remit.refund_id',
  disputeId: 'remit.dispute_id',
  eventId: 'remit.event_id',
  eventType: 'remit.event_type',
  deliveryId: 'remit.delivery_id',
  subscriptionId: 'remit.subscription_id',
  replayId: 'remit.replay_id',
};

/** The ids in a message or input, as attributes; nothing of a person, and nothing that somebody wrote freely. */
export function idsOf(input: unknown): SpanAttributes {
  const found: SpanAttributes = {};
  if (typeof input !== 'object' || input === null) return found;
  for (const [name, attribute] of Object.entries(IDS)) {
    const value = (input as Record<string, unknown>)[name];
    if (typeof value === 'string' && value !== '') found[attribute] = value;
  }
  return found;
}

/** A span of a workflow, which it tells when it ends. */
export interface WorkflowSpan {
  name: string;
  /** Made from the run's id, so that a replay would make the same. */
  spanId: string;
  /** Traceparent of its parent. */
  parent: string;
  /** By the workflow's clock, milliseconds since 1970. */
  startedAtMs: number;
  attributes: SpanAttributes;
  /** Why it failed. */
  error?: string;
}
