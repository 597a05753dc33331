import type { DeliveryRef } from '../contracts/workflows';
import { purgeEventsStep, type PurgePosition, type PurgeStep } from '../domain/event-retention';
import { fanOutEvent } from '../domain/events';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import type { ActivityDeps } from './deps';

/** What event activities need beside the others' dependencies. */
export interface EventDeps {
  log: Logger;
  config: Pick<Config, 'EVENT_FANOUT_BATCH_ROWS' | 'EVENT_RETENTION_DAYS' | 'EVENT_RETENTION_BATCH_ROWS'>;
}

/** A step of a fan-out; null when there is no such event. */
export interface FanOutResult {
  deliveries: DeliveryRef[];
  next: string | null;
}

/** Durable steps of the event workflow, and of the end of events by age. */
export function createEventActivities({
  db,
  log,
  config,
  deliveryPolicy,
}: Pick<ActivityDeps, 'db' | 'deliveryPolicy'> & EventDeps) {
  return {
    /** Writes the next delivery rows of an event and hands back those that are to be carried out. Idempotent. */
    async fanOutEvent(input: {
      eventId: string;
      after: string;
      correlationId: string;
    }): Promise<FanOutResult | null> {
      const { eventId, after, correlationId } = input;
      const step = await fanOutEvent(db, { eventId, after, limit: config.EVENT_FANOUT_BATCH_ROWS });
      if (step) log.info({ correlationId, eventId, deliveries: step.deliveries.length }, 'event handed out');
      return step
        ? { ...step, deliveries: step.deliveries.map((row) => deliveryPolicy(row, correlationId)) }
        : null;
    },

    /** One bounded step of deleting events that are older than their type is kept. Idempotent. */
    async purgeEvents(from: PurgePosition): Promise<PurgeStep> {
      const { EVENT_RETENTION_DAYS: retentionDays, EVENT_RETENTION_BATCH_ROWS: limit } = config;
      return purgeEventsStep(db, { at: from.at, after: from.after, retentionDays, limit });
    },
  };
}

export type EventActivities = ReturnType<typeof createEventActivities>;
