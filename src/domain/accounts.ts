import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import type { Account } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { accountKey, callMoneyFunction, DataRefusedError } from './money-transaction';

/** A user's account; amounts in minor units of its currency. */
export interface AccountView {
  id: string;
  userId: string;
  currency: string;
  balanceMinor: bigint;
  heldMinor: bigint;
  /** What can be spent: balance less holds. */
  availableMinor: bigint;
  version: bigint;
  createdAt: Date;
}

export interface AccountKey {
  tenantId: string;
  userId: string;
  currency: string;
}

/** An account's row as everything above shows it. */
export function accountView(account: Account): AccountView {
  const { id, userId, currency, balanceMinor, heldMinor, version, createdAt } = account;
  return {
    id,
    userId,
    currency,
    balanceMinor,
    heldMinor,
    availableMinor: balanceMinor - heldMinor,
    version,
    createdAt,
  };
}

/**
 * Opens an account with a zero balance. Idempotent when it is given an id.
 * @throws RemitError account_exists when the user has one in that currency, opened under another id.
 */
export async function createAccount(
  db: Database,
  { id, ...key }: AccountKey & { id?: string },
): Promise<AccountView> {
  const [created] = await db.prisma.account.createManyAndReturn({
    data: [{ ...key, ...(id ? { id } : {}) }],
    skipDuplicates: true,
  });
  const ours = !created && id ? await db.prisma.account.findFirst({ where: { id, ...key } }) : undefined;
  if (ours) return accountView(ours);
  if (!created) throw new RemitError('account_exists', `the user already has an account in ${key.currency}`);
  return accountView(created);
}

/** @throws RemitError not_found when the user has no account in that currency. */
export async function getAccount(db: Database, key: AccountKey): Promise<AccountView> {
  const account = await db.prisma.account.findUnique({ where: { tenantId_userId_currency: key } });
  if (!account) throw new RemitError('not_found', `the user has no account in ${key.currency}`);
  return accountView(account);
}

/** SQLSTATE of a bigint that overflows. */
const OUT_OF_RANGE = '22003';

const TopUpResult = z.object({ outcome: z.enum(['ok', 'account_missing', 'currency_mismatch']) });

export interface TopUp extends AccountKey {
  amountMinor: bigint;
  correlationId: string;
  actor: string;
  /** Makes the top-up idempotent: one reference is booked once. A fresh one when left out. */
  reference?: string;
}

/**
 * Adds money to an account from the top-up clearing account. Idempotent when it is given a reference.
 * @throws RemitError not_found when the user has no account in that currency; unprocessable when the balance would be
 *   larger than an account can hold (2^63 - 1 minor units).
 */
export async function topUp(db: Database, { reference, amountMinor, ...rest }: TopUp): Promise<AccountView> {
  const input = {
    ...rest,
    amountMinor: amountMinor.toString(),
    reference: `top_up:${reference ?? randomUUID()}`,
  };
  const { outcome } = await callMoneyFunction(db, 'top_up', input, TopUpResult, accountKey(rest)).catch(
    (error: unknown) => {
      if (!(error instanceof DataRefusedError) || error.code !== OUT_OF_RANGE) throw error;
      throw new RemitError('unprocessable', 'The balance would be larger than an account can hold.');
    },
  );
  if (outcome !== 'ok') throw new RemitError('not_found', `the user has no account in ${rest.currency}`);
  return getAccount(db, { tenantId: rest.tenantId, userId: rest.userId, currency: rest.currency });
}
