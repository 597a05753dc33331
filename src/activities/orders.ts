import type { PaymentRequest, PayOrderResult } from '../contracts/workflows';
import { payOrder } from '../domain/orders';
import type { ActivityDeps } from './deps';
import { handOver } from './hand-over';

/** Durable steps of the order workflow. */
export function createOrderActivities({ db, deliveryPolicy }: ActivityDeps) {
  return {
    /** Debits the user and decides the order. Idempotent: one attempt an order. */
    async payOrder({ source: _, ...payment }: PaymentRequest): Promise<PayOrderResult> {
      const { deliveries, ...result } = await payOrder(db, payment);
      return { ...result, ...handOver(deliveries.map((row) => deliveryPolicy(row, payment.correlationId))) };
    },
  };
}

export type OrderActivities = ReturnType<typeof createOrderActivities>;
