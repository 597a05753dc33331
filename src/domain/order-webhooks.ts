import { z } from 'zod';
import type { OrderEvent, OrderEventResult } from '../contracts/workflows';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { callMoneyFunction } from './money-transaction';

const OrderEventRow = z.object({
  outcome: z.enum([
    'applied',
    'credited',
    'noted',
    'duplicate',
    'contradiction',
    'unknown_order',
    'user_mismatch',
    'amount_mismatch',
    'event_conflict',
  ]),
  status: z.enum(['NEW', 'FINISHED', 'CANCELLED', 'CHARGED_BACK']).nullable(),
  failureCode: z.string().nullable(),
});

/**
 * Applies what a provider says of an order, in one SERIALIZABLE transaction (docs/disputes.md has every case).
 * Idempotent: the provider's event id makes a repeated event a `duplicate`.
 * @throws ConflictsExhaustedError, and what the database throws in an outage.
 */
export async function settleOrderEvent(
  db: Database,
  event: Omit<OrderEvent, 'source'>,
): Promise<Omit<OrderEventResult, 'waitUntil' | 'userId'>> {
  const result = await callMoneyFunction(db, 'settle_order_event', { ...event }, OrderEventRow);
  const { provider, status } = event;
  metrics.providerEvents.inc({ provider, type: 'order', status, outcome: result.outcome });
  return result;
}
