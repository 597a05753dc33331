import type { DeadLetterCode } from '../errors';

/** What workflows carry of a message of Kafka, and what they pass on. */

/**
 * Where a Kafka message lies, and what it is. Workflows carry this instead of the message: what providers send, however
 * large, stays out of Temporal, and a dead letter takes its bytes from where they lie (docs/adr/0012).
 */
export interface MessageRef {
  topic: string;
  partition: number;
  offset: string;
  /** Of the message, milliseconds since 1970. */
  timestampMs: number;
  /** Of key, value and headers, hex: a topic that was created again has other messages at the same places. */
  sha256: string;
}

/** A message that a workflow can't apply, for its topic's DLQ. */
export interface RefusedMessage {
  source: MessageRef;
  code: DeadLetterCode;
  reason: string;
  /** The business id, and what was read of the message: all that is left should the message itself be lost. */
  key: string;
  decided: Record<string, unknown>;
}

/** What a run passes on to the one that continues it. */
export interface CarriedMessages<M> {
  /** In the order in which they came, none of them applied. */
  messages: M[];
  /** Since when the first of them waits for what it is about (ISO 8601); null when it does not. */
  earlySince: string | null;
}

/** What of every event that a provider reports on an order is the same. */
export interface WebhookEvent {
  /** Whose clearing account the money is in. */
  provider: string;
  providerEventId: string;
  orderId: string;
  payloadHash: string;
  receivedAt: string;
  correlationId: string;
  source: MessageRef;
}
