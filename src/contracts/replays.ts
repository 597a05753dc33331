import { z } from 'zod';
import { cleanText, Instant, page, PageQuery } from './http';
import { Timestamp } from './times';
import { DeliveryStatus, EventTypePattern } from './webhooks';

/** What the API takes and answers for deliveries that are sent again. Requests are strict, as in http.ts. */

const CreatedKind = z.enum(['failed', 'all', 'missed']).meta({
  description:
    'failed: exhausted deliveries created in the time; all: every event of the time; missed: events of the time that the subscription never got, and deliveries that were held or wait',
});
const ReplayKind = z.enum([...CreatedKind.options, 'retry', 'cancel']).meta({
  description:
    'failed, all, missed: as they were asked for; retry: deliveries in one of the statuses, tried now, of one subscription or all of the tenant; cancel: likewise, those that are pending end',
});

const whichAndHowFast = {
  eventTypes: z.array(EventTypePattern).max(50).default([]).meta({ description: 'all when empty' }),
  ratePerSecond: z
    .int()
    .min(1)
    .max(10_000)
    .optional()
    .meta({ description: 'deliveries a second; more than the server allows is lowered to that' }),
};

export const CreateReplayBody = z
  .strictObject({
    subscriptionId: z.string().regex(/^[\w-]{1,64}$/, { error: 'not an id of a subscription' }),
    kind: CreatedKind,
    since: Timestamp,
    until: Timestamp.optional().meta({ description: 'now when left out' }),
    ...whichAndHowFast,
  })
  .meta({
    id: 'CreateReplay',
    example: {
      subscriptionId: 'sub_0123456789abcdef',
      kind: 'missed',
      since: '2026-01-01T00:00:00Z',
      eventTypes: ['remit.payment.*'],
    },
  });

const ReplayStatus = z.enum(['running', 'paused', 'done', 'cancelled', 'stopped']);
export const ReplaysQuery = PageQuery.extend({
  subscriptionId: cleanText(128).optional(),
  status: ReplayStatus.optional(),
});

export const Replay = z
  .object({
    id: z.string(),
    subscriptionId: z
      .string()
      .nullable()
      .meta({ description: 'null for a retry or cancel of all of the tenant' }),
    kind: ReplayKind,
    statuses: z.array(DeliveryStatus).meta({ description: 'of a retry; empty for the others' }),
    eventTypes: z.array(z.string()),
    eventId: z.string().nullable().meta({ description: 'of a retry or cancel: only that event’s' }),
    since: Instant,
    until: Instant,
    ratePerSecond: z.int(),
    status: ReplayStatus,
    statusReason: z.string().nullable(),
    examined: z.int().meta({ description: 'events or deliveries looked at' }),
    replayed: z.int().meta({ description: 'deliveries sent again, or cancelled' }),
    reachedAt: Instant.nullable().meta({ description: 'how far in the period it has come' }),
    createdAt: Instant,
    finishedAt: Instant.nullable(),
  })
  .meta({ id: 'Replay' });
export const ReplayPage = page(Replay, 'ReplayPage');

/** Which deliveries something is done to, as their list is filtered. */
const chosenDeliveries = {
  subscriptionId: cleanText(128)
    .optional()
    .meta({ description: 'its id or uid; all of the tenant when left out' }),
  eventId: cleanText(128).optional().meta({ description: 'only of this event' }),
  since: Timestamp.optional().meta({ description: 'made from then on; all when left out' }),
  until: Timestamp.optional().meta({ description: 'made before then; now when left out' }),
  ...whichAndHowFast,
  dryRun: z.boolean().default(false).meta({ description: 'only count' }),
};

export const RetryDeliveriesBody = z
  .strictObject({
    ...chosenDeliveries,
    statuses: z
      .array(DeliveryStatus)
      .min(1)
      .max(5)
      .default(['pending'])
      .meta({ description: 'which deliveries; by default those that wait for their next attempt' }),
  })
  .meta({
    id: 'RetryDeliveries',
    example: { subscriptionId: 'sub_0123456789abcdef', statuses: ['pending', 'exhausted'], dryRun: true },
  });

export const CancelDeliveriesBody = z.strictObject(chosenDeliveries).meta({
  id: 'CancelDeliveries',
  example: { subscriptionId: 'sub_0123456789abcdef', eventTypes: ['invoice.*'], dryRun: true },
});

export const DeliveriesRetried = z
  .object({
    matched: z.int().meta({ description: 'deliveries that it is for at the moment; counted up to 100,000' }),
    replay: Replay.nullable(),
  })
  .meta({ id: 'DeliveriesRetried' });

export const ResumeBody = z
  .strictObject({
    missed: z.boolean().default(false).meta({
      description: 'also send events of the time that it never got',
    }),
  })
  .meta({ id: 'ResumeSubscription', example: { missed: true } });

export const SubscriptionOperated = z
  .object({
    id: z.string(),
    state: z.enum(['active', 'paused']),
    missedSince: Instant.nullable().meta({
      description: 'since when a resumed subscription has missed something',
    }),
    replay: Replay.nullable(),
  })
  .meta({ id: 'SubscriptionOperated' });

export const ResendBody = z
  .strictObject({
    onlyIf: z.enum(['exhausted', 'delivered', 'cancelled', 'held']).optional().meta({
      description:
        'the state that the delivery must be in; in another one nothing is done, and the answer is 409',
    }),
  })
  .meta({ id: 'ResendDelivery', example: { onlyIf: 'exhausted' } });

export const DeliveryAction = z
  .object({ id: z.string(), workflowId: z.string().meta({ description: 'in Temporal' }) })
  .meta({ id: 'DeliveryAction' });
