import { RemitError } from '../../contracts/errors';
import { StreamQuery } from '../../contracts/stream';
import { defineRoute, type Route } from './route';

export const streamRoutes: Route[] = [
  defineRoute({
    method: 'get',
    path: '/api/v1/stream',
    operationId: 'stream',
    tag: 'Stream',
    summary: 'What happens now, as server-sent events',
    description:
      'Events of the type `happened`, whose data is a Happened document, in the order of time; at least once. Resumable by Last-Event-ID for an hour: with an older one, an event `missed` says since when something may be missing. A comment every 15 seconds keeps the connection open; an event `end` closes it, after which the client comes again.',
    access: 'token',
    query: StreamQuery,
    responses: { 200: { description: 'The stream', contentTypes: ['text/event-stream'] } },
    handle: () => Promise.reject(new RemitError('unavailable', 'not there yet')),
  }),
];
