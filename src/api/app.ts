import express, {
  type ErrorRequestHandler,
  type Express,
  type Request,
  type RequestHandler,
  type Response,
} from 'express';
import helmet from 'helmet';
import { RemitError } from '../contracts/errors';
import { JsonText } from '../contracts/json';
import { Authenticator } from './auth';
import { CONSOLE_HOME } from './console/return-path';
import { pageFiles } from './console/files';
import { consoleRouter } from './console/router';
import { ConsoleSessions } from './console/sessions';
import { DeadLetterDesk } from './dead-letter-desk';
import { beginRequest, pathOf, refuseRepeatedHeaders } from './context';
import { once, ReplayedRefusal } from './idempotency';
import { readAnyJson, readJson, readJsonKeeping, requireJson } from './json-body';
import { EventPublisher } from '../domain/event-publisher';
import { annotate, type SpanAttributes } from '../platform/tracing';
import { EventSchemas } from '../domain/event-schemas';
import { shedLoad } from './overload';
import { originOf } from './own-page';
import { portalRouter } from './portal/router';
import { rateLimits } from './rate-limit';
import { temporalCodecRouter } from './temporal-codec';
import { invalidRequest, sendProblem, toFault } from './problem';
import { accountRoutes } from './routes/accounts';
import { chargebackRoute } from './routes/chargebacks';
import { disputeRoutes } from './routes/disputes';
import { auditRoutes } from './routes/audit';
import { eventConfigRoutes } from './routes/event-configs';
import { eventTypeRoutes } from './routes/event-types';
import { eventRoutes } from './routes/events';
import { docsRoutes } from './routes/docs';
import { healthRoutes } from './routes/health';
import { ledgerRoutes } from './routes/ledger';
import { openApiRoute } from './routes/openapi';
import { orderWebhookRoute } from './routes/order-webhooks';
import { orderRoutes } from './routes/orders';
import { paymentRoutes } from './routes/payments';
import { providerWebhookRoute } from './routes/provider-webhooks';
import { refundRoutes } from './routes/refunds';
import {
  authenticate,
  readIfMatch,
  type ApiDeps,
  type Call,
  type Caller,
  type RawRoute,
  type Route,
  type RouteDeps,
} from './routes/route';
import { deliveryActionRoutes } from './routes/delivery-actions';
import { portalLinkRoutes } from './routes/portal-links';
import { replayRoutes } from './routes/replays';
import { deadLetterRoutes } from './routes/dead-letters';
import { journalRoutes } from './routes/journal';
import { reconciliationRoutes } from './routes/reconciliation';
import { statisticsRoutes } from './routes/statistics';
import { streamRoutes } from './routes/stream';
import { systemRoutes } from './routes/system';
import { timelineRoutes } from './routes/timeline';
import { subscriptionRoutes } from './routes/subscriptions';

/** Every route of the API, the busiest first: the router tries them in this order. */
export function allRoutes(): (Route | RawRoute)[] {
  const routes = [
    providerWebhookRoute,
    orderWebhookRoute,
    chargebackRoute,
    ...eventRoutes,
    ...healthRoutes,
    ...orderRoutes,
    ...accountRoutes,
    ...ledgerRoutes,
    ...paymentRoutes,
    ...refundRoutes,
    ...disputeRoutes,
    // /deliveries/retry is none of the deliveries that /deliveries/:id names.
    ...deliveryActionRoutes,
    ...subscriptionRoutes,
    ...portalLinkRoutes,
    ...replayRoutes,
    ...eventTypeRoutes,
    ...eventConfigRoutes,
    ...auditRoutes,
    ...timelineRoutes,
    ...journalRoutes,
    ...statisticsRoutes,
    ...reconciliationRoutes,
    ...deadLetterRoutes,
    ...systemRoutes,
    ...streamRoutes,
    ...docsRoutes,
  ];
  return [...routes, openApiRoute(routes)];
}

/**
 * The HTTP application. It opens no port and connects to nothing.
 * @throws ConfigError when a provider has no secret although signatures are required.
 */
export function createApp(deps: ApiDeps): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  // Whose X-Forwarded-For and X-Forwarded-Proto are believed; nobody's by default.
  app.set('trust proxy', deps.config.API_TRUSTED_PROXIES);
  app.use(beginRequest(deps.config, deps.log), shedLoad(deps), refuseRepeatedHeaders);

  const secure = helmet();
  const readBody = express.raw({ limit: deps.config.API_BODY_LIMIT_BYTES, inflate: false, type: () => true });
  const sessions = new ConsoleSessions(deps.config, deps.database);
  const authenticator = new Authenticator(deps.config, deps.log, (request) => sessions.principal(request));
  const limits = rateLimits(deps);
  const eventSchemas = new EventSchemas(deps.config.EVENT_SCHEMA_CACHE_ENTRIES);
  deps.lifecycle.onStop('close', 'schema threads', () => eventSchemas.close());
  const { KAFKA_MESSAGE_MAX_BYTES: maxBytes } = deps.config;
  const eventPublisher = new EventPublisher(deps.database, eventSchemas, maxBytes);
  const deadLetters = new DeadLetterDesk(deps);
  deps.lifecycle.onStop('close', 'reader of dead letters', () => deadLetters.stop());
  const routeDeps = { ...deps, eventSchemas, eventPublisher, deadLetters };
  const routes = allRoutes();
  for (const path of new Set(routes.map((route) => route.path))) {
    const here = routes.filter((route) => route.path === path);
    const template: RequestHandler = (request, _response, next) => {
      request.remit.route = path;
      next();
    };
    const lean = here.every((route) => 'lean' in route && route.lean);
    const target = app.route(path);
    target.all(lean ? [template] : [template, secure]);
    for (const route of here)
      target[route.method](
        'handlers' in route
          ? route.handlers(deps)
          : uniform(route, routeDeps, {
              login: (request) => authenticate(route, authenticator, request, deps.config),
              limits,
              readBody,
            }),
      );
    target.all(methodNotAllowed(here));
  }
  app.get('/', (request, response) => {
    request.remit.route = '/';
    response.redirect(302, CONSOLE_HOME);
  });
  const files = pageFiles();
  app.use('/console', consoleRouter(deps, sessions, files));
  app.use(
    '/portal',
    portalRouter(deps, files, (route, login, portalLimits) =>
      uniform(route, routeDeps, { login, limits: portalLimits, readBody }),
    ),
  );
  app.use('/temporal-codec', secure, temporalCodecRouter(deps, authenticator, sessions));
  app.use((request: Request) => {
    throw new RemitError('not_found', `There is nothing at ${pathOf(request.originalUrl).slice(0, 100)}.`);
  });
  app.use(problemHandler(deps));
  return app;
}

/** Authenticates before it reads the body, so that nobody unknown makes the server parse anything. */
function uniform(
  route: Route,
  deps: RouteDeps,
  {
    login: whoCalls,
    limits,
    readBody,
  }: {
    login: (request: Request) => Promise<Caller>;
    limits: RequestHandler[];
    readBody: RequestHandler;
  },
): RequestHandler[] {
  const login: RequestHandler = async (request, response, next) => {
    const caller = await whoCalls(request);
    annotate(() => ({ 'remit.tenant_id': caller.tenantId, ...idOf(route.path, request.params) }));
    response.locals['caller'] = caller;
    next();
  };
  const run: RequestHandler = async (request, response) => {
    const caller = response.locals['caller'] as Caller;
    const { correlationId } = request.remit;
    const input = parseInput(route, request);
    const header = request.headers['idempotency-key'];
    const lastEventId = request.get('last-event-id');
    const origin = originOf(deps.config, request);
    const expected = readIfMatch(route, request.headers['if-match']);
    const answer = await once(deps, { route, header, caller, input }, (operationId, repeats) =>
      route.handle({
        ...{ deps, caller, correlationId, operationId, repeats, expected, origin, lastEventId },
        ...input,
      } as Call<never, never, never>),
    );
    if (response.headersSent) return;
    response.status(answer.status);
    for (const [name, value] of Object.entries(answer.headers ?? {})) response.setHeader(name, value);
    response.setHeader('Cache-Control', 'no-store');
    if (answer.write) await answer.write(response);
    else sendJson(response, answer.body);
  };
  return route.body ? [login, ...limits, onlyJson, readBody, parseBody(route), run] : [login, ...limits, run];
}

/** What the last id of a path names, as an attribute of the request's span. */
const PATH_IDS: Readonly<Record<string, string>> = {
  orders: 'remit.order_id',
  payments: 'remit.payment_id',
  payouts: 'remit.payment_id',
  disputes: 'remit.dispute_id',
  events: 'remit.event_id',
  deliveries: 'remit.delivery_id',
  subscriptions: 'remit.subscription_id',
  replays: 'remit.replay_id',
};

function idOf(path: string, params: Readonly<Record<string, unknown>>): SpanAttributes {
  const [, collection = '', name = ''] = /\/([a-z]+)\/:(\w+)/.exec(path) ?? [];
  const attribute = PATH_IDS[collection];
  const id = params[name];
  return attribute !== undefined && typeof id === 'string' ? { [attribute]: id.slice(0, 128) } : {};
}

/** What Express' `json` does, without what it looks at for every kind of body. */
function sendJson(response: Response, body: unknown): void {
  if (body === undefined) return void response.end();
  const bytes = Buffer.from(body instanceof JsonText ? body.text : JSON.stringify(body));
  response.setHeader('Content-Type', 'application/json; charset=utf-8');
  response.setHeader('Content-Length', bytes.length);
  response.end(bytes);
}

function parseInput(route: Route, request: Request): { params: unknown; query: unknown; body: unknown } {
  const params = route.params?.safeParse(request.params);
  if (params && !params.success) throw invalidRequest(params.error);
  // A route without query parameters takes none: a misspelt filter must not silently list everything.
  if (!route.query && Object.keys(request.query).length > 0)
    throw new RemitError(
      'invalid_request',
      'This request takes no query parameters.',
      Object.keys(request.query).map((path) => ({ path, message: 'unknown parameter' })),
    );
  const query = route.query?.safeParse(request.query);
  if (query && !query.success) throw invalidRequest(query.error);
  const given: unknown = request.body;
  const body = route.body?.safeParse(given === undefined && route.bodyOptional ? {} : given);
  if (body && !body.success) throw invalidRequest(body.error);
  return { params: params?.data, query: query?.data, body: body?.data };
}

function hasBody(request: Request): boolean {
  const length = request.headers['content-length'];
  return request.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

/** A body that is not JSON is refused; none at all is left to validation, which names what is required. */
const onlyJson: RequestHandler = (request, _response, next) => {
  if (hasBody(request)) requireJson(request);
  next();
};

/** Parses the bytes of a body; an empty one counts as `{}`. */
function parseBody(route: Route): RequestHandler {
  const { anyJson, keeps } = route;
  const parse = keeps
    ? (bytes: Buffer) => readJsonKeeping(bytes, keeps)
    : anyJson
      ? readAnyJson
      : (bytes: Buffer) => readJson(bytes).json;
  return (request, _response, next) => {
    const bytes: unknown = request.body;
    if (Buffer.isBuffer(bytes)) request.body = bytes.length === 0 ? {} : parse(bytes);
    next();
  };
}

function methodNotAllowed(here: (Route | RawRoute)[]): RequestHandler {
  const methods = new Set(here.map((route) => route.method.toUpperCase()));
  if (methods.has('GET')) methods.add('HEAD');
  const allow = [...methods, 'OPTIONS'].join(', ');
  return (request: Request, response: Response) => {
    response.setHeader('Allow', allow);
    if (request.method === 'OPTIONS') return void response.status(204).end();
    throw new RemitError('method_not_allowed', `${request.method} is not allowed here; ${allow} are.`);
  };
}

function problemHandler({ log }: ApiDeps): ErrorRequestHandler {
  return (error: unknown, request, response, _next) => {
    const { correlationId, route } = request.remit;
    const found = toFault(error);
    if (found.unexpected || found.code === 'not_queued')
      log.error({ err: error, correlationId, route, method: request.method }, 'request failed');
    // The rest of a body that was refused unread would be taken for the next request on this connection.
    if (!request.complete && found.code !== 'internal') response.setHeader('Connection', 'close');
    if (error instanceof ReplayedRefusal && !response.headersSent)
      response.setHeader('Idempotency-Replayed', 'true');
    sendProblem(response, found, pathOf(request.originalUrl), correlationId);
  };
}
