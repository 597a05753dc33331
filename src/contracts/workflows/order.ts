import type { DeadLetterCode } from '../errors';
import type { ProviderStatus } from '../messages';
import type { CarriedMessages, MessageRef, WebhookEvent } from './message-refs';

/** The workflow of an order: what it takes, and what its steps answer. */

export type OrderStatus = 'NEW' | 'FINISHED' | 'CANCELLED' | 'CHARGED_BACK';

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
  /** Where a run resumes that was continued as new because its history grew long. */
  resume?: { carried: CarriedMessages<OrderMessage>; result: OrderWorkflowResult };
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
  /** For the lists of the Temporal UI; null where they may not name users, or the provider does not. */
  userId: string | null;
  /** Until when an event of an unknown order waits for it (ISO 8601). */
  waitUntil: string | null;
}

/** What an order's workflow came to: its last decision, when there was one. */
export interface OrderWorkflowResult {
  outcome: OrderEventOutcome | PayOrderResult['outcome'] | null;
  status: OrderStatus | null;
  failureCode: string | null;
}

/** What its query `state` answers. */
export interface OrderState extends OrderWorkflowResult {
  waitingMessages: number;
}

export interface PayOrderResult {
  outcome:
    | 'applied'
    | 'duplicate'
    | Extract<DeadLetterCode, 'unknown_order' | 'payment_method_mismatch' | 'event_conflict'>;
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
