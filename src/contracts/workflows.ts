/**
 * What bridges, API, workflows and operators agree on about Temporal: workflow names, ids, task queues, signals,
 * queries, search attributes and inputs. Plain types only (no zod): workflow code bundles this file.
 */
import type { PaymentType, ProviderStatus } from './messages';
import type { DeadLetterCode } from './errors';

export const WORKFLOWS = {
  payment: 'paymentWorkflow',
  order: 'orderWorkflow',
  delivery: 'deliveryWorkflow',
} as const;

export const TASK_QUEUES = { payments: 'payments', orders: 'orders', deliveries: 'deliveries' } as const;
export type TaskQueue = keyof typeof TASK_QUEUES;

/** Workflow ids are the business ids, so that an operator can type them. */
export const workflowId = {
  payment: (provider: string, transactionId: string) => `payment/${provider}/${transactionId}`,
  order: (orderId: string) => `order/${orderId}`,
  delivery: (eventId: string, subscriptionId: string) => `delivery/${eventId}/${subscriptionId}`,
} as const;

export const SIGNALS = { providerEvent: 'providerEvent', tryNow: 'tryNow', cancel: 'cancel' } as const;
export const QUERIES = { state: 'state' } as const;

/** Keyword search attributes; plain text in Temporal, so nothing secret goes in. */
export const SEARCH_ATTRIBUTES = {
  RemitProvider: 'Keyword',
  RemitStatus: 'Keyword',
  RemitUserId: 'Keyword',
  RemitOrderId: 'Keyword',
  RemitEventType: 'Keyword',
  RemitSubscriptionId: 'Keyword',
} as const;

/** A Kafka message as it came, kept so that a dead letter carries the original key, value and headers. */
export interface SourceMessage {
  topic: string;
  partition: number;
  offset: string;
  key: string | null;
  /** The value's bytes in base64: a dead letter must be byte-identical. */
  valueBase64: string;
  headers: Record<string, string>;
}

/** A provider's event after parsing at the bridge. */
export interface ProviderEvent {
  provider: string;
  /** The provider's own event id, or `<transactionId>:<type>:<status>` when it sends none. */
  providerEventId: string;
  transactionId: string;
  type: PaymentType;
  status: ProviderStatus;
  /** Minor units as a decimal string (bigint does not survive JSON). */
  amountMinor: string;
  currency: string;
  /** SHA-256 of the canonical body, hex: same event id with another hash is a conflict, not a duplicate. */
  payloadHash: string;
  receivedAt: string;
  correlationId: string;
  source: SourceMessage;
}

export interface PaymentWorkflowInput {
  provider: string;
  transactionId: string;
}

export interface ExpirePaymentInput {
  provider: string;
  transactionId: string;
  type: PaymentType;
  amountMinor: string;
  currency: string;
  correlationId: string;
}

export interface PaymentWorkflowResult {
  status: PaymentStatus | null;
  /** What became of each event, in order. */
  outcomes: SettleOutcome[];
}

export interface OrderWorkflowInput {
  orderId: string;
  userId: string;
  amountMinor: string;
  currency: string;
  correlationId: string;
  source: SourceMessage;
}

/** A delivery row that a state change wrote in its own transaction, to be carried out by a delivery workflow. */
export interface DeliveryRef {
  deliveryId: string;
  eventId: string;
  subscriptionId: string;
  eventType: string;
  /** Delay before each attempt, in milliseconds, without jitter; its length is the number of attempts. */
  scheduleMs: number[];
  /** Longest attempt, in milliseconds. */
  timeoutMs: number;
  correlationId: string;
}

export type PaymentStatus = 'pending' | 'succeeded' | 'failed' | 'expired';
export type OrderStatus = 'NEW' | 'FINISHED' | 'CANCELLED' | 'CHARGED_BACK';

/**
 * What became of one provider event.
 * - `applied`: it changed the payment. - `noted`: valid, nothing to change (a pending event).
 * - `duplicate`: this event, or one that says the same, was applied before.
 * - `contradiction`: the payment is terminal and says otherwise; recorded and flagged, nothing changed.
 * - `unknown_transaction`: no such payment (yet). - the others: refused, to be dead-lettered, no money moved.
 */
export type SettleOutcome =
  | 'applied'
  | 'noted'
  | 'duplicate'
  | 'contradiction'
  | 'unknown_transaction'
  | Extract<DeadLetterCode, 'amount_mismatch' | 'type_mismatch' | 'event_conflict'>;

export interface SettleResult {
  outcome: SettleOutcome;
  /** The payment's status afterwards; null when it is unknown. */
  status: PaymentStatus | null;
  failureCode: string | null;
  userId: string | null;
  /** When a still pending payment expires (ISO 8601). */
  expiresAt: string | null;
  /** Until when an event of an unknown transaction waits for it (ISO 8601). */
  waitUntil: string | null;
  deliveries: DeliveryRef[];
}

export interface PayOrderResult {
  outcome: 'applied' | 'duplicate' | 'unknown_order' | 'event_conflict';
  status: OrderStatus | null;
  failureCode: string | null;
  deliveries: DeliveryRef[];
}

export interface DeliveryState {
  status: 'waiting' | 'attempting' | 'delivered' | 'exhausted' | 'cancelled';
  attempts: number;
  maxAttempts: number;
  nextAttemptAt: string | null;
  lastResult: string | null;
}
