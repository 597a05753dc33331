import { createHash, timingSafeEqual } from 'node:crypto';
import type { Request } from 'express';
import { RemitError } from '../contracts/errors';
import type { Config } from '../platform/config';

/** What keeps other sites' pages from acting with the cookies of ours: for the console and the portal. */

const CSRF_HEADER = 'x-csrf-token';

/** Where browsers reach this API, as far as configuration or the request says. */
export function originOf({ CONSOLE_URL }: Pick<Config, 'CONSOLE_URL'>, request: Request): string {
  return CONSOLE_URL ? new URL(CONSOLE_URL).origin : `${request.protocol}://${request.headers.host}`;
}

/** @throws RemitError forbidden when the browser says that another origin's page sends this. */
export function requireSameOrigin(config: Pick<Config, 'CONSOLE_URL'>, request: Request): void {
  const site = request.headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none')
    throw new RemitError('forbidden', 'The request comes from another site.');
  const { origin } = request.headers;
  if (origin !== undefined && origin !== originOf(config, request))
    throw new RemitError('forbidden', 'The request comes from another origin.');
}

/**
 * Also that what changes something carries the token of its session.
 * @throws RemitError forbidden when another page made the browser send this.
 */
export function requireOwnPage(
  config: Pick<Config, 'CONSOLE_URL'>,
  request: Request,
  secret: string | undefined,
): void {
  requireSameOrigin(config, request);
  if (request.method === 'GET' || request.method === 'HEAD') return;
  const token = request.headers[CSRF_HEADER];
  if (typeof token !== 'string' || !same(token, csrfTokenOf(secret ?? '')))
    throw new RemitError('forbidden', 'The request lacks the CSRF token of its session.');
}

/** Known to the page that read it from the server, and to nobody who only knows that there is a cookie. */
export function csrfTokenOf(secret: string): string {
  return createHash('sha256').update(`csrf:${secret}`).digest('base64url');
}

/** A cookie's value, when it is there exactly once and of our characters. */
export function cookieOf(request: Request, name: string): string | undefined {
  const found = (request.headers.cookie ?? '')
    .split(';', 50)
    .map((part) => part.trim())
    .filter((part) => part.startsWith(`${name}=`))
    .map((part) => part.slice(name.length + 1));
  return found.length === 1 && /^[A-Za-z0-9_-]{1,2048}$/.test(found[0]!) ? found[0] : undefined;
}

function same(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}
