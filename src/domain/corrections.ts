import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import type { Database } from '../platform/postgres';
import { recordChange, type Actor } from './audit';
import { callMoneyFunction } from './money-transaction';
import { decodeCursor, toPage, type Page } from './pages';

/** A movement that corrects an account: proposed by one person, posted when another approves. */
export interface CorrectionView {
  id: string;
  accountId: string;
  userId: string;
  /** What the account gets, in minor units; below 0, what it gives. */
  amountMinor: bigint;
  currency: string;
  reason: string;
  runId: string | null;
  status: 'proposed' | 'posted' | 'rejected';
  proposedBy: string;
  createdAt: Date;
  decidedBy: string | null;
  decidedAt: Date | null;
  comment: string | null;
}

interface Row extends Omit<CorrectionView, 'amountMinor'> {
  amountMinor: string;
}

const CORRECTIONS = `SELECT c.id, c.account_id AS "accountId", a.user_id AS "userId", c.amount_minor AS "amountMinor",
       a.currency, c.reason, c.run_id AS "runId", c.status, c.proposed_by AS "proposedBy", c.created_at AS "createdAt",
       c.decided_by AS "decidedBy", c.decided_at AS "decidedAt", c.comment
  FROM corrections c JOIN accounts a ON a.id = c.account_id`;

const view = ({ amountMinor, ...row }: Row): CorrectionView => ({ ...row, amountMinor: BigInt(amountMinor) });
const cause = (id: string) => `correction:${id}`;

/** A tenant's corrections, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listCorrections(
  { pool }: Pick<Database, 'pool'>,
  {
    tenantId,
    status,
    limit,
    cursor,
  }: {
    tenantId: string;
    status?: CorrectionView['status'] | undefined;
    limit: number;
    cursor?: string | undefined;
  },
): Promise<Page<CorrectionView>> {
  const after = cursor === undefined ? undefined : decodeCursor(cursor);
  const { rows } = await pool.query<Row>(
    `${CORRECTIONS} WHERE c.tenant_id = $1 AND ($2::text IS NULL OR c.status = $2)
        AND ($3::timestamptz IS NULL OR (c.created_at, c.id) < ($3, $4::uuid))
      ORDER BY c.created_at DESC, c.id DESC LIMIT $5`,
    [tenantId, status ?? null, after?.createdAt ?? null, after?.id ?? null, limit + 1],
  );
  return toPage(rows, limit, view);
}

/** @throws RemitError not_found, also for another tenant's. `id` is a UUID. */
async function getCorrection(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<CorrectionView> {
  const { rows } = await pool.query<Row>(`${CORRECTIONS} WHERE c.tenant_id = $1 AND c.id = $2`, [
    tenantId,
    id,
  ]);
  if (!rows[0]) throw new RemitError('not_found', 'There is no such correction.');
  return view(rows[0]);
}

export interface NewCorrection {
  /** Makes the proposal idempotent. */
  id: string;
  accountId: string;
  amountMinor: bigint;
  reason: string;
  runId: string | null;
}

/** The currency of a tenant's account. @throws RemitError not_found. */
export async function currencyOf(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, accountId }: { tenantId: string; accountId: string },
): Promise<string> {
  const { rows } = await pool.query<{ currency: string }>(
    'SELECT currency FROM accounts WHERE id = $1 AND tenant_id = $2',
    [accountId, tenantId],
  );
  if (!rows[0]) throw new RemitError('not_found', 'There is no such account.');
  return rows[0].currency;
}

/** Proposes a correction: nothing moves. Idempotent by id. */
export async function proposeCorrection(
  db: Pick<Database, 'pool' | 'prisma'>,
  by: Actor,
  { id, accountId, amountMinor, reason, runId }: NewCorrection,
): Promise<CorrectionView> {
  const { rowCount } = await db.pool.query(
    `INSERT INTO corrections (id, tenant_id, account_id, amount_minor, reason, run_id, proposed_by, correlation_id)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING`,
    [id, by.tenantId, accountId, amountMinor.toString(), reason, runId, by.actor, by.correlationId],
  );
  if (rowCount === 1)
    await recordChange(db.prisma, by, {
      action: 'correction.proposed',
      cause: cause(id),
      after: { accountId, amountMinor: amountMinor.toString(), reason, runId },
    });
  return getCorrection(db, { tenantId: by.tenantId, id });
}

const Posted = z.object({
  outcome: z.enum([
    ...(['ok', 'not_found', 'decided', 'same_person', 'insufficient_funds', 'account_missing'] as const),
    'currency_mismatch',
  ]),
});

/**
 * Approves a correction: its movement is posted in one SERIALIZABLE transaction. Idempotent for the person who approved.
 * @throws RemitError not_found; conflict when it was decided, or the proposer approves; unprocessable without funds.
 */
export async function approveCorrection(
  db: Database,
  by: Actor,
  { id, comment }: { id: string; comment: string },
): Promise<CorrectionView> {
  const { outcome } = await callMoneyFunction(db, 'post_correction', { ...by, id, comment }, Posted);
  switch (outcome) {
    case 'ok':
      return getCorrection(db, { tenantId: by.tenantId, id });
    case 'not_found':
      throw new RemitError('not_found', 'There is no such correction.');
    case 'decided':
      throw new RemitError('conflict', 'The correction was decided before.');
    case 'same_person':
      throw new RemitError(
        'conflict',
        'The person who proposed a correction can’t approve it: another person has to.',
      );
    case 'insufficient_funds':
      throw new RemitError('unprocessable', 'The account has less than the correction takes.');
    case 'account_missing':
    case 'currency_mismatch':
      throw new RemitError('unprocessable', 'The account of the correction is not there.');
  }
}

/** Rejects a proposed correction: nothing moves. @throws RemitError not_found; conflict when it was decided otherwise. */
export async function rejectCorrection(
  db: Pick<Database, 'pool' | 'prisma'>,
  by: Actor,
  { id, comment }: { id: string; comment: string },
): Promise<CorrectionView> {
  const { rowCount } = await db.pool.query(
    `UPDATE corrections SET status = 'rejected', decided_by = $3, decided_at = now(), comment = $4
      WHERE id = $1 AND tenant_id = $2 AND status = 'proposed'`,
    [id, by.tenantId, by.actor, comment],
  );
  const found = await getCorrection(db, { tenantId: by.tenantId, id });
  if (rowCount === 1)
    await recordChange(db.prisma, by, {
      action: 'correction.rejected',
      cause: cause(id),
      after: { comment },
    });
  else if (found.status !== 'rejected' || found.decidedBy !== by.actor)
    throw new RemitError('conflict', 'The correction was decided before.');
  return found;
}
