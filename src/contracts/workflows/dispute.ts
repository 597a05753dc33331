import type { DeadLetterCode } from '../errors';
import type { DisputeStatus } from '../messages';
import type { CarriedMessages, WebhookEvent } from './message-refs';

/** The workflow of a dispute: what it takes, and what its steps answer. */

export interface DisputeWorkflowInput {
  disputeId: string;
  /** Where a run resumes that was continued as new because its history grew long. */
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
  /** For the lists of the Temporal UI; null where they may not name users. */
  userId: string | null;
  /** While it waits for evidence: until when (ISO 8601). */
  evidenceDueAt: string | null;
  /** Until when an event of an order that is unknown or not paid waits (ISO 8601). */
  waitUntil: string | null;
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

/** What its query `state` answers. */
export interface DisputeState {
  status: DisputeWorkflowResult['status'];
  evidenceDueAt: string | null;
  outcomes: DisputeEventOutcome[];
  waitingEvents: number;
}
