import type { DeadLetterCode } from '../contracts/errors';
import type { OrderWorkflowInput, PayOrderResult } from '../contracts/workflows';
import { payOrder } from '../domain/orders';
import type { ActivityDeps } from './deps';

/** Durable steps of the order workflow. */
export function createOrderActivities({ db, sendDeadLetter, deliveryPolicy }: ActivityDeps) {
  return {
    /** Debits the user and decides the order. Idempotent: one attempt an order. */
    async payOrder({ source: _, ...payment }: OrderWorkflowInput): Promise<PayOrderResult> {
      const { deliveries, ...result } = await payOrder(db, payment);
      return { ...result, deliveries: deliveries.map((row) => deliveryPolicy(row, payment.correlationId)) };
    },

    /** Puts a payment request that can't be applied on its topic's DLQ. Repeating it may repeat the dead letter. */
    async deadLetterRequest(input: {
      request: OrderWorkflowInput;
      code: DeadLetterCode;
      message: string;
    }): Promise<void> {
      await sendDeadLetter(input.request.source, input.code, input.message);
    },
  };
}

export type OrderActivities = ReturnType<typeof createOrderActivities>;
