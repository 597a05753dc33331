import type { DeliveryDeadLetter, DeliveryStatus } from '../contracts/webhooks';
import type { Database } from '../platform/postgres';

/** How deliveries end without an attempt, and what is told of one that ended exhausted. */

/** How a delivery can end without an attempt. */
export type EndStatus = 'exhausted' | 'cancelled' | 'held';

export interface DeliveryEnd {
  deliveryId: string;
  status: EndStatus;
  reason: string;
  /** Of whoever ends it; one that was sent again since is left alone. Any, when left out. */
  generation?: number;
}

/**
 * Ends a pending delivery without another attempt. Idempotent: a finished one stays as it is. None is held whose
 * subscription gets events again: nobody would bring it back.
 * @returns the state that the delivery is in afterwards; undefined when it does not exist, or not in this generation.
 */
export async function finishDelivery(
  db: Pick<Database, 'pool'>,
  { deliveryId, status, reason, generation }: DeliveryEnd,
): Promise<DeliveryStatus | undefined> {
  const { rows } = await db.pool.query<{ status: DeliveryStatus }>({
    name: 'finish_delivery_of_generation',
    // The lock waits for a resume that is under way, and sees what it has done.
    text: `WITH resumed AS MATERIALIZED (
             SELECT s.state IN ('active', 'failing') AS it FROM subscriptions s
              WHERE $2 = 'held' AND s.id = (SELECT d.subscription_id FROM deliveries d WHERE d.id = $1) FOR SHARE),
           ends AS (SELECT NOT coalesce((SELECT it FROM resumed), false) AS it)
           UPDATE deliveries d
              SET finished_at = CASE WHEN d.status = 'pending' AND ends.it THEN now() ELSE finished_at END,
                  last_error = CASE WHEN d.status = 'pending' AND ends.it THEN $3 ELSE last_error END,
                  in_lane = d.in_lane AND NOT (d.status = 'pending' AND ends.it),
                  next_attempt_at = CASE WHEN NOT (d.status = 'pending' AND ends.it) THEN d.next_attempt_at END,
                  status = CASE WHEN d.status = 'pending' AND ends.it THEN $2 ELSE d.status END
             FROM ends WHERE id = $1 AND d.generation = coalesce($4::integer, d.generation) RETURNING status`,
    values: [deliveryId, status, reason, generation ?? null],
  });
  return rows[0]?.status;
}

/** Ends those of these deliveries that are pending and whose events are no longer kept. Idempotent. */
export async function endWithoutEvents(db: Pick<Database, 'pool'>, ids: readonly string[]): Promise<void> {
  await db.pool.query({
    name: 'end_without_events',
    text: `UPDATE deliveries d
              SET status = 'cancelled', finished_at = now(), last_error = 'the event is no longer kept',
                  in_lane = false, next_attempt_at = NULL
            WHERE d.id = ANY($1::uuid[]) AND d.status = 'pending'
              AND NOT EXISTS (SELECT FROM webhook_events e WHERE e.id = d.event_id)`,
    values: [ids],
  });
}

/** An exhausted delivery as its dead letter describes it; undefined when it or its event is no longer kept. */
export async function loadDeadLetter(
  db: Pick<Database, 'prisma'>,
  deliveryId: string,
): Promise<DeliveryDeadLetter | undefined> {
  const delivery = await db.prisma.delivery.findUnique({
    where: { id: deliveryId },
    include: {
      subscription: { select: { url: true } },
      attemptLog: { orderBy: { attempt: 'desc' }, take: 1 },
    },
  });
  // Not by the relation: without a foreign key the event may be gone, and Prisma would take that for corruption.
  const event = delivery && (await db.prisma.webhookEvent.findUnique({ where: { id: delivery.eventId } }));
  if (!event) return undefined;
  const { id, tenantId, eventId, subscriptionId, eventType, attempts, createdAt, finishedAt } = delivery;
  const last = delivery.attemptLog[0];
  return {
    delivery: {
      id,
      tenantId,
      eventId,
      subscriptionId,
      eventType,
      url: delivery.subscription.url,
      attempts,
      createdAt: createdAt.toISOString(),
      finishedAt: (finishedAt ?? new Date()).toISOString(),
    },
    event: { id: event.id, type: event.type, body: event.body },
    lastAttempt: last
      ? {
          ...{ attempt: last.attempt, startedAt: last.startedAt.toISOString(), durationMs: last.durationMs },
          ...{ result: last.result, statusCode: last.statusCode, error: last.error },
          responseBody: last.responseBody,
        }
      : null,
  };
}
