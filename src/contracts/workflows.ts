/**
 * What bridges, API, workflows and operators agree on about Temporal: workflow names, ids, task queues, signals,
 * queries, search attributes and inputs. Plain types only (no zod): workflow code bundles this file.
 */
import type { DisputeStatus, PaymentType, ProviderStatus } from './messages';
import type { DeadLetterCode } from './errors';

export const WORKFLOWS = {
  payment: 'paymentWorkflow',
  order: 'orderWorkflow',
  delivery: 'deliveryWorkflow',
  lane: 'laneWorkflow',
  replay: 'replayWorkflow',
  dispute: 'disputeWorkflow',
  reconciliation: 'reconciliationWorkflow',
  housekeeping: 'housekeepingWorkflow',
  retention: 'retentionWorkflow',
  replaySweep: 'replaySweepWorkflow',
} as const;

/** Those without which unfinished work stands still until somebody starts them again: no message is on its way to them. */
export const CARRYING_WORKFLOWS: readonly string[] = [
  WORKFLOWS.dispute,
  WORKFLOWS.replay,
  WORKFLOWS.delivery,
  WORKFLOWS.lane,
];

/** Ids of the Temporal schedules, and of the workflows that they start. */
export const SCHEDULES = {
  reconciliation: 'reconciliation',
  housekeeping: 'housekeeping',
  retention: 'event-retention',
  replaySweep: 'replay-sweep',
} as const;

/** Disputes run on the queue of the orders: they are rare, and change the same rows. */
export const TASK_QUEUES = {
  payments: 'payments',
  orders: 'orders',
  deliveries: 'deliveries',
  events: 'events',
} as const;
export type TaskQueue = keyof typeof TASK_QUEUES;

/** Workflow ids are the business ids, so that an operator can type them. */
export const workflowId = {
  payment: (provider: string, transactionId: string) => `payment/${provider}/${transactionId}`,
  order: (orderId: string) => `order/${orderId}`,
  dispute: (disputeId: string) => `dispute/${disputeId}`,
  /** `generation`: how often it was sent again; each time is a workflow of its own. */
  delivery: (eventId: string, subscriptionId: string, generation = 0) =>
    `delivery/${eventId}/${subscriptionId}${generation > 0 ? `/${generation}` : ''}`,
  lane: (subscriptionId: string) => `lane/${subscriptionId}`,
  replay: (replayId: string) => `replay/${replayId}`,
} as const;

export const SIGNALS = {
  providerEvent: 'providerEvent',
  paymentRequest: 'paymentRequest',
  orderEvent: 'orderEvent',
  disputeEvent: 'disputeEvent',
  tryNow: 'tryNow',
  cancel: 'cancel',
  wake: 'wake',
  pause: 'pause',
  resume: 'resume',
} as const;
/** Types of failures of steps that workflows tell apart. */
export const FAILURES = {
  /** The database refuses what the step would write, and always will. */
  dataRefused: 'DataRefusedError',
  /** The run takes no further update: it is about to continue in a new one, which will. Nothing was done. */
  runIsFull: 'RunIsFull',
} as const;
export const UPDATES = { refund: 'refund', submitEvidence: 'submitEvidence' } as const;
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
  /** Of key, value and headers, hex: a topic that was made anew has other messages at the same places. */
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

/** What a run hands on to the one that continues it. */
export interface CarriedMessages<M> {
  /** In the order in which they came, none of them applied. */
  messages: M[];
  /** Since when the first of them waits for what it is about (ISO 8601); null when it does not. */
  earlySince: string | null;
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
  source: MessageRef;
}

export interface PaymentWorkflowInput {
  provider: string;
  transactionId: string;
  /** Where a run goes on that was continued as new because its history grew long. */
  resume?: {
    carried: CarriedMessages<ProviderEvent>;
    status: PaymentStatus | null;
    expiresAt: string | null;
    /** What an expiry needs of the last event that belonged to the transaction. */
    known: ExpirePaymentInput | null;
  };
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
  /** What became of each event of the last run, in order. */
  outcomes: SettleOutcome[];
}

/** A payment request after parsing at the bridge. */
export interface PaymentRequest {
  orderId: string;
  userId: string;
  amountMinor: string;
  currency: string;
  correlationId: string;
  source: MessageRef;
}

/** Starts an order's workflow for what reaches it by signals and updates. */
export interface OrderWorkflowInput {
  orderId: string;
  /** Where a run goes on that was continued as new because its history grew long. */
  resume?: { carried: CarriedMessages<OrderMessage>; result: OrderWorkflowResult };
}

/** What of every event that a provider reports on an order is the same. */
interface WebhookEvent {
  /** Whose clearing account the money is in. */
  provider: string;
  providerEventId: string;
  orderId: string;
  payloadHash: string;
  receivedAt: string;
  correlationId: string;
  source: MessageRef;
}

/** An order webhook after parsing at the bridge. */
export interface OrderEvent extends WebhookEvent {
  /** Null when the provider does not say: the order's own user is meant. */
  userId: string | null;
  status: ProviderStatus;
  /** Minor units as a decimal string. */
  amountMinor: string;
  currency: string;
}

export type OrderMessage = { request: PaymentRequest } | { event: OrderEvent };

/**
 * What became of an order webhook.
 * - `applied`: it decided the order. - `noted`, `duplicate`, `contradiction`: as for payments; nothing changed.
 * - `credited`: the balance pays the order, or it was cancelled; the money went to the user's account.
 * - the others: refused, to be dead-lettered, no money moved.
 */
export type OrderEventOutcome =
  | 'applied'
  | 'credited'
  | 'noted'
  | 'duplicate'
  | 'contradiction'
  | Extract<DeadLetterCode, 'unknown_order' | 'user_mismatch' | 'amount_mismatch' | 'event_conflict'>;

export interface OrderEventResult {
  outcome: OrderEventOutcome;
  status: OrderStatus | null;
  failureCode: string | null;
  /** Until when an event of an unknown order waits for it (ISO 8601). */
  waitUntil: string | null;
  deliveries: DeliveryRef[];
}

/** What an order's workflow came to: its last decision, when there was one. */
export interface OrderWorkflowResult {
  outcome: OrderEventOutcome | PayOrderResult['outcome'] | null;
  status: OrderStatus | null;
  failureCode: string | null;
}

export interface RefundInput {
  /** Makes a repeated refund one refund. */
  refundId: string;
  tenantId: string;
  orderId: string;
  /** Minor units as a decimal string; all that is left when null. */
  amountMinor: string | null;
  reason: string | null;
  actor: string;
  correlationId: string;
}

export interface RefundResult {
  outcome: 'ok' | 'duplicate' | 'unknown_order' | 'not_paid' | 'exceeds';
  refundId: string | null;
  /** What can still be refunded, in minor units as a decimal string; null when the order is unknown. */
  refundableMinor: string | null;
}

export interface DisputeWorkflowInput {
  disputeId: string;
  /** Where a run goes on that was continued as new because its history grew long. */
  resume?: { carried: CarriedMessages<DisputeEvent> };
}

/** A chargeback webhook after parsing at the bridge. */
export interface DisputeEvent extends WebhookEvent {
  disputeId: string;
  status: DisputeStatus;
  /** Minor units as a decimal string; the whole order when null. */
  amountMinor: string | null;
  currency: string | null;
  reason: string | null;
  evidenceDueBy: string | null;
}

export type DisputeEventOutcome =
  | 'applied'
  | 'noted'
  | 'duplicate'
  | 'contradiction'
  | 'unknown_dispute'
  | Extract<
      DeadLetterCode,
      'unknown_order' | 'order_not_paid' | 'amount_mismatch' | 'dispute_mismatch' | 'event_conflict'
    >;

export interface DisputeResult {
  outcome: DisputeEventOutcome;
  /** The dispute's status afterwards; null when there is none. */
  status: DisputeStatus | null;
  userId: string | null;
  /** While it waits for evidence: until when (ISO 8601). */
  evidenceDueAt: string | null;
  /** Until when an event of an order that is unknown or not paid waits (ISO 8601). */
  waitUntil: string | null;
  deliveries: DeliveryRef[];
}

export interface DisputeWorkflowResult {
  status: DisputeStatus | null;
  outcomes: DisputeEventOutcome[];
}

export interface EvidenceInput {
  disputeId: string;
  /** SHA-256, hex, of the evidence in canonical JSON: the same evidence again is no second submission. */
  hash: string;
  evidence: Record<string, unknown>;
  actor: string;
  correlationId: string;
}

export interface EvidenceResult {
  outcome: 'ok' | 'duplicate' | 'already_submitted' | 'too_late' | 'unknown_dispute';
  status: DisputeStatus | null;
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
  /** Deliver in the order of the events: the subscription or the event type asks for it. Left out when it does not. */
  ordered?: boolean;
  /** How often it was sent again after it had ended; none when left out. */
  generation?: number;
  /** Attempts of former generations: attempts count on, the schedule begins anew. */
  attemptsBefore?: number;
  /** Attempts of this generation that were made before the workflow was there; none when left out. */
  attemptsMade?: number;
  /** Until the next attempt, in milliseconds: the rest of a pause that has begun. The schedule's when left out. */
  waitMs?: number;
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
  outcome:
    | 'applied'
    | 'duplicate'
    | Extract<DeadLetterCode, 'unknown_order' | 'payment_method_mismatch' | 'event_conflict'>;
  status: OrderStatus | null;
  failureCode: string | null;
  deliveries: DeliveryRef[];
}

export interface DeliveryState {
  /** `in_lane`: it waits for its subscription, whose lane attempts it. */
  status: 'waiting' | 'attempting' | 'delivered' | 'exhausted' | 'cancelled' | 'held' | 'in_lane';
  /** Of all generations. */
  attempts: number;
  maxAttempts: number;
  nextAttemptAt: string | null;
  lastResult: string | null;
}

export interface LaneInput {
  subscriptionId: string;
}

/** What became of one time of sending what was due in a lane. */
export interface LaneStep {
  /** When to look again, in milliseconds; null when nothing waits. */
  waitMs: number | null;
  /** `work`: something is due. `time`: the next delivery's time. `rest`: the subscriber is left alone. `places`: there was none. */
  waitsFor: 'work' | 'time' | 'rest' | 'places' | null;
  delivered: number;
  failed: number;
}

export interface LaneState {
  status: 'sending' | 'waiting';
  waitsFor: LaneStep['waitsFor'];
  nextLookAt: string | null;
  /** By this run of the workflow. */
  delivered: number;
  failed: number;
}

/** A replay as its workflow carries it on; what it replays is in its row. */
export interface ReplayInput {
  replayId: string;
  /** Null for a retry of all of a tenant's. */
  subscriptionId: string | null;
  ratePerSecond: number;
  correlationId: string;
  /** Where it continues; left out at the start. */
  progress?: ReplayProgress;
}

export interface ReplayProgress {
  /** The last row that was looked at. */
  at: string;
  after: string;
  examined: number;
  replayed: number;
  paused: boolean;
  /** When the next slice begins (ISO 8601); none at the start. */
  nextAt?: string;
}

export interface ReplayState extends ReplayProgress {
  status: 'running' | 'paused' | 'done' | 'cancelled' | 'stopped';
  reason: string | null;
}

/** What the scheduled reconciliation found, by check. */
export interface ReconciliationSummary {
  clean: boolean;
  found: Record<string, number>;
}

/** One step of the sweeps over overdue payments, then orders. */
export interface HousekeepingStep {
  expired: number;
  deliveries: DeliveryRef[];
  /** To be saved when the deliveries are started; null when nothing was left. */
  position: { job: string; at: string; id: string } | null;
}

/** Also where a run goes on that was continued as new. */
export interface HousekeepingResult {
  expired: number;
  purgedKeys: number;
}

/** Where a run of the sweep over replays goes on that continues another. */
export interface ReplaySweepInput {
  /** Replays that were started. */
  started: number;
  /** The last replay that was looked at. */
  after: { at: string; id: string } | null;
  /** All of them were: what is left is deliveries and lanes. */
  replaysDone?: boolean;
}

/** A run of the end by age, and where it goes on when it continues another. */
export interface RetentionInput {
  at: string;
  after: string;
  purged: number;
}

export interface RetentionResult {
  /** Events that were deleted, with their deliveries and attempts. */
  purged: number;
}
