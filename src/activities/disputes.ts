import type {
  DisputeEvent,
  DisputeResult,
  DisputeWorkflowInput,
  EvidenceInput,
  EvidenceResult,
} from '../contracts/workflows';
import {
  disputeState,
  expireDispute,
  settleDisputeEvent,
  submitEvidence,
  type DisputeStep,
} from '../domain/disputes';
import type { ActivityDeps } from './deps';

/** Durable steps of the dispute workflow. */
export function createDisputeActivities({
  db,
  unknownTransactionWaitMs,
  disputeEvidenceDueMs,
  showsUsers,
}: ActivityDeps) {
  const done = (step: DisputeStep, waitUntil: string | null = null): DisputeResult => ({
    ...step,
    userId: showsUsers ? step.userId : null,
    waitUntil,
  });

  return {
    /** Applies a chargeback webhook. Idempotent by the provider's event id. */
    async settleDispute({ source: _, ...event }: DisputeEvent): Promise<DisputeResult> {
      const step = await settleDisputeEvent(db, event, disputeEvidenceDueMs);
      const waits = step.outcome === 'unknown_order' || step.outcome === 'order_not_paid';
      const until = Date.parse(event.receivedAt) + unknownTransactionWaitMs;
      return done(step, waits ? new Date(until).toISOString() : null);
    },

    /** Expires a dispute whose evidence was due. Idempotent. */
    async expireDispute({ disputeId }: DisputeWorkflowInput): Promise<DisputeResult> {
      return done(await expireDispute(db, disputeId));
    },

    /** Reads where a dispute stands. */
    async loadDispute({ disputeId }: DisputeWorkflowInput): Promise<DisputeResult> {
      return done(await disputeState(db, disputeId));
    },

    /** Stores evidence and puts the dispute under review. Idempotent by the evidence's hash. */
    async submitDisputeEvidence(input: EvidenceInput): Promise<EvidenceResult> {
      const { outcome, status } = await submitEvidence(db, input);
      return { outcome, status };
    },
  };
}

export type DisputeActivities = ReturnType<typeof createDisputeActivities>;
