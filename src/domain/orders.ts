import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import { HEADERS, type PaymentMethod, type PaymentRequestEvent } from '../contracts/messages';
import { formatMinor } from '../contracts/money';
import type { OrderStatus, PayOrderResult } from '../contracts/workflows';
import type { Order } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { annotate, traceHeaderHere } from '../platform/tracing';
import { accountKey, callMoneyFunction } from './money-transaction';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';

/** A user's order. NEW until its payment is decided: at once from the balance, or by its provider. */
export interface OrderView {
  id: string;
  userId: string;
  amountMinor: bigint;
  currency: string;
  description: string;
  paymentMethod: PaymentMethod;
  status: OrderStatus;
  failureCode: string | null;
  createdAt: Date;
  decidedAt: Date | null;
  /** When it is cancelled unless its provider has paid it; null when the balance pays. */
  expiresAt: Date | null;
}

/** An order's row as everything above shows it. */
export function orderView(order: Order): OrderView {
  const { id, userId, amountMinor, currency, description, failureCode, createdAt, decidedAt, expiresAt } =
    order;
  return {
    id,
    userId,
    amountMinor,
    currency,
    description,
    paymentMethod: order.paymentMethod as PaymentMethod,
    status: order.status as OrderStatus,
    failureCode,
    createdAt,
    decidedAt,
    expiresAt,
  };
}

export interface NewOrder {
  /** Makes the creation idempotent: an order of this id that exists already is returned. A fresh one when left out. */
  id?: string;
  tenantId: string;
  userId: string;
  amountMinor: bigint;
  currency: string;
  description: string;
  /** `balance` when left out. */
  paymentMethod?: PaymentMethod;
  /** How long an order that a provider pays waits for it. */
  expiresAfterMs?: number;
  correlationId: string;
}

/**
 * Saves an order as NEW. One that the balance pays asks for it in the same transaction, by a payment request in the
 * outbox; one that a provider pays waits for the provider's webhook until it expires. Idempotent when it is given an id.
 */
export async function createOrder(
  db: Database,
  { id = randomUUID(), paymentMethod = 'balance', expiresAfterMs, ...order }: NewOrder,
): Promise<OrderView> {
  const request: PaymentRequestEvent = {
    event: 'payment-request',
    orderId: id,
    userId: order.userId,
    amount: formatMinor(order.amountMinor, order.currency),
    currency: order.currency,
    requestedAt: new Date().toISOString(),
  };
  annotate(() => ({ 'remit.order_id': id }));
  // One statement is one transaction and one round trip: Prisma's would hold a connection for four.
  await db.pool.query({
    name: 'create order',
    text: `
      WITH placed AS (
        INSERT INTO orders (id, tenant_id, user_id, amount_minor, currency, description, correlation_id, payment_method,
                            expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9::bigint * interval '1 millisecond')
        ON CONFLICT (id) DO NOTHING RETURNING id, payment_method)
      INSERT INTO outbox (topic, key, value, headers)
      SELECT 'payment-request', id, $10, $11 FROM placed WHERE payment_method = 'balance'`,
    values: [
      id,
      order.tenantId,
      order.userId,
      order.amountMinor,
      order.currency,
      order.description,
      order.correlationId,
      paymentMethod,
      paymentMethod === 'provider' ? expiresAfterMs : null,
      JSON.stringify(request),
      { [HEADERS.correlationId]: order.correlationId, ...traceHeaderHere() },
    ],
  });
  const created = await getOrder(db, { tenantId: order.tenantId, userId: order.userId, id });
  if (created.amountMinor !== order.amountMinor || created.paymentMethod !== paymentMethod)
    throw new Error(`order ${id} exists with another amount or payment method`);
  return created;
}

/** @throws RemitError not_found, also for another user's order. */
export async function getOrder(
  db: Database,
  { tenantId, userId, id }: { tenantId: string; userId: string; id: string },
): Promise<OrderView> {
  const order = await db.prisma.order.findFirst({ where: { id, tenantId, userId } });
  if (!order) throw new RemitError('not_found', `there is no order ${id}`);
  return orderView(order);
}

/** A user's orders, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listOrders(
  db: Database,
  {
    tenantId,
    userId,
    limit,
    cursor,
  }: { tenantId: string; userId: string; limit: number; cursor?: string | undefined },
): Promise<Page<OrderView>> {
  const rows = await db.prisma.order.findMany({
    where: { tenantId, userId, ...afterCursor(cursor) },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, orderView);
}

const PayOrderRow = z.object({
  outcome: z.enum(['applied', 'duplicate', 'unknown_order', 'payment_method_mismatch', 'event_conflict']),
  status: z.enum(['NEW', 'FINISHED', 'CANCELLED', 'CHARGED_BACK']).nullable(),
  failureCode: z.string().nullable(),
});

/** The request to pay an order from its user's balance. */
export interface OrderPayment {
  orderId: string;
  userId: string;
  amountMinor: string;
  currency: string;
  correlationId: string;
}

/**
 * Debits the user and decides the order in one SERIALIZABLE transaction: FINISHED, or CANCELLED without funds. An order
 * that a provider pays is never debited: `payment_method_mismatch`. Idempotent: `payment_attempts` has one row per order, so
 * that a repeated call is a `duplicate`.
 * @throws ConflictsExhaustedError, and what the database throws in an outage.
 */
export async function payOrder(db: Database, payment: OrderPayment): Promise<PayOrderResult> {
  return callMoneyFunction(db, 'pay_order', { ...payment }, PayOrderRow, accountKey(payment));
}

const ExpireOrderRow = PayOrderRow.extend({
  outcome: z.enum(['applied', 'duplicate', 'noted', 'unknown_order']),
});

/**
 * Cancels an order that its provider has not paid in time; before its time, or when it was decided otherwise, nothing
 * changes (`noted`). Idempotent: repeated, it is a `duplicate`.
 * @throws ConflictsExhaustedError, and what the database throws in an outage.
 */
export async function expireOrder(db: Database, orderId: string): Promise<z.infer<typeof ExpireOrderRow>> {
  return callMoneyFunction(db, 'expire_order', { orderId }, ExpireOrderRow);
}
