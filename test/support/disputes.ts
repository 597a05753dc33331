import { randomUUID } from 'node:crypto';
import { settleDisputeEvent } from '../../src/domain/disputes';
import { settleOrderEvent } from '../../src/domain/order-webhooks';
import { createOrder, payOrder, type OrderView } from '../../src/domain/orders';
import { refundOrder } from '../../src/domain/refunds';
import type { PaymentMethod } from '../../src/contracts/messages';
import type { DisputeEvent, OrderEvent } from '../../src/contracts/workflows';
import type { Database } from '../../src/platform/postgres';
import { CURRENCY, TENANT, userWith } from './money';

export const PROVIDER = 'payments';
const DAY_MS = 86_400_000;

/** A NEW order of the user, which the balance pays unless told otherwise. */
export function placeOrder(
  db: Database,
  userId: string,
  amountMinor = 5_000n,
  paymentMethod: PaymentMethod = 'balance',
  expiresAfterMs = DAY_MS,
): Promise<OrderView> {
  return createOrder(db, {
    tenantId: TENANT,
    userId,
    amountMinor,
    currency: CURRENCY,
    description: 'Test order',
    paymentMethod,
    expiresAfterMs,
    correlationId: 'test',
  });
}

/** A NEW order that a provider pays, of a user with nothing but an account when none is named. */
export async function placeProviderOrder(db: Database, userId?: string): Promise<OrderView> {
  return placeOrder(db, userId ?? (await userWith(db)), 5_000n, 'provider');
}

export const payFromBalance = (db: Database, { id, userId, amountMinor, currency }: OrderView) =>
  payOrder(db, {
    orderId: id,
    userId,
    amountMinor: amountMinor.toString(),
    currency,
    correlationId: 'test',
  });

/** An order of a fresh user, paid from the balance; nothing is left on the account. */
export async function paidOrder(db: Database, amountMinor = 5_000n): Promise<OrderView> {
  const order = await placeOrder(db, await userWith(db, amountMinor), amountMinor);
  await payFromBalance(db, order);
  return { ...order, status: 'FINISHED' };
}

/** What a provider says of an order; each call is another event unless told otherwise. */
export function orderEventOf(
  order: OrderView,
  status: OrderEvent['status'],
  changes: Partial<OrderEvent> = {},
): Omit<OrderEvent, 'source'> {
  const { source: _, ...rest } = changes;
  const providerEventId = rest.providerEventId ?? randomUUID();
  return {
    provider: PROVIDER,
    providerEventId,
    orderId: order.id,
    userId: order.userId,
    status,
    amountMinor: order.amountMinor.toString(),
    currency: order.currency,
    payloadHash: `${providerEventId}:${status}:${rest.amountMinor ?? ''}`,
    receivedAt: new Date().toISOString(),
    correlationId: 'test',
    ...rest,
  };
}

export const settleOrder = (
  db: Database,
  order: OrderView,
  status: OrderEvent['status'],
  changes: Partial<OrderEvent> = {},
) => settleOrderEvent(db, orderEventOf(order, status, changes));

/** A chargeback of an order; each call is another event of the order's one dispute unless told otherwise. */
export function chargebackOf(
  orderId: string,
  status: DisputeEvent['status'],
  changes: Partial<DisputeEvent> = {},
): Omit<DisputeEvent, 'source'> {
  const { source: _, ...rest } = changes;
  const providerEventId = rest.providerEventId ?? randomUUID();
  return {
    provider: PROVIDER,
    providerEventId,
    orderId,
    disputeId: `order-${orderId}`,
    status,
    amountMinor: null,
    currency: null,
    reason: 'fraudulent',
    evidenceDueBy: null,
    payloadHash: `${providerEventId}:${status}:${rest.amountMinor ?? ''}`,
    receivedAt: new Date().toISOString(),
    correlationId: 'test',
    ...rest,
  };
}

export const chargeback = (
  db: Database,
  orderId: string,
  status: DisputeEvent['status'],
  changes: Partial<DisputeEvent> = {},
) => settleDisputeEvent(db, chargebackOf(orderId, status, changes), 7 * DAY_MS);

export const refund = (db: Database, orderId: string, amountMinor: bigint | null, refundId = randomUUID()) =>
  refundOrder(db, {
    refundId,
    tenantId: TENANT,
    orderId,
    amountMinor: amountMinor?.toString() ?? null,
    reason: null,
    actor: 'test',
    correlationId: 'test',
  });

/** What the journal transactions that concern an order (and its dispute) moved, by account: minor units. */
export async function moneyOfOrder(
  db: Database,
  order: OrderView,
  disputeIds: string[] = [`order-${order.id}`],
) {
  const { rows } = await db.pool.query<{ account: string; total: string }>(
    `SELECT coalesce(e.system_account, 'user') AS account, sum(e.amount_minor)::text AS total
       FROM ledger_entries e JOIN journal_transactions j ON j.id = e.journal_id
      WHERE j.reference IN ('order:' || $1, 'order:' || $1 || ':credit')
         OR j.reference ~ ('^dispute:(' || $2 || '):')
         OR j.reference IN (SELECT 'refund:' || id FROM refunds WHERE order_id = $1::uuid)
      GROUP BY 1`,
    [order.id, disputeIds.join('|')],
  );
  return Object.fromEntries(
    rows.filter(({ total }) => total !== '0').map(({ account, total }) => [account, Number(total)]),
  );
}

/** Types of the webhook events that say something of an order or its dispute, oldest first. */
export async function eventTypes(db: Database, aggregateId: string): Promise<string[]> {
  const { rows } = await db.pool.query<{ type: string }>(
    `SELECT value::jsonb->>'type' AS type FROM outbox
      WHERE topic = 'domain.events' AND key = $1 ORDER BY id`,
    [aggregateId],
  );
  return rows.map(({ type }) => type);
}
