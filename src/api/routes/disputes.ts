import { createHash } from 'node:crypto';
import { ApplicationFailure, WorkflowUpdateFailedError } from '@temporalio/client';
import stringify from 'safe-stable-stringify';
import { RemitError } from '../../contracts/errors';
import { IdParams } from '../../contracts/http';
import { DisputePage, DisputesQuery, DisputeWithEvidence, SubmitEvidenceBody } from '../../contracts/orders';
import { DisputeId } from '../../contracts/messages';
import { formatMinor } from '../../contracts/money';
import { workflowId, type EvidenceInput } from '../../contracts/workflows';
import { getDispute, listDisputes, type DisputeView } from '../../domain/disputes';
import { updateEvidence } from '../../platform/workflow-starts';
import { updateWorkflow } from '../workflow-updates';
import { defineRoute, pageLimits, pageOf, type ApiDeps, type Route } from './route';

function disputeOf(dispute: DisputeView) {
  const { amountMinor, uncoveredMinor, evidenceDueAt, createdAt, closedAt, evidence: _, ...rest } = dispute;
  return {
    ...rest,
    amount: formatMinor(amountMinor, dispute.currency),
    uncovered: formatMinor(uncoveredMinor, dispute.currency),
    evidenceDueAt: evidenceDueAt.toISOString(),
    openedAt: createdAt.toISOString(),
    closedAt: closedAt?.toISOString() ?? null,
  };
}

function withEvidence(dispute: DisputeView) {
  const { evidence } = dispute;
  return {
    ...disputeOf(dispute),
    evidence: evidence && {
      ...(evidence.evidence as object),
      submittedBy: evidence.actor,
      submittedAt: evidence.submittedAt.toISOString(),
    },
  };
}

/** An id that can be none is one of no dispute. */
function disputeIdOf(text: string): string {
  if (!DisputeId.safeParse(text).success) throw new RemitError('not_found', 'There is no such dispute.');
  return text;
}

const REFUSALS = {
  already_submitted: 'Other evidence was submitted before; it can be submitted once.',
  too_late: 'It is too late: the dispute does not wait for evidence any more.',
} as const;

/** Has the dispute's workflow take the evidence. @throws RemitError conflict when it is too late. */
async function submit(
  deps: ApiDeps,
  dispute: Pick<DisputeView, 'orderId' | 'provider'>,
  evidence: EvidenceInput,
): Promise<void> {
  try {
    const { outcome } = await updateWorkflow(deps, workflowId.dispute(evidence.disputeId), (client) =>
      updateEvidence(client, dispute, { updateId: evidence.hash, input: evidence }),
    );
    if (outcome in REFUSALS) throw new RemitError('conflict', REFUSALS[outcome as keyof typeof REFUSALS]);
  } catch (error) {
    const cause = error instanceof WorkflowUpdateFailedError ? error.cause : undefined;
    if (cause instanceof ApplicationFailure && cause.type === 'EvidenceTooLate')
      throw new RemitError('conflict', REFUSALS.too_late);
    throw error;
  }
}

export const disputeRoutes: Route[] = [
  defineRoute({
    method: 'get',
    path: '/api/v1/disputes',
    operationId: 'listDisputes',
    tag: 'Disputes',
    summary: 'List disputes, newest first',
    access: 'token',
    query: DisputesQuery,
    responses: { 200: { description: 'A page of disputes', schema: DisputePage } },
    async handle({ deps, caller, query }) {
      const page = await listDisputes(deps.database, {
        tenantId: caller.tenantId,
        orderId: query.orderId,
        status: query.status,
        sort: query.sort,
        ...pageLimits(query, deps.config, 'text'),
      });
      return { status: 200, body: pageOf(page, disputeOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/disputes/:id',
    operationId: 'getDispute',
    tag: 'Disputes',
    summary: 'Read a dispute and its evidence',
    access: 'token',
    params: IdParams,
    responses: { 200: { description: 'The dispute', schema: DisputeWithEvidence } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const key = { tenantId: caller.tenantId, id: disputeIdOf(params.id) };
      const dispute = await getDispute(deps.database, key);
      return { status: 200, body: withEvidence(dispute) };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/disputes/:id/evidence',
    operationId: 'submitEvidence',
    tag: 'Disputes',
    summary: 'Submit evidence, once, before it is due',
    description:
      'The dispute is then under review. The same evidence again gets the same answer; other evidence, or any after it was due, 409.',
    access: 'token',
    params: IdParams,
    body: SubmitEvidenceBody,
    responses: { 200: { description: 'The dispute, under review', schema: DisputeWithEvidence } },
    problems: ['not_found', 'conflict'],
    async handle({ deps, caller, params, body, correlationId }) {
      const key = { tenantId: caller.tenantId, id: disputeIdOf(params.id) };
      const dispute = await getDispute(deps.database, key);
      const hash = createHash('sha256').update(stringify(body)).digest('hex');
      await submit(deps, dispute, {
        disputeId: key.id,
        hash,
        evidence: body,
        actor: caller.actor,
        correlationId,
      });
      return { status: 200, body: withEvidence(await getDispute(deps.database, key)) };
    },
  }),
];
