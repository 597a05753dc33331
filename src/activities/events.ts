import { purgeEventsStep, type PurgePosition, type PurgeStep } from '../domain/event-retention';
import type { Config } from '../platform/config';
import type { ActivityDeps } from './deps';

/** What event activities need in addition to the others' dependencies. */
export interface EventDeps {
  config: Pick<Config, 'EVENT_RETENTION_DAYS' | 'EVENT_RETENTION_BATCH_ROWS'>;
}

/** Durable steps of the retention of events. */
export function createEventActivities({ db, config }: Pick<ActivityDeps, 'db'> & EventDeps) {
  return {
    /** One bounded step of deleting events that are older than their type is kept. Idempotent. */
    async purgeEvents(from: PurgePosition): Promise<PurgeStep> {
      const { EVENT_RETENTION_DAYS: retentionDays, EVENT_RETENTION_BATCH_ROWS: limit } = config;
      return purgeEventsStep(db, { at: from.at, after: from.after, retentionDays, limit });
    },
  };
}

export type EventActivities = ReturnType<typeof createEventActivities>;
