import { randomUUID } from 'node:crypto';
import type { Request, RequestHandler } from 'express';
import { RemitError } from '../contracts/errors';
import { CORRELATION_ID } from '../contracts/http';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import { TRACEPARENT } from '../contracts/tracing';
import { tracing, type TraceSpan, type Tracing } from '../platform/tracing';
import { sendProblem } from './problem';

/** What belongs to one request. Handed on explicitly; async-local storage would cost every request of the busy path. */
export interface RequestContext {
  /** From X-Correlation-Id, or made here; it goes into logs, Kafka headers, workflows and audit rows. */
  correlationId: string;
  /** The route's template, for metrics: never the path itself, which has no bound on its values. */
  route: string;
}

declare module 'express-serve-static-core' {
  interface Request {
    remit: RequestContext;
  }
}

/** The request's path without its query, which may hold what should not be repeated. */
export function pathOf(url: string): string {
  const query = url.indexOf('?');
  return query === -1 ? url : url.slice(0, query);
}

/**
 * First of all handlers: correlation id, measurement, the log line, and the limit on time. A body that is still
 * arriving when the time is up is the client's doing (408); a handler that is still working is ours (503).
 */
export function beginRequest(config: Pick<Config, 'API_REQUEST_TIMEOUT_MS'>, log: Logger): RequestHandler {
  const timeoutMs = config.API_REQUEST_TIMEOUT_MS;
  return (request, response, next) => {
    const startedAt = process.hrtime.bigint();
    const given = request.headers['x-correlation-id'];
    const correlationId = typeof given === 'string' && CORRELATION_ID.test(given) ? given : randomUUID();
    const path = pathOf(request.originalUrl);
    const context: RequestContext = { correlationId, route: 'unmatched' };
    request.remit = context;
    response.setHeader('X-Correlation-Id', correlationId);
    const traces = tracing();
    const span = traces && beginSpan(traces, request, path, correlationId);

    const timer = setTimeout(() => {
      if (response.headersSent) return;
      response.setHeader('Connection', 'close');
      const late = request.complete
        ? { code: 'unavailable' as const, detail: `The request was not answered within ${timeoutMs} ms.` }
        : { code: 'request_timeout' as const, detail: `The body did not arrive within ${timeoutMs} ms.` };
      sendProblem(response, { ...late, errors: [], unexpected: false }, path, correlationId);
    }, timeoutMs);

    response.once('close', () => {
      clearTimeout(timer);
      const durationS = Number(process.hrtime.bigint() - startedAt) / 1e9;
      const status = response.writableFinished ? response.statusCode : 'aborted';
      metrics.httpRequestSeconds.observe({ route: context.route, method: request.method, status }, durationS);
      // What changes something can be followed from here to its deliveries; reads are told only when they failed.
      const reads = request.method === 'GET' || request.method === 'HEAD';
      const level = !reads || status === 'aborted' || status >= 400 ? 'info' : 'debug';
      const tell = () =>
        log[level](
          {
            correlationId,
            method: request.method,
            path: path.slice(0, 500),
            route: context.route,
            status,
            durationMs: durationS * 1e3,
          },
          'request',
        );
      if (log.isLevelEnabled(level))
        if (traces) traces.within(span, tell);
        else tell();
      if (span) endSpan(span, request.method, context.route, status);
    });
    if (traces) traces.within(span, () => next());
    else next();
  };
}

/** Paths that are asked every few seconds. */
const PROBES = new Set(['/healthz', '/readyz']);

function beginSpan(
  traces: Tracing,
  { method, headers }: Request,
  path: string,
  correlationId: string,
): TraceSpan | undefined {
  if (PROBES.has(path)) return undefined;
  const given = headers[TRACEPARENT];
  return traces.start({
    name: method,
    kind: 'server',
    parent: typeof given === 'string' ? given : null,
    attributes: {
      'http.request.method': method,
      'url.path': path.slice(0, 500),
      'remit.correlation_id': correlationId,
    },
  });
}

function endSpan(span: TraceSpan, method: string, route: string, status: number | 'aborted'): void {
  span.rename(`${method} ${route}`);
  span.set({ 'http.route': route, ...(status !== 'aborted' && { 'http.response.status_code': status }) });
  // What a client did wrong is no failure of the server.
  if (status === 'aborted' || status >= 500) span.fail(status === 'aborted' ? 'aborted' : `HTTP ${status}`);
  span.end();
}

/**
 * Headers that say one thing. Of two, Node takes the first, or joins them to a third, and whoever is in front of us may
 * have judged by the other.
 */
const SAID_ONCE = new Set([
  ...['authorization', 'x-user-id', 'idempotency-key', 'if-match', 'content-type', 'x-correlation-id'],
  ...['webhook-id', 'webhook-timestamp', 'webhook-signature'],
]);

/** @throws RemitError invalid_request when a header that must say one thing comes more than once. */
export const refuseRepeatedHeaders: RequestHandler = ({ rawHeaders }, _response, next) => {
  const seen = new Set<string>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    if (!SAID_ONCE.has(name)) continue;
    if (seen.has(name))
      throw new RemitError('invalid_request', 'A header is repeated.', [
        { path: rawHeaders[i]!, message: 'must be sent once' },
      ]);
    seen.add(name);
  }
  next();
};
