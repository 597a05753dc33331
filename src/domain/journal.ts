import { RemitError } from '../contracts/errors';
import type { OrderStatus } from '../contracts/workflows';
import type { PaymentMethod } from '../contracts/messages';
import type { Database } from '../platform/postgres';
import { accountView, type AccountView } from './accounts';
import { orderView, type OrderView } from './orders';
import { afterCursor, createdWithin, decodeCursor, NEWEST_FIRST, toPage, type Page } from './pages';

/** Accounts, orders and movements of a tenant, whoever's they are. Amounts in minor units. */

interface Paged {
  tenantId: string;
  limit: number;
  cursor?: string | undefined;
}
interface Timed {
  since?: Date | undefined;
  until?: Date | undefined;
}

// ---------------------------------------------------------------------------------------------------- accounts

/**
 * A tenant's accounts by user and currency.
 * @throws RemitError invalid_request on a cursor whose account is not the tenant's.
 */
export async function listTenantAccounts(
  { prisma }: Pick<Database, 'prisma'>,
  {
    tenantId,
    userId,
    currency,
    limit,
    cursor,
  }: Paged & { userId?: string | undefined; currency?: string | undefined },
): Promise<Page<AccountView>> {
  const last =
    cursor === undefined
      ? undefined
      : await prisma.account.findFirst({ where: { id: decodeCursor(cursor).id, tenantId } });
  if (last === null)
    throw new RemitError('invalid_request', 'the cursor is not one that this list returned', [
      { path: 'cursor', message: 'not a cursor that this list returned' },
    ]);
  const rows = await prisma.account.findMany({
    where: {
      tenantId,
      ...(userId !== undefined && { userId }),
      ...(currency !== undefined && { currency }),
      ...(last && {
        AND: { userId: { gte: last.userId } },
        OR: [{ userId: { gt: last.userId } }, { userId: last.userId, currency: { gt: last.currency } }],
      }),
    },
    orderBy: [{ userId: 'asc' }, { currency: 'asc' }],
    take: limit + 1,
  });
  return toPage(rows, limit, accountView);
}

/** An account as it was, and the audit record that says so; null before anything had moved. */
export interface AccountAsOfView {
  account: AccountView;
  provedBy: { auditId: string; at: Date; action: string; cause: string } | null;
}

/**
 * An account as it is, or with balance and held amount as they were at a moment: what the last audit record by then says.
 * @throws RemitError not_found, also for another tenant's. `id` is a UUID.
 */
export async function accountAsOf(
  { prisma, pool }: Pick<Database, 'prisma' | 'pool'>,
  { tenantId, id, at }: { tenantId: string; id: string; at?: Date | undefined },
): Promise<AccountAsOfView> {
  const found = await prisma.account.findFirst({ where: { id, tenantId } });
  if (!found) throw new RemitError('not_found', 'There is no such account.');
  const { rows } = await pool.query<{
    auditId: string;
    at: Date;
    action: string;
    cause: string;
    balance: string;
    held: string;
  }>(
    `SELECT id AS "auditId", at, action, cause, balance_after_minor AS balance, held_after_minor AS held FROM audit_log
      WHERE account_id = $1 AND balance_after_minor IS NOT NULL AND ($2::timestamptz IS NULL OR at <= $2)
      ORDER BY id DESC LIMIT 1`,
    [id, at ?? null],
  );
  const [row] = rows;
  const provedBy = row ? { auditId: row.auditId, at: row.at, action: row.action, cause: row.cause } : null;
  const account = accountView(found);
  if (at === undefined) return { account, provedBy };
  const balanceMinor = BigInt(row?.balance ?? 0);
  const heldMinor = BigInt(row?.held ?? 0);
  return {
    account: { ...account, balanceMinor, heldMinor, availableMinor: balanceMinor - heldMinor },
    provedBy,
  };
}

// ---------------------------------------------------------------------------------------------------- orders

/** A tenant's orders, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listTenantOrders(
  { prisma }: Pick<Database, 'prisma'>,
  {
    tenantId,
    userId,
    status,
    paymentMethod,
    limit,
    cursor,
    ...time
  }: Paged &
    Timed & {
      userId?: string | undefined;
      status?: OrderStatus | undefined;
      paymentMethod?: PaymentMethod | undefined;
    },
): Promise<Page<OrderView>> {
  const rows = await prisma.order.findMany({
    where: {
      tenantId,
      ...(userId !== undefined && { userId }),
      ...(status !== undefined && { status }),
      ...(paymentMethod !== undefined && { paymentMethod }),
      AND: [createdWithin(time), afterCursor(cursor)],
    },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, orderView);
}

export interface OrderDetailView extends OrderView {
  refundedMinor: bigint;
  disputedMinor: bigint;
  chargedBackMinor: bigint;
  collectedAs: 'order' | 'account' | null;
  correlationId: string | null;
}

/** @throws RemitError not_found, also for another tenant's. `id` is a UUID. */
export async function getTenantOrder(
  { prisma }: Pick<Database, 'prisma'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<OrderDetailView> {
  const found = await prisma.order.findFirst({ where: { id, tenantId } });
  if (!found) throw new RemitError('not_found', 'There is no such order.');
  const { refundedMinor, disputedMinor, chargedBackMinor, correlationId } = found;
  return {
    ...orderView(found),
    ...{ refundedMinor, disputedMinor, chargedBackMinor, correlationId },
    collectedAs: found.collectedAs as OrderDetailView['collectedAs'],
  };
}

// ---------------------------------------------------------------------------------------------------- movements

export interface JournalView {
  id: string;
  kind: string;
  reference: string;
  correlationId: string | null;
  createdAt: Date;
}

const JOURNAL = `SELECT id, kind, reference, correlation_id AS "correlationId", created_at AS "createdAt"
                   FROM journal_transactions`;

/** A tenant's movements, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listJournal(
  { pool }: Pick<Database, 'pool'>,
  {
    tenantId,
    kind,
    reference,
    since,
    until,
    limit,
    cursor,
  }: Paged & Timed & { kind?: string | undefined; reference?: string | undefined },
): Promise<Page<JournalView>> {
  const { rows } = await pool.query<JournalView>(
    `${JOURNAL} WHERE tenant_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR reference = $3)
        AND ($4::timestamptz IS NULL OR created_at >= $4) AND ($5::timestamptz IS NULL OR created_at < $5)
        AND ($6::bigint IS NULL OR id < $6)
      ORDER BY id DESC LIMIT $7`,
    [
      ...[tenantId, kind ?? null, reference ?? null, since ?? null, until ?? null],
      ...[cursor === undefined ? null : decodeCursor(cursor).id, limit + 1],
    ],
  );
  return toPage(rows, limit, (row) => row);
}

export interface JournalLineView {
  id: string;
  accountId: string | null;
  userId: string | null;
  systemAccount: string | null;
  amountMinor: string;
  currency: string;
  balanceAfterMinor: string | null;
}

/** A movement with all its lines. @throws RemitError not_found, also for another tenant's. `id` is a whole number. */
export async function getJournal(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<JournalView & { entries: JournalLineView[] }> {
  const {
    rows: [found],
  } = await pool.query<JournalView>(`${JOURNAL} WHERE tenant_id = $1 AND id = $2`, [tenantId, id]);
  if (!found) throw new RemitError('not_found', 'There is no such journal transaction.');
  const { rows } = await pool.query<JournalLineView>(
    `SELECT e.id, e.account_id AS "accountId", a.user_id AS "userId", e.system_account AS "systemAccount",
            e.amount_minor AS "amountMinor", e.currency, e.balance_after_minor AS "balanceAfterMinor"
       FROM ledger_entries e LEFT JOIN accounts a ON a.id = e.account_id WHERE e.journal_id = $1 ORDER BY e.id`,
    [id],
  );
  return { ...found, entries: rows };
}
