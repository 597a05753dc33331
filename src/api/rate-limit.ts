import type { Request, RequestHandler, Response } from 'express';
import { MemoryStore, rateLimit } from 'express-rate-limit';
import { RemitError } from '../contracts/errors';
import type { Config } from '../platform/config';
import type { Caller } from './routes/route';

type Limits = Pick<
  Config,
  'API_RATE_LIMIT_REQUESTS' | 'API_RATE_LIMIT_USER_REQUESTS' | 'API_RATE_LIMIT_WINDOW_MS'
>;

const callerOf = (response: Response) => response.locals['caller'] as Caller;

/**
 * Limits the requests of a tenant, and those of each of its users on the users' routes, so that one of them can't use up
 * what is meant for all: what a user sends beyond its own limit does not count for the tenant. Fixed windows in the
 * memory of this process, so that with several replicas each gets as many times the limit. It runs after
 * authentication; what nobody authenticated sends is for the gateway to limit. Answers carry RateLimit and
 * RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers), refusals also Retry-After.
 */
export function rateLimits(config: Limits): RequestHandler[] {
  const { API_RATE_LIMIT_REQUESTS: ofTenant, API_RATE_LIMIT_USER_REQUESTS: ofUser } = config;
  const common = {
    windowMs: config.API_RATE_LIMIT_WINDOW_MS,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
  } as const;
  const tenants = new MemoryStore();
  const tenantOf = (_request: Request, response: Response) => callerOf(response).tenantId;
  const byTenant = rateLimit({
    ...common,
    limit: ofTenant,
    store: tenants,
    identifier: 'tenant',
    keyGenerator: tenantOf,
    handler: () => {
      throw new RemitError('rate_limited', 'Too many requests of this tenant; try again after Retry-After.');
    },
  });
  // After the tenant's, which bounds how many users there can be in one window.
  const byUser = rateLimit({
    ...common,
    limit: ofUser,
    identifier: 'user',
    skip: (_request, response) => !callerOf(response).actor.startsWith('user:'),
    keyGenerator: (_request, response) => `${callerOf(response).tenantId} ${callerOf(response).id}`,
    handler: (request, response) => {
      void tenants.decrement(tenantOf(request, response));
      throw new RemitError('rate_limited', 'Too many requests of this user; try again after Retry-After.');
    },
  });
  return [...(ofTenant > 0 ? [byTenant] : []), ...(ofUser > 0 ? [byUser] : [])];
}
