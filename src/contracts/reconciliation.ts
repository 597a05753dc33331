import { z } from 'zod';
import { Reconciliation } from './accounts';
import { cleanText, DecimalAmount, Instant, page, PageQuery } from './http';
import { Currency, MajorAmount } from './money';

/** Runs of reconciliation that are kept, and movements that correct what they found, by two persons. */

export const RunsQuery = PageQuery.extend({
  clean: z.enum(['true', 'false']).optional().meta({ type: 'boolean' }),
});
const runFields = {
  id: z.string(),
  tenant: z.string().nullable().meta({ description: 'null: all tenants, by the schedule; scope platform' }),
  at: Instant.meta({ description: 'when the snapshot was taken' }),
  durationMs: z.int(),
  clean: z.boolean(),
  found: z.int(),
  startedBy: z.string(),
};
export const ReconciliationRun = z.object(runFields).meta({ id: 'ReconciliationRun' });
export const ReconciliationRunPage = page(ReconciliationRun, 'ReconciliationRunPage');
export const ReconciliationRunDetail = z
  .object({ ...runFields, report: Reconciliation })
  .meta({ id: 'ReconciliationRunDetail' });

/**
 * What `remit.reconciliation.differs` and `remit.reconciliation.clean` tell the operator's tenant (DEFAULT_TENANT): names and
 * counts over all tenants, and nothing of whose accounts they are.
 */
export const ReconciliationEventData = z
  .object({
    runId: z
      .string()
      .meta({ description: 'has the findings: GET /api/v1/reconciliation-runs/:id, scope platform' }),
    at: Instant,
    found: z.int(),
    checks: z.array(z.object({ name: z.string(), rule: z.string(), found: z.int() })),
  })
  .meta({ id: 'ReconciliationEventData' });

const CorrectionStatus = z.enum(['proposed', 'posted', 'rejected']);
export const CorrectionsQuery = PageQuery.extend({ status: CorrectionStatus.optional() });
export const ProposeCorrectionBody = z
  .strictObject({
    accountId: z.guid({ error: 'not a UUID' }).transform((value) => value.toLowerCase()),
    direction: z.enum(['credit', 'debit']).meta({ description: 'credit: the user gets the amount' }),
    amount: MajorAmount,
    reason: cleanText(500).min(1),
    runId: z.guid().optional().meta({ description: 'the run of reconciliation that it is about' }),
  })
  .meta({
    id: 'ProposeCorrection',
    example: {
      accountId: '3f6d2c1a-8b4e-4d57-9a10-5c2e7f9b6d31',
      direction: 'credit',
      amount: '1.00',
      reason: 'the provider confirmed that it took one lira too much',
    },
  });
export const DecideCorrectionBody = z
  .strictObject({ comment: cleanText(500).default('') })
  .meta({ id: 'DecideCorrection', example: { comment: 'compared with the provider’s statement' } });
export const Correction = z
  .object({
    id: z.string(),
    accountId: z.string(),
    userId: z.string(),
    direction: z.enum(['credit', 'debit']),
    amount: DecimalAmount,
    currency: Currency,
    reason: z.string(),
    runId: z.string().nullable(),
    status: CorrectionStatus,
    proposedBy: z.string(),
    createdAt: Instant,
    decidedBy: z.string().nullable(),
    decidedAt: Instant.nullable(),
    comment: z.string().nullable(),
    reference: z.string().nullable().meta({ description: 'of its journal transaction, once posted' }),
  })
  .meta({ id: 'Correction' });
export const CorrectionPage = page(Correction, 'CorrectionPage');
