import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import type { PaymentType } from '../contracts/messages';
import type { PaymentStatus, ProviderEvent, SettleResult } from '../contracts/workflows';
import type { Payment } from '../generated/prisma/client';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { annotate } from '../platform/tracing';
import { accountKey, callMoneyFunction } from './money-transaction';
import { afterCursor, createdWithin, NEWEST_FIRST, toPage, type Page } from './pages';

/** A payment (money in) or payout (money out) that a provider reports on. */
export interface PaymentView {
  /** The provider's transactionId. */
  id: string;
  type: PaymentType;
  provider: string;
  userId: string;
  amountMinor: bigint;
  currency: string;
  status: PaymentStatus;
  failureCode: string | null;
  createdAt: Date;
  expiresAt: Date;
  settledAt: Date | null;
}

function view(payment: Payment): PaymentView {
  const { id, provider, userId, amountMinor, currency, failureCode, createdAt, expiresAt, settledAt } =
    payment;
  return {
    id,
    type: payment.type as PaymentType,
    provider,
    userId,
    amountMinor,
    currency,
    status: payment.status as PaymentStatus,
    failureCode,
    createdAt,
    expiresAt,
    settledAt,
  };
}

export interface NewPayment {
  /** Makes the creation idempotent: what exists under this id already is returned. A fresh one when left out. */
  id?: string;
  tenantId: string;
  type: PaymentType;
  provider: string;
  userId: string;
  amountMinor: bigint;
  currency: string;
  /** Payouts: set the money aside now, so that the provider's success can't lack funds. */
  reserve: boolean;
  expiresAfterMs: number;
  correlationId: string;
  actor: string;
}

const ReserveResult = z.object({
  outcome: z.enum(['ok', 'insufficient_funds', 'account_missing', 'currency_mismatch']),
  id: z.string().optional(),
});

/**
 * Creates the payment or payout that a provider will report on. A payout with `reserve` sets its money aside; without
 * funds it comes back `failed` with `insufficient_funds`. Idempotent when it is given an id.
 * @throws RemitError account_missing when the user has no account in the currency.
 */
export async function createPayment(db: Database, payment: NewPayment): Promise<PaymentView> {
  const { tenantId, userId, currency, expiresAfterMs, reserve: _, actor, amountMinor, ...rest } = payment;
  const missing = new RemitError('account_missing', `the user has no account in ${currency}`, [
    { path: 'userId', message: `has no account in ${currency}` },
  ]);
  if (payment.type === 'payout' && payment.reserve) {
    const input = {
      ...rest,
      tenantId,
      userId,
      currency,
      expiresAfterMs,
      actor,
      amountMinor: amountMinor.toString(),
    };
    const { id } = await callMoneyFunction(db, 'reserve_payout', input, ReserveResult, accountKey(input));
    if (id === undefined) throw missing;
    return getPayment(db, { tenantId, id });
  }
  const account = await db.prisma.account.findUnique({
    where: { tenantId_userId_currency: { tenantId, userId, currency } },
    select: { id: true },
  });
  if (!account) throw missing;
  const data = { ...rest, tenantId, userId, currency, amountMinor, accountId: account.id };
  const [created] = await db.prisma.payment.createManyAndReturn({
    data: [{ ...data, expiresAt: new Date(Date.now() + expiresAfterMs) }],
    skipDuplicates: true,
  });
  annotate(() => ({ 'remit.payment_id': created?.id ?? payment.id }));
  return created ? view(created) : getPayment(db, { tenantId, id: payment.id ?? '', type: payment.type });
}

/** @throws RemitError not_found, also for another tenant's. */
export async function getPayment(
  db: Database,
  { tenantId, id, type }: { tenantId: string; id: string; type?: PaymentType },
): Promise<PaymentView> {
  const payment = await db.prisma.payment.findFirst({ where: { id, tenantId, ...(type ? { type } : {}) } });
  if (!payment) throw new RemitError('not_found', `there is no ${type ?? 'payment'} ${id}`);
  return view(payment);
}

export interface PaymentFilter {
  tenantId: string;
  type?: PaymentType | undefined;
  userId?: string | undefined;
  status?: PaymentStatus | undefined;
  provider?: string | undefined;
  /** Made from this moment on. */
  since?: Date | undefined;
  /** Made before this moment. */
  until?: Date | undefined;
  limit: number;
  cursor?: string | undefined;
}

/** Payments and payouts, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listPayments(db: Database, filter: PaymentFilter): Promise<Page<PaymentView>> {
  const { tenantId, type, userId, status, provider, since, until, limit, cursor } = filter;
  const rows = await db.prisma.payment.findMany({
    where: {
      tenantId,
      ...(type && { type }),
      ...(userId && { userId }),
      ...(status && { status }),
      ...(provider && { provider }),
      AND: [createdWithin({ since, until }), afterCursor(cursor)],
    },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

const SettleRow = z.object({
  outcome: z.enum([
    'applied',
    'noted',
    'duplicate',
    'contradiction',
    'unknown_transaction',
    'amount_mismatch',
    'type_mismatch',
    'event_conflict',
  ]),
  status: z.enum(['pending', 'succeeded', 'failed', 'expired']).nullable(),
  failureCode: z.string().nullable(),
  userId: z.string().nullable(),
  expiresAt: z.string().nullable(),
});

/** An event to settle: a provider's, or our own expiry. */
export type SettleInput = Omit<ProviderEvent, 'source'> & { actor?: string };

/**
 * Applies one event to its payment or payout: status, balance, audit, outbox and deliveries in one SERIALIZABLE
 * transaction. Idempotent: the unique key (provider, providerEventId) makes a repeated event a `duplicate`.
 * @throws ConflictsExhaustedError, and what the database throws in an outage.
 */
export async function settleProviderEvent(
  db: Database,
  event: SettleInput,
): Promise<Omit<SettleResult, 'waitUntil'>> {
  const result = await callMoneyFunction(db, 'settle_provider_event', { ...event }, SettleRow, () =>
    laneOfPayment(db, event.transactionId),
  );
  const { provider, type, status, currency } = event;
  metrics.providerEvents.inc({ provider, type, status, outcome: result.outcome });
  if (result.outcome === 'applied' && result.status === 'succeeded')
    metrics.providerAmount.inc({ provider, type, currency }, Number(event.amountMinor));
  return result;
}

/** The lane of a payment's account; undefined when there is no such payment. */
async function laneOfPayment(db: Database, id: string): Promise<string | undefined> {
  const payment = await db.prisma.payment.findUnique({
    where: { id },
    select: { userId: true, currency: true },
  });
  return payment ? accountKey(payment) : undefined;
}
