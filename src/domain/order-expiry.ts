import type { Database } from '../platform/postgres';
import { expireOrder } from './orders';
import { expireStep, type Overdue, type ExpiryLimits, type OverdueStep, type OverdueRows } from './expiry';

interface OverdueOrder extends Overdue {
  status: string;
}

/** Overdue orders that a provider was to pay. No workflow runs for an order that no provider has reported on. */
const ORDERS: OverdueRows<OverdueOrder> = {
  job: 'order-expiry',
  sql: `SELECT id, expires_at AS at, status, correlation_id FROM orders
         WHERE (expires_at, id) > ($1::timestamptz, $2::uuid) AND expires_at <= now() - $3 * interval '1 millisecond'
         ORDER BY expires_at, id LIMIT $4`,
  async expire(db, { id, status }) {
    if (status !== 'NEW') return undefined;
    return expireOrder(db, id);
  },
};

/**
 * One bounded step of cancelling orders that their provider has not paid in time (`expireStep`). What the database refuses is
 * found by the reconciliation check `orders_vs_expiry`.
 * @throws DataRefusedError when the database refuses every one of several orders.
 */
export function expireOverdueOrders(db: Database, limits: ExpiryLimits): Promise<OverdueStep> {
  return expireStep(db, ORDERS, limits);
}
