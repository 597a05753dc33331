import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import { HEADERS, type PaymentRequestEvent } from '../contracts/messages';
import { formatMinor } from '../contracts/money';
import type { OrderStatus, PayOrderResult } from '../contracts/workflows';
import type { Order } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { accountLane, callMoneyFunction } from './money-transaction';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';
import { DeliveryRows, type DeliveryRow } from './payments';

/** A user's order. NEW until its payment is decided. */
export interface OrderView {
  id: string;
  userId: string;
  amountMinor: bigint;
  currency: string;
  description: string;
  status: OrderStatus;
  failureCode: string | null;
  createdAt: Date;
  decidedAt: Date | null;
}

function view(order: Order): OrderView {
  const { id, userId, amountMinor, currency, description, failureCode, createdAt, decidedAt } = order;
  return {
    id,
    userId,
    amountMinor,
    currency,
    description,
    status: order.status as OrderStatus,
    failureCode,
    createdAt,
    decidedAt,
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
  correlationId: string;
}

/** Saves an order as NEW together with its payment request in the outbox. Idempotent when it is given an id. */
export async function createOrder(
  db: Database,
  { id = randomUUID(), ...order }: NewOrder,
): Promise<OrderView> {
  const request: PaymentRequestEvent = {
    event: 'payment-request',
    orderId: id,
    userId: order.userId,
    amount: formatMinor(order.amountMinor, order.currency),
    currency: order.currency,
    requestedAt: new Date().toISOString(),
  };
  // One statement is one transaction and one round trip: Prisma's would hold a connection for four.
  const { rowCount } = await db.pool.query({
    name: 'create order',
    text: `
      WITH placed AS (
        INSERT INTO orders (id, tenant_id, user_id, amount_minor, currency, description, correlation_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING RETURNING id)
      INSERT INTO outbox (topic, key, value, headers) SELECT 'payment-request', id, $8, $9 FROM placed`,
    values: [
      id,
      order.tenantId,
      order.userId,
      order.amountMinor,
      order.currency,
      order.description,
      order.correlationId,
      JSON.stringify(request),
      { [HEADERS.correlationId]: order.correlationId },
    ],
  });
  const created = await getOrder(db, { tenantId: order.tenantId, userId: order.userId, id });
  if (rowCount === 0 && created.amountMinor !== order.amountMinor)
    throw new Error(`order ${id} exists with another amount`);
  return created;
}

/** @throws RemitError not_found, also for another user's order. */
export async function getOrder(
  db: Database,
  { tenantId, userId, id }: { tenantId: string; userId: string; id: string },
): Promise<OrderView> {
  const order = await db.prisma.order.findFirst({ where: { id, tenantId, userId } });
  if (!order) throw new RemitError('not_found', `there is no order ${id}`);
  return view(order);
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
  return toPage(rows, limit, view);
}

const PayOrderRow = z.object({
  outcome: z.enum(['applied', 'duplicate', 'unknown_order', 'event_conflict']),
  status: z.enum(['NEW', 'FINISHED', 'CANCELLED', 'CHARGED_BACK']).nullable(),
  failureCode: z.string().nullable(),
  deliveries: DeliveryRows,
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
 * Debits the user and decides the order in one SERIALIZABLE transaction: FINISHED, or CANCELLED without funds.
 * Idempotent: `payment_attempts` has one row an order, so that a repeated call is a `duplicate`.
 * @throws ConflictsExhaustedError, and what the database throws in an outage.
 */
export async function payOrder(
  db: Database,
  payment: OrderPayment,
): Promise<Omit<PayOrderResult, 'deliveries'> & { deliveries: DeliveryRow[] }> {
  return callMoneyFunction(db, 'pay_order', { ...payment }, PayOrderRow, accountLane(payment));
}
