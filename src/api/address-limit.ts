import type { Request, RequestHandler } from 'express';
import { rateLimit } from 'express-rate-limit';
import { RemitError } from '../contracts/errors';
import type { Logger } from '../platform/logging';

/**
 * Limits what one address may try in a minute before anybody knows who it is: logins to the console, links to the portal. The
 * address is the client's as far as API_TRUSTED_PROXIES lets one believe it (`trust proxy` of Express): of X-Forwarded-For
 * only what a proxy of that list has written counts, and nothing when the request came from anywhere else. Addresses of IPv6
 * count by their /56. Counted in this process.
 * @param refusal what a client reads that is over the limit.
 */
export function perAddress(log: Logger, limit: number, refusal: string): RequestHandler {
  const limited = rateLimit({
    windowMs: 60_000,
    limit,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    // It would say on stderr what is said here in the log.
    validate: { xForwardedForHeader: false },
    handler: () => {
      throw new RemitError('rate_limited', `${refusal}; try again in a minute.`);
    },
  });
  let told = false;
  return (request, response, next) => {
    if (!told && isThroughUnknownProxy(request)) {
      told = true;
      log.warn(
        { peer: request.socket.remoteAddress },
        'a request came through a proxy that API_TRUSTED_PROXIES does not name: all of its clients count as one address',
      );
    }
    return limited(request, response, next);
  };
}

function isThroughUnknownProxy(request: Request): boolean {
  if (request.headers['x-forwarded-for'] === undefined) return false;
  const trusts = request.app.get('trust proxy fn') as (address: string | undefined, hop: number) => boolean;
  return !trusts(request.socket.remoteAddress, 0);
}
