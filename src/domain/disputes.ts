import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import { DisputeStatus } from '../contracts/messages';
import type { DisputeEvent, DisputeResult, EvidenceInput, EvidenceResult } from '../contracts/workflows';
import type { Dispute, DisputeEvidence } from '../generated/prisma/client';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { callMoneyFunction } from './money-transaction';
import { afterCursor, decodeCursor, NEWEST_FIRST, toPage, type Page } from './pages';

/** A dispute of an order; amounts in minor units. */
export interface DisputeView {
  id: string;
  orderId: string;
  userId: string;
  provider: string;
  amountMinor: bigint;
  /** What neither the order nor the user's account had any more: a loss unless the dispute is won. */
  uncoveredMinor: bigint;
  currency: string;
  status: DisputeStatus;
  reason: string | null;
  evidenceDueAt: Date;
  createdAt: Date;
  closedAt: Date | null;
  evidence: { evidence: unknown; actor: string; submittedAt: Date } | null;
}

function view(dispute: Dispute & { evidence?: DisputeEvidence | null }): DisputeView {
  const { id, orderId, userId, provider, amountMinor, coveredMinor, currency, reason, evidence } = dispute;
  const { status, evidenceDueAt, createdAt, closedAt } = dispute;
  return {
    id,
    orderId,
    userId,
    provider,
    amountMinor,
    uncoveredMinor: amountMinor - coveredMinor,
    currency,
    status: status as DisputeStatus,
    reason,
    evidenceDueAt,
    createdAt,
    closedAt,
    evidence: evidence
      ? { evidence: evidence.evidence, actor: evidence.actor, submittedAt: evidence.submittedAt }
      : null,
  };
}

/** @throws RemitError not_found, also for another tenant's. */
export async function getDispute(
  db: Database,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<DisputeView> {
  const found = await db.prisma.dispute.findFirst({ where: { id, tenantId }, include: { evidence: true } });
  if (!found) throw new RemitError('not_found', `there is no dispute ${id}`);
  return view(found);
}

export interface DisputeFilter {
  tenantId: string;
  orderId?: string | undefined;
  status?: DisputeStatus | undefined;
  /** `due`: those that wait for evidence, the one that is due first at the top. */
  sort?: 'newest' | 'due' | undefined;
  limit: number;
  cursor?: string | undefined;
}

/** Disputes, newest first, without their evidence. @throws RemitError invalid_request on a malformed cursor. */
export async function listDisputes(db: Database, filter: DisputeFilter): Promise<Page<DisputeView>> {
  const { tenantId, orderId, status, sort = 'newest', limit, cursor } = filter;
  if (sort === 'due') return listDue(db, filter);
  const rows = await db.prisma.dispute.findMany({
    where: { tenantId, ...(orderId && { orderId }), ...(status && { status }), ...afterCursor(cursor) },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

async function listDue(
  db: Pick<Database, 'prisma'>,
  { tenantId, orderId, limit, cursor }: DisputeFilter,
): Promise<Page<DisputeView>> {
  const after = cursor === undefined ? undefined : decodeCursor(cursor);
  const rows = await db.prisma.dispute.findMany({
    where: {
      ...{ tenantId, status: 'opened', ...(orderId && { orderId }) },
      ...(after && {
        evidenceDueAt: { gte: after.createdAt },
        OR: [
          { evidenceDueAt: { gt: after.createdAt } },
          { evidenceDueAt: after.createdAt, id: { gt: after.id } },
        ],
      }),
    },
    orderBy: [{ evidenceDueAt: 'asc' }, { id: 'asc' }],
    take: limit + 1,
  });
  // A place in this order is the time that evidence is due.
  const places = rows.map((row) => ({ id: row.id, createdAt: row.evidenceDueAt, row }));
  return toPage(places, limit, ({ row }) => view(row));
}

const DisputeRow = z.object({
  outcome: z.enum([
    'applied',
    'noted',
    'duplicate',
    'contradiction',
    'unknown_dispute',
    'unknown_order',
    'order_not_paid',
    'amount_mismatch',
    'dispute_mismatch',
    'event_conflict',
  ]),
  status: DisputeStatus.nullable(),
  userId: z.string().nullable(),
  evidenceDueAt: z.string().nullable(),
});

/** What became of a step of a dispute. */
export type DisputeStep = Omit<DisputeResult, 'waitUntil'>;

/**
 * Applies a chargeback webhook: holds, releases or reverses money, and charges the order back, in one SERIALIZABLE
 * transaction (docs/disputes.md has every case). Idempotent by the provider's event id.
 * @param evidenceDueMs how long evidence may take when the provider names no time.
 * @throws ConflictsExhaustedError, and what the database throws in an outage.
 */
export async function settleDisputeEvent(
  db: Database,
  event: Omit<DisputeEvent, 'source'>,
  evidenceDueMs: number,
): Promise<DisputeStep> {
  const result = await callMoneyFunction(db, 'settle_dispute_event', { ...event, evidenceDueMs }, DisputeRow);
  const { provider, status } = event;
  metrics.providerEvents.inc({ provider, type: 'dispute', status, outcome: result.outcome });
  return result;
}

/**
 * Expires a dispute for which no evidence came: its money goes to the provider. Before its time, or when the dispute
 * does not wait for evidence any more, nothing changes. Idempotent.
 * @throws ConflictsExhaustedError, and what the database throws in an outage.
 */
export async function expireDispute(db: Database, disputeId: string): Promise<DisputeStep> {
  return callMoneyFunction(db, 'expire_dispute', { disputeId }, DisputeRow);
}

const EvidenceRow = z.object({
  outcome: z.enum(['ok', 'duplicate', 'already_submitted', 'too_late', 'unknown_dispute']),
  status: DisputeStatus.nullable(),
});

/**
 * Stores evidence and puts the dispute under review. Idempotent: the same evidence again is a `duplicate`.
 * @throws ConflictsExhaustedError, and what the database throws in an outage.
 */
export async function submitEvidence(db: Database, evidence: EvidenceInput): Promise<EvidenceResult> {
  return callMoneyFunction(db, 'submit_evidence', { ...evidence }, EvidenceRow);
}

/** Where a dispute stands, for a workflow that starts without an event. */
export async function disputeState(db: Database, disputeId: string): Promise<DisputeStep> {
  const found = await db.prisma.dispute.findUnique({ where: { id: disputeId } });
  return {
    outcome: found ? 'noted' : 'unknown_dispute',
    status: found ? (found.status as DisputeStatus) : null,
    userId: found?.userId ?? null,
    evidenceDueAt: found?.status === 'opened' ? found.evidenceDueAt.toISOString() : null,
  };
}
