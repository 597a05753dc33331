import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import type { RefundInput, RefundResult } from '../contracts/workflows';
import type { Order, Refund } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { callMoneyFunction } from './money-transaction';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';

/** Money of an order that went back to its user's balance; minor units. */
export interface RefundView {
  id: string;
  orderId: string;
  amountMinor: bigint;
  currency: string;
  reason: string | null;
  createdAt: Date;
}

function view({ id, orderId, amountMinor, currency, reason, createdAt }: Refund): RefundView {
  return { id, orderId, amountMinor, currency, reason, createdAt };
}

/** What of a paid order's amount is where; minor units. */
export interface OrderMoney {
  currency: string;
  refundedMinor: bigint;
  /** Neither refunded, nor held for a dispute, nor lost in one. The database's `order_left` says the same. */
  refundableMinor: bigint;
}

function moneyOf(order: Order): OrderMoney {
  const { status, currency, amountMinor, refundedMinor, disputedMinor, chargedBackMinor } = order;
  const paid = status === 'FINISHED' || status === 'CHARGED_BACK';
  return {
    currency,
    refundedMinor,
    refundableMinor: paid ? amountMinor - refundedMinor - disputedMinor - chargedBackMinor : 0n,
  };
}

/** @throws RemitError not_found, also for another tenant's order. */
export async function getOrderMoney(
  db: Database,
  { tenantId, orderId }: { tenantId: string; orderId: string },
): Promise<OrderMoney> {
  const order = await db.prisma.order.findFirst({ where: { id: orderId, tenantId } });
  if (!order) throw new RemitError('not_found', `there is no order ${orderId}`);
  return moneyOf(order);
}

const RefundRow = z.object({
  outcome: z.enum(['ok', 'duplicate', 'unknown_order', 'not_paid', 'exceeds']),
  refundId: z.string().nullable(),
  refundableMinor: z.string().nullable(),
});

/**
 * Gives money of a paid order back to its user's balance (opening the account when there is none), with the event
 * `order.refunded`, in one SERIALIZABLE transaction. Idempotent by `refundId`. What is refunded, disputed and charged
 * back is never more than what was paid: `exceeds`.
 * @throws ConflictsExhaustedError, and what the database throws in an outage.
 */
export async function refundOrder(db: Database, refund: RefundInput): Promise<RefundResult> {
  return callMoneyFunction(db, 'refund_order', { ...refund }, RefundRow);
}

/** @throws RemitError not_found. */
export async function getRefund(
  db: Database,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<RefundView> {
  const refund = await db.prisma.refund.findFirst({ where: { id, tenantId } });
  if (!refund) throw new RemitError('not_found', `there is no refund ${id}`);
  return view(refund);
}

/** An order's refunds, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listRefunds(
  db: Database,
  filter: { tenantId: string; orderId: string; limit: number; cursor?: string | undefined },
): Promise<Page<RefundView>> {
  const { tenantId, orderId, limit, cursor } = filter;
  const rows = await db.prisma.refund.findMany({
    where: { tenantId, orderId, ...afterCursor(cursor) },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}
