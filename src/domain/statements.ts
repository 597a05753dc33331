import { RemitError } from '../contracts/errors';
import type { Database } from '../platform/postgres';
import { decodeCursor, toPage, type Page } from './pages';

/** One line of an account's statement; amounts in minor units. */
export interface StatementEntry {
  id: string;
  /** The movement it belongs to, whose entries sum to zero. */
  journalId: string;
  /** What kind of movement: top_up, order, payment, payout, … */
  kind: string;
  /** Names the movement; unique forever. */
  reference: string;
  /** Positive: money came in. */
  amountMinor: bigint;
  currency: string;
  balanceAfterMinor: bigint;
  correlationId: string | null;
  createdAt: Date;
}

interface Row {
  id: string;
  journal_id: string;
  kind: string;
  reference: string;
  amount_minor: string;
  currency: string;
  balance_after_minor: string;
  correlation_id: string | null;
  created_at: Date;
}

/**
 * The entries of an account, newest first. Entries are never changed, so that pages that are read while money moves
 * neither miss nor repeat one.
 * @throws RemitError not_found, also for another tenant's account; invalid_request on a malformed cursor.
 */
export async function listEntries(
  { pool }: Pick<Database, 'pool'>,
  {
    tenantId,
    accountId,
    limit,
    cursor,
    since,
    until,
  }: {
    tenantId: string;
    accountId: string;
    limit: number;
    cursor?: string | undefined;
    since?: Date | undefined;
    until?: Date | undefined;
  },
): Promise<Page<StatementEntry>> {
  const account = await pool.query('SELECT FROM accounts WHERE id = $1 AND tenant_id = $2', [
    accountId,
    tenantId,
  ]);
  if (account.rowCount === 0) throw new RemitError('not_found', 'there is no such account');
  const { rows } = await pool.query<Row>(
    `SELECT e.id, e.journal_id, j.kind, j.reference, e.amount_minor, e.currency, e.balance_after_minor,
            j.correlation_id, e.created_at
       FROM ledger_entries e JOIN journal_transactions j ON j.id = e.journal_id
      WHERE e.account_id = $1 AND ($2::bigint IS NULL OR e.id < $2)
        AND ($4::timestamptz IS NULL OR e.created_at >= $4) AND ($5::timestamptz IS NULL OR e.created_at < $5)
      ORDER BY e.id DESC LIMIT $3`,
    [accountId, cursor === undefined ? null : entryId(cursor), limit + 1, since ?? null, until ?? null],
  );
  return toPage(rows.map(view), limit, (entry) => entry);
}

/** An entry's place is its id alone: ids of one account grow in the order of its movements. */
function entryId(cursor: string): string {
  const { id } = decodeCursor(cursor);
  if (/^\d{1,18}$/.test(id)) return id;
  throw new RemitError('invalid_request', 'the cursor is not one that a statement returned', [
    { path: 'cursor', message: 'not a cursor that this list returned' },
  ]);
}

function view(row: Row): StatementEntry {
  return {
    id: row.id,
    journalId: row.journal_id,
    kind: row.kind,
    reference: row.reference,
    amountMinor: BigInt(row.amount_minor),
    currency: row.currency,
    balanceAfterMinor: BigInt(row.balance_after_minor),
    correlationId: row.correlation_id,
    createdAt: row.created_at,
  };
}
