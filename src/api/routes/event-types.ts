import type { z } from 'zod';
import { RemitError } from '../../contracts/errors';
import {
  CreateEventTypeBody,
  EventType,
  EventTypePage,
  EventTypeParams,
  UpdateEventTypeBody,
} from '../../contracts/events';
import { PageQuery } from '../../contracts/http';
import { EventTypeName } from '../../contracts/webhooks';
import { eventTypes, type EventTypeView } from '../../domain/event-types';
import { actorOf, defineRoute, etagOf, given, pageLimits, type Route } from './route';

function eventTypeOf(eventType: EventTypeView): z.output<typeof EventType> {
  const { name, description, schema, example, version, createdAt, updatedAt } = eventType;
  return {
    ...{ name, description, schema, example, version },
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}

/** A name that no type can have is one that does not exist. */
function nameOf(text: string): string {
  const parsed = EventTypeName.safeParse(text);
  if (!parsed.success) throw new RemitError('not_found', 'There is no such event type.');
  return parsed.data;
}

const ETAG = { ETag: 'its version, for If-Match' };

/** Types of the events that a tenant publishes. Changing them is the administrator's: every subscriber depends on them. */
export const eventTypeRoutes: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/event-types',
    operationId: 'createEventType',
    tag: 'Event types',
    summary: 'Define a type of events, with the JSON Schema of their data',
    description: 'Names that begin with remit. are kept for remit’s own events.',
    access: 'token',
    scope: 'admin',
    body: CreateEventTypeBody,
    anyJson: true,
    responses: {
      201: {
        description: 'The event type',
        schema: EventType,
        headers: { Location: 'where it is', ...ETAG },
      },
    },
    problems: ['conflict', 'unprocessable', 'schema_too_complex'],
    async handle({ deps, body, ...call }) {
      const created = await eventTypes.create(
        deps.database,
        deps.eventSchemas,
        actorOf(call),
        body,
        deps.config.EVENT_TYPES_MAX_PER_TENANT,
      );
      return {
        status: 201,
        body: eventTypeOf(created),
        headers: { Location: `/api/v1/event-types/${created.name}`, ...etagOf(created) },
      };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/event-types',
    operationId: 'listEventTypes',
    tag: 'Event types',
    summary: 'List event types, newest first',
    access: 'token',
    query: PageQuery,
    responses: { 200: { description: 'A page of event types', schema: EventTypePage } },
    async handle({ deps, caller, query }) {
      const page = await eventTypes.list(deps.database, {
        tenantId: caller.tenantId,
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: { items: page.items.map(eventTypeOf), nextCursor: page.nextCursor } };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/event-types/:name',
    operationId: 'getEventType',
    tag: 'Event types',
    summary: 'Read an event type',
    access: 'token',
    params: EventTypeParams,
    responses: { 200: { description: 'The event type', schema: EventType, headers: ETAG } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const found = await eventTypes.get(deps.database, caller.tenantId, nameOf(params.name));
      return { status: 200, body: eventTypeOf(found), headers: etagOf(found) };
    },
  }),
  defineRoute({
    method: 'patch',
    path: '/api/v1/event-types/:name',
    operationId: 'updateEventType',
    tag: 'Event types',
    summary: 'Change the given fields of an event type',
    description: 'Holds for what is published from now on; existing events are not checked again.',
    access: 'token',
    scope: 'admin',
    ifMatch: 'required',
    params: EventTypeParams,
    body: UpdateEventTypeBody,
    anyJson: true,
    responses: { 200: { description: 'The event type', schema: EventType, headers: ETAG } },
    problems: ['not_found', 'schema_too_complex'],
    async handle({ deps, params, body, expected, ...call }) {
      const updated = await eventTypes.update(deps.database, deps.eventSchemas, actorOf(call), {
        key: nameOf(params.name),
        expected,
        changes: given(body),
      });
      return { status: 200, body: eventTypeOf(updated), headers: etagOf(updated) };
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/api/v1/event-types/:name',
    operationId: 'deleteEventType',
    tag: 'Event types',
    summary: 'Delete an event type: no event of it can be published any more',
    access: 'token',
    scope: 'admin',
    ifMatch: 'optional',
    params: EventTypeParams,
    responses: { 204: { description: 'It is deleted' } },
    problems: ['not_found'],
    async handle({ deps, params, expected, ...call }) {
      await eventTypes.remove(deps.database, actorOf(call), { key: nameOf(params.name), expected });
      return { status: 204 };
    },
  }),
];
