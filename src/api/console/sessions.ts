import { createHash, timingSafeEqual } from 'node:crypto';
import type { CookieOptions, Request, Response } from 'express';
import type { ConsoleRole } from '../../contracts/console';
import { RemitError } from '../../contracts/errors';
import {
  createConsoleSession,
  revokeConsoleSession,
  useConsoleSession,
  type ConsoleSessionView,
  type ConsoleUser,
} from '../../domain/console-sessions';
import type { Config } from '../../platform/config';
import type { Database } from '../../platform/postgres';
import type { Principal, Scope } from '../auth';

/** What each role of the console may do, in the words of tokens. */
export const SCOPES_OF_ROLE: Record<ConsoleRole, readonly Scope[]> = {
  viewer: ['read'],
  operator: ['read', 'write'],
  admin: ['admin'],
};

export const CSRF_HEADER = 'x-csrf-token';

export type ConsoleConfig = Pick<
  Config,
  | 'CONSOLE_URL'
  | 'CONSOLE_SESSION_IDLE_MS'
  | 'CONSOLE_SESSION_MAX_MS'
  | 'CONSOLE_OIDC_CLIENT_ID'
  | 'AUTH_ISSUER'
>;

/**
 * Sessions of the console, in a cookie that scripts can't read and other sites don't send. What changes something must
 * also carry the session's CSRF token and come from the console's own origin: another port of this host counts as the
 * same site to a browser.
 */
export class ConsoleSessions {
  private readonly secure: boolean;
  private readonly cookie: string;

  constructor(
    private readonly config: ConsoleConfig,
    private readonly database: Pick<Database, 'pool'>,
  ) {
    this.secure = config.CONSOLE_URL?.startsWith('https:') ?? false;
    this.cookie = this.secure ? '__Host-remit_console' : 'remit_console';
  }

  /** The session's secret, when the request brings one. */
  secretOf(request: Request): string | undefined {
    return cookieOf(request, this.cookie);
  }

  /** Whose session the request's cookie is. Renews it. */
  async find(request: Request): Promise<ConsoleSessionView | undefined> {
    const secret = this.secretOf(request);
    return secret === undefined
      ? undefined
      : useConsoleSession(this.database, secret, { idleMs: this.config.CONSOLE_SESSION_IDLE_MS });
  }

  /**
   * Who calls the API by a session, after the checks on where the request comes from; undefined without the cookie.
   * @throws RemitError unauthenticated, forbidden.
   */
  async principal(request: Request): Promise<Principal | undefined> {
    if (this.secretOf(request) === undefined) return undefined;
    this.requireOwnPage(request);
    const session = await this.find(request);
    if (!session) throw new RemitError('unauthenticated', 'The session has ended; log in again.');
    const { subject, tenantId, role, platform } = session;
    const scopes = new Set([...SCOPES_OF_ROLE[role], ...(platform ? (['platform'] as const) : [])]);
    return { subject, tenantId, scopes, via: 'console' };
  }

  /** @throws RemitError forbidden when another page made the browser send this. */
  requireOwnPage(request: Request): void {
    this.requireSameOrigin(request);
    if (request.method === 'GET' || request.method === 'HEAD') return;
    const secret = this.secretOf(request) ?? '';
    const token = request.headers[CSRF_HEADER];
    if (typeof token !== 'string' || !same(token, csrfTokenOf(secret)))
      throw new RemitError('forbidden', 'The request lacks the CSRF token of its session.');
  }

  /** @throws RemitError forbidden when the browser says that another origin's page sends this. */
  requireSameOrigin(request: Request): void {
    const site = request.headers['sec-fetch-site'];
    if (site !== undefined && site !== 'same-origin' && site !== 'none')
      throw new RemitError('forbidden', 'The request comes from another site.');
    const { origin } = request.headers;
    if (origin !== undefined && origin !== this.originOf(request))
      throw new RemitError('forbidden', 'The request comes from another origin.');
  }

  private originOf(request: Request): string {
    return this.config.CONSOLE_URL
      ? new URL(this.config.CONSOLE_URL).origin
      : `${request.protocol}://${request.headers.host}`;
  }

  /** Logs in: a new session in a new cookie, and the one before, if any, is ended. */
  async start(
    request: Request,
    response: Response,
    user: ConsoleUser,
    login: 'link' | 'oidc',
  ): Promise<string> {
    const before = this.secretOf(request);
    if (before !== undefined) await revokeConsoleSession(this.database, before, false);
    const limits = {
      idleMs: this.config.CONSOLE_SESSION_IDLE_MS,
      maxMs: this.config.CONSOLE_SESSION_MAX_MS,
    };
    const secret = await createConsoleSession(this.database, user, login, limits);
    response.cookie(this.cookie, secret, { ...this.cookieOptions(), maxAge: limits.maxMs });
    return secret;
  }

  /** Logs out. Safe to repeat. */
  async end(request: Request, response: Response, everywhere: boolean): Promise<void> {
    const secret = this.secretOf(request);
    if (secret !== undefined) await revokeConsoleSession(this.database, secret, everywhere);
    response.clearCookie(this.cookie, this.cookieOptions());
  }

  private cookieOptions(): CookieOptions {
    return { httpOnly: true, sameSite: 'strict', secure: this.secure, path: '/' };
  }
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
