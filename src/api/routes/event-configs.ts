import type { z } from 'zod';
import { RemitError } from '../../contracts/errors';
import {
  CreateEventConfigBody,
  EventConfig,
  EventConfigPage,
  EventConfigParams,
  UpdateEventConfigBody,
} from '../../contracts/events';
import { PageQuery } from '../../contracts/http';
import { EventTypeName } from '../../contracts/webhooks';
import { eventConfigs, type EventConfigView } from '../../domain/event-configs';
import { actorOf, defineRoute, etagOf, given, pageLimits, type Route } from './route';

function eventConfigOf(config: EventConfigView): z.output<typeof EventConfig> {
  const { eventType, enabled, scheduleMs, timeoutMs, retentionDays, ordered, version } = config;
  return {
    ...{ eventType, enabled, scheduleMs, timeoutMs, retentionDays, ordered, version },
    createdAt: config.createdAt.toISOString(),
    updatedAt: config.updatedAt.toISOString(),
  };
}

/** A name that no type can have has no config. */
function nameOf(text: string): string {
  const parsed = EventTypeName.safeParse(text);
  if (!parsed.success) throw new RemitError('not_found', 'There is no config of this event type.');
  return parsed.data;
}

const ETAG = { ETag: 'its version, for If-Match' };

/** How events of each type are delivered. Changing it is the administrator's: it concerns every subscriber. */
export const eventConfigRoutes: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/event-configs',
    operationId: 'createEventConfig',
    tag: 'Event configs',
    summary: 'Define how events of one type are delivered',
    description:
      'For types of remit’s own and of the tenant; the type need not exist yet. Without a config, and where a field is null, the server’s configuration holds.',
    access: 'token',
    scope: 'admin',
    body: CreateEventConfigBody,
    responses: {
      201: {
        description: 'The config',
        schema: EventConfig,
        headers: { Location: 'where it is', ...ETAG },
      },
    },
    problems: ['conflict', 'unprocessable'],
    async handle({ deps, body, ...call }) {
      const { eventType, ...fields } = body;
      const created = await eventConfigs.create(
        deps.database,
        actorOf(call),
        eventType,
        fields,
        deps.config.EVENT_TYPES_MAX_PER_TENANT,
      );
      return {
        status: 201,
        body: eventConfigOf(created),
        headers: { Location: `/api/v1/event-configs/${created.eventType}`, ...etagOf(created) },
      };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/event-configs',
    operationId: 'listEventConfigs',
    tag: 'Event configs',
    summary: 'List event configs, newest first',
    access: 'token',
    query: PageQuery,
    responses: { 200: { description: 'A page of event configs', schema: EventConfigPage } },
    async handle({ deps, caller, query }) {
      const page = await eventConfigs.list(deps.database, {
        tenantId: caller.tenantId,
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: { items: page.items.map(eventConfigOf), nextCursor: page.nextCursor } };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/event-configs/:eventType',
    operationId: 'getEventConfig',
    tag: 'Event configs',
    summary: 'Read the config of an event type',
    access: 'token',
    params: EventConfigParams,
    responses: { 200: { description: 'The config', schema: EventConfig, headers: ETAG } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const found = await eventConfigs.get(deps.database, caller.tenantId, nameOf(params.eventType));
      return { status: 200, body: eventConfigOf(found), headers: etagOf(found) };
    },
  }),
  defineRoute({
    method: 'patch',
    path: '/api/v1/event-configs/:eventType',
    operationId: 'updateEventConfig',
    tag: 'Event configs',
    summary: 'Change the given fields of a config',
    description:
      'Holds for events from now on; existing deliveries keep the schedule that they started with.',
    access: 'token',
    scope: 'admin',
    ifMatch: 'required',
    params: EventConfigParams,
    body: UpdateEventConfigBody,
    responses: { 200: { description: 'The config', schema: EventConfig, headers: ETAG } },
    problems: ['not_found'],
    async handle({ deps, params, body, expected, ...call }) {
      const updated = await eventConfigs.update(deps.database, actorOf(call), {
        key: nameOf(params.eventType),
        expected,
        changes: given(body),
      });
      return { status: 200, body: eventConfigOf(updated), headers: etagOf(updated) };
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/api/v1/event-configs/:eventType',
    operationId: 'deleteEventConfig',
    tag: 'Event configs',
    summary: 'Delete a config: the server’s configuration holds again',
    access: 'token',
    scope: 'admin',
    ifMatch: 'optional',
    params: EventConfigParams,
    responses: { 204: { description: 'It is deleted' } },
    problems: ['not_found'],
    async handle({ deps, params, expected, ...call }) {
      await eventConfigs.remove(deps.database, actorOf(call), {
        key: nameOf(params.eventType),
        expected,
      });
      return { status: 204 };
    },
  }),
];
