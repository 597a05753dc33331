import type { PaymentRequest, PayOrderResult } from '../contracts/workflows';
import { payOrder } from '../domain/orders';
import type { ActivityDeps } from './deps';

/** Durable steps of the order workflow. */
export function createOrderActivities({ db }: ActivityDeps) {
  return {
    /** Debits the user and decides the order. Idempotent: one attempt an order. */
    async payOrder({ source: _, ...payment }: PaymentRequest): Promise<PayOrderResult> {
      return payOrder(db, payment);
    },
  };
}

export type OrderActivities = ReturnType<typeof createOrderActivities>;
