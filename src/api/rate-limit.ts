import type { Request, RequestHandler, Response } from 'express';
import { rateLimit } from 'express-rate-limit';
import { RemitError } from '../contracts/errors';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import type { Caller } from './routes/route';
import { SharedLimit, SharedRequests } from './shared-limit';

interface Deps {
  config: Pick<
    Config,
    'API_RATE_LIMIT_REQUESTS' | 'API_RATE_LIMIT_USER_REQUESTS' | 'API_RATE_LIMIT_WINDOW_MS'
  >;
  database: Pick<Database, 'limitsPool'>;
  log: Logger;
}

const callerOf = (response: Response) => response.locals['caller'] as Caller;

/**
 * Limits the requests of a tenant, and those of each of its users on the users' routes, so that one of them can't use up what
 * is meant for all: what a user sends beyond its own limit does not count for the tenant. Both hold for all processes of the
 * API together (`SharedLimit`). It runs after authentication; what nobody authenticated sends is for the gateway to limit, but
 * for logins (`perAddress`). Answers carry RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers), refusals also
 * Retry-After.
 */
export function rateLimits({ config, database, log }: Deps): RequestHandler[] {
  const { API_RATE_LIMIT_REQUESTS: ofTenant, API_RATE_LIMIT_USER_REQUESTS: ofUser } = config;
  const windowMs = config.API_RATE_LIMIT_WINDOW_MS;
  const common = { windowMs, standardHeaders: 'draft-8', legacyHeaders: false } as const;
  const shared = new SharedRequests(database, log);
  const tenants = new SharedLimit(shared, 'tenant ', ofTenant, windowMs);
  const users = new SharedLimit(shared, 'user ', ofUser, windowMs);
  const tenantOf = (_request: Request, response: Response) => callerOf(response).tenantId;
  const byTenant = rateLimit({
    ...common,
    limit: ofTenant,
    store: tenants,
    identifier: 'tenant',
    keyGenerator: tenantOf,
    handler: () => {
      metrics.rateLimited.inc({ limit: 'tenant' });
      throw new RemitError('rate_limited', 'Too many requests of this tenant; try again after Retry-After.');
    },
  });
  // After the tenant's, which bounds how many users there can be in one window.
  const byUser = rateLimit({
    ...common,
    limit: ofUser,
    store: users,
    identifier: 'user',
    skip: (_request, response) => !callerOf(response).actor.startsWith('user:'),
    keyGenerator: (_request, response) => `${callerOf(response).tenantId} ${callerOf(response).id}`,
    handler: (request, response) => {
      tenants.decrement(tenantOf(request, response));
      metrics.rateLimited.inc({ limit: 'user' });
      throw new RemitError('rate_limited', 'Too many requests of this user; try again after Retry-After.');
    },
  });
  return [...(ofTenant > 0 ? [byTenant] : []), ...(ofUser > 0 ? [byUser] : [])];
}
