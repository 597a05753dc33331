import type { DeliveryRef } from '../contracts/workflows';
import type { Config } from '../platform/config';
import type { DeliveryRow } from '../domain/pending-deliveries';

/** Completes a delivery row with the retry policy that applies to it: its event type's, or else the deployment's. */
export function deliveryPolicyOf(config: Pick<Config, 'WEBHOOK_SCHEDULE_MS' | 'WEBHOOK_TIMEOUT_MS'>) {
  return (row: DeliveryRow, correlationId: string): DeliveryRef => ({
    deliveryId: row.deliveryId,
    eventId: row.eventId,
    subscriptionId: row.subscriptionId,
    eventType: row.eventType,
    correlationId,
    scheduleMs: row.scheduleMs ?? config.WEBHOOK_SCHEDULE_MS,
    timeoutMs: row.timeoutMs ?? config.WEBHOOK_TIMEOUT_MS,
    ...(row.ordered && { ordered: true }),
    ...(row.generation && { generation: row.generation, attemptsBefore: row.attemptsBefore ?? 0 }),
  });
}
