import type { DeadLetterCode } from '../errors';
import type { PaymentType, ProviderStatus } from '../messages';
import type { CarriedMessages, MessageRef } from './message-refs';

/** The workflow of a payment or payout: what it takes, and what its steps answer. */

export type PaymentStatus = 'pending' | 'succeeded' | 'failed' | 'expired';

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
  /** Where a run resumes that was continued as new because its history grew long. */
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
  /** For the lists of the Temporal UI; null where they may not name users. */
  userId: string | null;
  /** When a still pending payment expires (ISO 8601). */
  expiresAt: string | null;
  /** Until when an event of an unknown transaction waits for it (ISO 8601). */
  waitUntil: string | null;
}

/** What its query `state` answers. */
export interface PaymentState {
  status: PaymentWorkflowResult['status'];
  /** What became of each event of this run, in order. */
  outcomes: SettleOutcome[];
  waitingEvents: number;
  expiresAt: string | null;
}
