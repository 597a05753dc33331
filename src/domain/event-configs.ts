import { RemitError } from '../contracts/errors';
import type { EventConfig } from '../generated/prisma/client';
import { versionedResource } from './versioned-resource';

/** How events of one type are delivered; null is as the deployment is configured. */
export interface EventConfigFields {
  /** false: events are kept and delivered to nobody. */
  enabled: boolean;
  /** Pause before each attempt, in milliseconds; its length is the number of attempts. */
  scheduleMs: number[] | null;
  /** Longest attempt, in milliseconds. */
  timeoutMs: number | null;
  retentionDays: number | null;
  ordered: boolean;
}

export interface EventConfigView extends EventConfigFields {
  id: string;
  eventType: string;
  version: number;
  createdAt: Date;
  updatedAt: Date;
}

function view({ tenantId: _, scheduleMs, ...row }: EventConfig): EventConfigView {
  return { ...row, scheduleMs: scheduleMs.length > 0 ? scheduleMs.map(Number) : null };
}

const stored = ({ scheduleMs, ...fields }: EventConfigFields) => ({
  ...fields,
  scheduleMs: (scheduleMs ?? []).map(BigInt),
});

/**
 * Configs of event types, of remit's own and of the tenant's; the type need not exist yet. They hold for events from now
 * on: existing deliveries keep the schedule that they started with. Without one, a type is delivered as the deployment is
 * configured.
 */
export const eventConfigs = versionedResource<EventConfig, EventConfigView, EventConfigFields>({
  kind: 'event_config',
  plural: 'event configs',
  view,
  fieldsOf: ({ enabled, scheduleMs, timeoutMs, retentionDays, ordered }) => ({
    ...{ enabled, scheduleMs, timeoutMs, retentionDays, ordered },
  }),
  notFound: () => new RemitError('not_found', 'There is no config of this event type.'),
  taken: (eventType) => new RemitError('conflict', `There is a config of ${eventType} already.`),
  table: {
    count: (tx, tenantId) => tx.eventConfig.count({ where: { tenantId } }),
    find: (tx, tenantId, eventType) =>
      tx.eventConfig.findUnique({ where: { tenantId_eventType: { tenantId, eventType } } }),
    page: (tx, where, newestFirst) => tx.eventConfig.findMany({ where, ...newestFirst }),
    create: (tx, tenantId, eventType, fields) =>
      tx.eventConfig.create({ data: { tenantId, eventType, ...stored(fields) } }),
    update: (tx, { key: eventType, ...row }, fields) =>
      tx.eventConfig.updateMany({
        where: { ...row, eventType },
        data: { ...stored(fields), version: { increment: 1 }, updatedAt: new Date() },
      }),
    remove: (tx, { key: eventType, ...row }) => tx.eventConfig.deleteMany({ where: { ...row, eventType } }),
  },
});
