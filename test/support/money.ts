import { randomUUID } from 'node:crypto';
import { createAccount, topUp } from '../../src/domain/accounts';
import {
  createPayment,
  settleProviderEvent,
  type PaymentView,
  type SettleInput,
} from '../../src/domain/payments';
import type { PaymentType, ProviderStatus } from '../../src/contracts/messages';
import type { Database } from '../../src/platform/postgres';

export const TENANT = 'default';
export const CURRENCY = 'TRY';
const DAY_MS = 86_400_000;

/** A fresh user with an account and, when given, money in it (minor units). */
export async function userWith(db: Database, balanceMinor = 0n): Promise<string> {
  const userId = `user-${randomUUID()}`;
  const key = { tenantId: TENANT, userId, currency: CURRENCY };
  await createAccount(db, key);
  if (balanceMinor > 0n)
    await topUp(db, { ...key, amountMinor: balanceMinor, correlationId: 'test', actor: 'test' });
  return userId;
}

/** A pending payment or payout; payouts are reserved unless told otherwise. */
export function newTransaction(
  db: Database,
  userId: string,
  type: PaymentType,
  amountMinor: bigint,
  options: { reserve?: boolean; currency?: string } = {},
): Promise<PaymentView> {
  return createPayment(db, {
    tenantId: TENANT,
    type,
    provider: 'decard',
    userId,
    amountMinor,
    currency: options.currency ?? CURRENCY,
    reserve: options.reserve ?? true,
    expiresAfterMs: DAY_MS,
    correlationId: 'test',
    actor: 'test',
  });
}

/** What the provider says of a transaction, as the bridge hands it on. */
export function eventOf(
  payment: PaymentView,
  status: ProviderStatus,
  changes: Partial<SettleInput> = {},
): SettleInput {
  return {
    provider: payment.provider,
    providerEventId: `${payment.id}:${status}`,
    transactionId: payment.id,
    type: payment.type,
    status,
    amountMinor: payment.amountMinor.toString(),
    currency: payment.currency,
    payloadHash: `${payment.id}:${status}:${payment.amountMinor}`,
    receivedAt: new Date().toISOString(),
    correlationId: 'test',
    ...changes,
  };
}

export const settle = (
  db: Database,
  payment: PaymentView,
  status: ProviderStatus,
  changes: Partial<SettleInput> = {},
) => settleProviderEvent(db, eventOf(payment, status, changes));

export interface LedgerReport {
  /** Currencies whose entries do not sum to zero. */
  unbalanced: string[];
  /** Accounts whose balance differs from the sum of their entries. */
  wrongBalances: string[];
  /** Accounts whose held amount differs from the sum of their open holds. */
  wrongHolds: string[];
  /** Accounts whose version is not the number of their balance operations. */
  wrongVersions: string[];
  /** System accounts that do not hold what orders and disputes say: expected and booked amount. */
  wrongSystemAccounts: string[];
}

/** What of the orders' payments must be where; independent of the checks in reconciliation. */
const SYSTEM_ACCOUNTS = `
  WITH expected AS (
    SELECT 'revenue:orders' AS account, currency,
           sum(amount_minor - refunded_minor - disputed_minor - charged_back_minor) AS total
      FROM orders WHERE status IN ('FINISHED', 'CHARGED_BACK') GROUP BY currency
    UNION ALL
    SELECT 'disputes:held', currency, sum(amount_minor) FROM disputes
     WHERE status IN ('opened', 'under_review') GROUP BY currency
    UNION ALL
    SELECT 'losses:disputes', currency, -sum(amount_minor - covered_minor) FROM disputes
     WHERE status <> 'won' GROUP BY currency
  ), booked AS (
    SELECT system_account AS account, currency, sum(amount_minor) AS total FROM ledger_entries
     WHERE system_account IN ('revenue:orders', 'disputes:held', 'losses:disputes') GROUP BY 1, 2
  )
  SELECT account || ' ' || currency || ' ' || coalesce(e.total, 0) || ' ' || coalesce(b.total, 0) AS id
    FROM expected e FULL JOIN booked b USING (account, currency)
   WHERE coalesce(e.total, 0) <> coalesce(b.total, 0)`;

/** Checks the whole ledger of a database against itself. */
export async function inspectLedger(db: Database): Promise<LedgerReport> {
  const ids = async (sql: string) => (await db.pool.query<{ id: string }>(sql)).rows.map(({ id }) => id);
  return {
    unbalanced: await ids(
      'SELECT currency || journal_id AS id FROM ledger_entries GROUP BY currency, journal_id HAVING sum(amount_minor) <> 0',
    ),
    wrongBalances: await ids(
      `SELECT a.id FROM accounts a WHERE a.balance_minor <>
         (SELECT coalesce(sum(e.amount_minor), 0) FROM ledger_entries e WHERE e.account_id = a.id)`,
    ),
    wrongHolds: await ids(
      `SELECT a.id FROM accounts a WHERE a.held_minor <>
         (SELECT coalesce(sum(h.amount_minor), 0) FROM holds h WHERE h.account_id = a.id AND h.status = 'held')`,
    ),
    wrongVersions: await ids(
      `SELECT a.id FROM accounts a WHERE a.version <>
         (SELECT count(*) FROM audit_log l WHERE l.account_id = a.id AND l.balance_after_minor IS NOT NULL)`,
    ),
    wrongSystemAccounts: await ids(SYSTEM_ACCOUNTS),
  };
}

export const SOUND: LedgerReport = {
  unbalanced: [],
  wrongBalances: [],
  wrongHolds: [],
  wrongVersions: [],
  wrongSystemAccounts: [],
};
