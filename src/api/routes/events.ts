import type { z } from 'zod';
import { RemitError } from '../../contracts/errors';
import {
  type Event,
  EventDetail,
  EventPage,
  EventsQuery,
  PublishBatchBody,
  PublishedBatch,
  PublishedEvent,
  PublishEventBody,
} from '../../contracts/events';
import { IdParams } from '../../contracts/http';
import { JsonText } from '../../contracts/json';
import { getEvent, listEvents, type EventView } from '../../domain/events';
import { actorOf, defineRoute, pageLimits, pageOf, timeOf, type Route } from './route';
import { deliveryOf } from './subscriptions';

export function eventOf(event: EventView): z.output<typeof Event> {
  const { id, clientId, source, type, timestamp } = event;
  return {
    ...{ id, clientId, source, type, timestamp },
    createdAt: event.createdAt.toISOString(),
    fannedOutAt: event.fannedOutAt?.toISOString() ?? null,
  };
}

const ABOUT_IDS =
  'The same id with the same content is the same event, and answered with duplicate=true; with other content it is refused with 409.';

/** Publishing, and reading back what was published or emitted by remit. */
export const eventRoutes: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/events',
    operationId: 'publishEvent',
    tag: 'Events',
    summary: 'Publish an event',
    description: `It is stored and will be delivered to every subscription that matches. ${ABOUT_IDS}`,
    access: 'token',
    body: PublishEventBody,
    keeps: ['data'],
    responses: {
      202: {
        description: 'The event is stored',
        schema: PublishedEvent,
        headers: { Location: 'where it is' },
      },
    },
    problems: ['conflict', 'unprocessable', 'schema_too_complex'],
    async handle({ deps, body, operationId, ...call }) {
      const [published] = await deps.eventPublisher.publish(actorOf(call), [body], { operationId });
      return {
        status: 202,
        body: published,
        headers: { Location: `/api/v1/events/${published!.id}` },
      };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/events/batch',
    operationId: 'publishEvents',
    tag: 'Events',
    summary: 'Publish several events, all or none',
    description: ABOUT_IDS,
    access: 'token',
    body: PublishBatchBody,
    keeps: ['events', '*', 'data'],
    responses: { 202: { description: 'The events are stored, in the order given', schema: PublishedBatch } },
    problems: ['conflict', 'unprocessable', 'schema_too_complex'],
    async handle({ deps, body, operationId, ...call }) {
      const max = deps.config.EVENTS_BATCH_MAX_EVENTS;
      if (body.events.length > max)
        throw new RemitError('invalid_request', 'Some fields are not valid.', [
          { path: 'events', message: `must have at most ${max} events` },
        ]);
      const items = await deps.eventPublisher.publish(actorOf(call), body.events, {
        operationId,
        pathOf: (index, field) => `events.${index}.${field}`,
      });
      return { status: 202, body: { items } };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/events',
    operationId: 'listEvents',
    tag: 'Events',
    summary: 'List events, published ones and remit’s own, newest first',
    access: 'token',
    query: EventsQuery,
    responses: { 200: { description: 'A page of events', schema: EventPage } },
    async handle({ deps, caller, query }) {
      const page = await listEvents(deps.database, {
        tenantId: caller.tenantId,
        type: query.type,
        clientId: query.clientId,
        source: query.source,
        ...timeOf(query),
        ...pageLimits(query, deps.config, 'text'),
      });
      return { status: 200, body: pageOf(page, eventOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/events/:id',
    operationId: 'getEvent',
    tag: 'Events',
    summary: 'Read an event with its deliveries',
    access: 'token',
    params: IdParams,
    responses: { 200: { description: 'The event', schema: EventDetail } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      if (!/^[\w-]{1,64}$/.test(params.id)) throw new RemitError('not_found', 'There is no such event.');
      const event = await getEvent(deps.database, {
        tenantId: caller.tenantId,
        id: params.id,
        maxDeliveries: Math.min(50, deps.config.API_PAGE_SIZE_MAX_ROWS),
      });
      const { data, deliveryCounts, deliveries } = event;
      const rest = { ...eventOf(event), deliveryCounts, deliveries: deliveries.map(deliveryOf) };
      return {
        status: 200,
        body: new JsonText(`${JSON.stringify(rest).slice(0, -1)},"data":${data}}`, undefined),
      };
    },
  }),
];
