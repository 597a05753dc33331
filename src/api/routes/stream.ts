import { RemitError } from '../../contracts/errors';
import { type Happened, STREAM_KINDS, StreamQuery } from '../../contracts/stream';
import { takeStream, writeStream } from '../event-stream';
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
    handle({ deps, caller, query, lastEventId: header }) {
      const given = query.lastEventId ?? header;
      if (given !== undefined && !/^\d{1,15}$/.test(given))
        throw new RemitError('invalid_request', 'Last-Event-ID is not valid.', [
          { path: 'Last-Event-ID', message: 'not an id that this stream gave' },
        ]);
      const kinds = new Set((query.kinds?.split(',') ?? STREAM_KINDS) as Happened['kind'][]);
      const stream = {
        ...{ tenantId: caller.tenantId, kinds, lastEventId: given },
        seconds: Number(query.seconds),
      };
      return Promise.resolve({
        status: 200,
        headers: { 'Content-Type': 'text/event-stream; charset=utf-8', 'X-Accel-Buffering': 'no' },
        async write(response) {
          if (response.req.method === 'HEAD') return void response.end();
          const release = takeStream(caller.tenantId);
          try {
            await writeStream(deps, response, stream);
          } finally {
            release();
          }
        },
      });
    },
  }),
];
