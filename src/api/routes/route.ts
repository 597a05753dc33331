import type { Client } from '@temporalio/client';
import type { Request, RequestHandler, Response } from 'express';
import type { Kafka } from 'kafkajs';
import type { z } from 'zod';
import { RemitError, type ProblemCode } from '../../contracts/errors';
import type { EventPublisher } from '../../domain/event-publisher';
import type { EventSchemas } from '../../domain/event-schemas';
import { decodeCursor, type Page } from '../../domain/pages';
import type { ExpectedVersions } from '../../domain/versions';
import type { Config } from '../../platform/config';
import type { Lifecycle } from '../../platform/lifecycle';
import type { Logger } from '../../platform/logging';
import type { OutgoingMessage } from '../../platform/kafka';
import type { Database } from '../../platform/postgres';
import type { Authenticator, Scope } from '../auth';
import type { DeadLetterDesk } from '../dead-letter-desk';
import type { Keyring } from '../../platform/secrets';

/** What the routes work with. */
export interface ApiDeps {
  config: Config;
  log: Logger;
  database: Database;
  /** Resolves when all in-sync replicas have the message; rejects with NotQueuedError. */
  producer: { send(message: OutgoingMessage): Promise<void> };
  /** For what operators read of topics; connects when it is used. */
  kafka: Kafka;
  /** The Temporal client, connected on first use: for what answers with a workflow's decision. */
  temporal(): Promise<Client>;
  /** Encrypts subscribers' secrets. */
  keyring: Keyring;
  lifecycle: Lifecycle;
}

/** What an application makes for its routes, once. */
export interface RouteDeps extends ApiDeps {
  /** Checks the JSON Schemas of event types, and events with them. */
  eventSchemas: EventSchemas;
  /** Publishes events; requests share its statements. */
  eventPublisher: EventPublisher;
  /** Dead letters of every topic. */
  deadLetters: DeadLetterDesk;
}

/** `user`: X-User-Id or a token's subject. `token`: a bearer token with the scope. `public`: nobody in particular. */
export type Access = 'public' | 'user' | 'token';

/** What is said of a response in the OpenAPI document. */
export interface ResponseDoc {
  description: string;
  schema?: z.ZodType;
  /** For what is no JSON: text of one of these media types. */
  contentTypes?: readonly string[];
  headers?: Record<string, string>;
}

/** What the OpenAPI document needs to know of a route; the server is built from the same object. */
export interface RouteDoc {
  method: 'get' | 'post' | 'patch' | 'delete';
  /** In Express form: `/orders/:orderId`. */
  path: string;
  operationId: string;
  tag: string;
  summary: string;
  description?: string;
  access: Access;
  /** The scope that a token needs, where it is not `read` for GET and `write` for everything else. */
  scope?: Scope;
  /** A second scope that the token needs. */
  alsoScope?: Scope;
  /** A user may do it only where this variable is true; elsewhere it takes a bearer token with `scope`. */
  usersOnlyIf?: 'USERS_MAY_TOP_UP';
  /** Heeds If-Match against the version in the ETag; `required`: a request without one is refused (428). */
  ifMatch?: 'required' | 'optional';
  params?: z.ZodObject;
  query?: z.ZodObject;
  body?: z.ZodType;
  /** The body holds JSON of any content, whose numbers are no amounts and taken as JavaScript reads them. */
  anyJson?: boolean;
  /** The same, but for what is at this path in the body (`parseKeeping`): it is handed on as it was written. */
  keeps?: readonly string[];
  /** An absent body counts as `{}`. */
  bodyOptional?: boolean;
  /**
   * The answer holds a secret, a link that lets in, or the like: it is not kept for an Idempotency-Key. A repetition is
   * handled again, under the same operationId and with `repeats`.
   */
  answersSecret?: boolean;
  responses: Record<number, ResponseDoc>;
  /** Problems beyond those that every route of its kind can answer. */
  problems?: readonly ProblemCode[];
}

export interface Caller {
  tenantId: string;
  /** The user (`user` routes) or the token's subject. */
  id: string;
  /** For the audit log: `user:<id>`, `token:<subject>`, `console:<subject>` or `portal:<id of the link>`. */
  actor: string;
  /** It may see what is of the installation and of no tenant. */
  platform?: boolean;
  /** In the subscribers' portal: all that it may see of the tenant. */
  subscriptionIds?: readonly string[];
}

export interface Answer {
  status: number;
  /** Sent as JSON; a JsonText as it is. */
  body?: unknown;
  /** In place of a JSON body: writes and ends the response itself; the status and headers are set by then. */
  write?: (response: Response) => Promise<void>;
  headers?: Record<string, string>;
}

type Parsed<T> = T extends z.ZodType ? z.output<T> : undefined;

export interface Call<P, Q, B> {
  deps: RouteDeps;
  caller: Caller;
  correlationId: string;
  /**
   * A UUID that names what this call creates, and that a repetition under the same Idempotency-Key gets again. A handler
   * of a POST must do nothing new when something of this name is there already.
   */
  operationId: string;
  /**
   * It was carried out before under this operationId, and its answer is not kept, since it holds a secret: hand back what was
   * made then, or refuse, and make nothing.
   */
  repeats: boolean;
  /** What If-Match allows; any version without it. */
  expected: ExpectedVersions;
  /** Where browsers reach this API: CONSOLE_URL, or what the request was sent to. */
  origin: string;
  /** Where a client was that lost its stream of events. */
  lastEventId: string | undefined;
  params: P;
  query: Q;
  body: B;
}

/** A route of which everything around the handler is uniform: authenticate, read and check the input, answer. */
export interface Route extends RouteDoc {
  access: 'user' | 'token';
  handle: (call: Call<never, never, never>) => Promise<Answer>;
}

/** A route with Express handlers of its own: health, the OpenAPI document, providers' webhooks. */
export interface RawRoute extends RouteDoc {
  handlers: (deps: ApiDeps) => RequestHandler[];
  /** Without the security headers for browsers and other shared handlers: the busy path. */
  lean?: boolean;
}

/** Ties the types of a handler's input to the schemas that check it. */
export function defineRoute<
  P extends z.ZodObject | undefined = undefined,
  Q extends z.ZodObject | undefined = undefined,
  B extends z.ZodType | undefined = undefined,
>(
  route: Omit<Route, 'handle' | 'params' | 'query' | 'body'> & {
    params?: P;
    query?: Q;
    body?: B;
    handle: (call: Call<Parsed<P>, Parsed<Q>, Parsed<B>>) => Promise<Answer>;
  },
): Route {
  return route as unknown as Route;
}

/**
 * Whether a route takes an Idempotency-Key: every POST of somebody who is known does. Providers’ webhooks have event ids
 * of their own instead.
 */
export function takesIdempotencyKey({ method, access }: Pick<RouteDoc, 'method' | 'access'>): boolean {
  return method === 'post' && access !== 'public';
}

/** Reading needs the scope `read`, everything else `write`, unless the route says otherwise. */
export function scopeOf({ scope, method }: Pick<RouteDoc, 'scope' | 'method'>): Scope {
  return scope ?? (method === 'get' ? 'read' : 'write');
}

const ETAG = /^(W\/)?"([^"]*)"$/;

/** The ETag of a version. */
export const etagOf = ({ version }: { version: number }) => ({ ETag: `"${version}"` });

/**
 * The versions that an If-Match header allows. A tag that no version has, weak ones among them, allows nothing.
 * @throws RemitError precondition_required, invalid_request when it is no list of entity tags.
 */
export function readIfMatch(
  { ifMatch }: Pick<RouteDoc, 'ifMatch'>,
  header: string | undefined,
): ExpectedVersions {
  if (ifMatch === undefined) return '*';
  if (header === undefined) {
    if (ifMatch === 'optional') return '*';
    throw new RemitError(
      'precondition_required',
      'Send If-Match with the ETag that you have read, so that nobody’s change is lost.',
    );
  }
  if (header.trim() === '*') return '*';
  return header
    .split(',')
    .slice(0, 20)
    .map((text) => {
      const [, weak, tag] = ETAG.exec(text.trim()) ?? [];
      if (tag === undefined)
        throw new RemitError('invalid_request', 'If-Match is not valid.', [
          { path: 'If-Match', message: 'must be * or entity tags in quotes' },
        ]);
      return weak === undefined && /^\d{1,9}$/.test(tag) ? Number(tag) : -1;
    });
}

/** Authenticates the caller of a route. */
export async function authenticate(
  route: Route,
  authenticator: Authenticator,
  request: Request,
  config: Pick<Config, 'USERS_MAY_TOP_UP'>,
): Promise<Caller> {
  const scope = scopeOf(route);
  if (route.access === 'user') {
    const { usersOnlyIf: variable } = route;
    const { userId, tenantId } =
      variable === undefined
        ? await authenticator.user(request, scope)
        : config[variable]
          ? await authenticator.user(request, 'write', scope)
          : await authenticator.userFor(request, scope);
    return { tenantId, id: userId, actor: `user:${userId}` };
  }
  const needed = route.alsoScope === undefined ? [scope] : [scope, route.alsoScope];
  const { subject, tenantId, scopes, via } = await authenticator.principal(request, ...needed);
  return { tenantId, id: subject, actor: `${via}:${subject}`, platform: scopes.has('platform') };
}

/** Who acts, for the audit log. */
export function actorOf({
  caller,
  correlationId,
}: Pick<Call<unknown, unknown, unknown>, 'caller' | 'correlationId'>) {
  return { tenantId: caller.tenantId, actor: caller.actor, correlationId };
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** The fields of a PATCH that were sent; what was left out is not in it at all. */
export function given<T extends object>(body: T): Given<T> {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined)) as Given<T>;
}

/** The time that a list is cut to. */
export function timeOf({ since, until }: { since?: string | undefined; until?: string | undefined }) {
  return {
    since: since === undefined ? undefined : new Date(since),
    until: until === undefined ? undefined : new Date(until),
  };
}

/** What ids of a list's rows are: a cursor with another kind of id was not made by that list. */
export type IdKind = 'uuid' | 'text' | 'number' | 'attempt' | 'attempt of a delivery' | 'place';
const ID_FORMS = {
  uuid: /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/,
  number: /^\d{1,18}$/,
  attempt: /^\d{1,9}$/,
  'attempt of a delivery': /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}-\d{1,9}$/,
  /** Partition and offset. */
  place: /^\d{1,6}-\d{1,18}$/,
};

/**
 * The limits of a page: the asked-for rows, at most what configuration allows, and a cursor that the database can
 * compare with (a forged one could hold an id of the wrong type or a year that PostgreSQL has not).
 * @throws RemitError invalid_request on a malformed cursor.
 */
export function pageLimits(
  query: { limit: string; cursor?: string | undefined },
  config: Pick<Config, 'API_PAGE_SIZE_MAX_ROWS'>,
  ids: IdKind,
): { limit: number; cursor?: string } {
  const limit = Math.min(Number(query.limit), config.API_PAGE_SIZE_MAX_ROWS);
  if (query.cursor === undefined) return { limit };
  const { createdAt, id } = decodeCursor(query.cursor);
  const year = createdAt.getUTCFullYear();
  if (year < 1970 || year > 9999 || (ids !== 'text' && !ID_FORMS[ids].test(id)))
    throw new RemitError('invalid_request', 'The cursor is not one that this list returned.', [
      { path: 'cursor', message: 'not a cursor that this list returned' },
    ]);
  return { limit, cursor: query.cursor };
}

/** A page of a list as the API answers it. */
export const pageOf = <T, V>({ items, nextCursor }: Page<T>, view: (item: T) => V): Page<V> => ({
  items: items.map((item) => view(item)),
  nextCursor,
});
