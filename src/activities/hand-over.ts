import { DELIVERIES_HANDED_OVER_MAX } from '../contracts/workflows/limits';
import type { DeliveryRef, ToDeliver } from '../contracts/workflows';

/** What a workflow is told of the deliveries that a step has written, however many there are: see ToDeliver. */
export function handOver(deliveries: DeliveryRef[]): ToDeliver {
  if (deliveries.length <= DELIVERIES_HANDED_OVER_MAX) return { deliveries };
  const events = new Map(deliveries.map(({ eventId, correlationId }) => [eventId, correlationId]));
  return {
    deliveries: [],
    deliveriesOf: [...events].map(([eventId, correlationId]) => ({ eventId, correlationId })),
  };
}
