import type { RequestHandler } from 'express';
import { rateLimit } from 'express-rate-limit';
import { RemitError } from '../contracts/errors';
import type { Config } from '../platform/config';
import type { Caller } from './routes/route';

/**
 * Limits the requests of a tenant: a fixed window in the memory of this process, so that with several replicas a tenant
 * gets as many times the limit. It runs after authentication; what nobody authenticated sends is for the gateway to
 * limit. Answers carry RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers), refusals also Retry-After.
 */
export function tenantRateLimit(
  config: Pick<Config, 'API_RATE_LIMIT_REQUESTS' | 'API_RATE_LIMIT_WINDOW_MS'>,
): RequestHandler {
  if (config.API_RATE_LIMIT_REQUESTS === 0) return (_request, _response, next) => next();
  const windowMs = config.API_RATE_LIMIT_WINDOW_MS;
  return rateLimit({
    windowMs,
    limit: config.API_RATE_LIMIT_REQUESTS,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    identifier: 'tenant',
    keyGenerator: (_request, response) => (response.locals['caller'] as Caller).tenantId,
    handler: () => {
      throw new RemitError('rate_limited', 'Too many requests of this tenant; try again after Retry-After.');
    },
  });
}
