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
import { cookieOf, requireOwnPage, requireSameOrigin } from '../own-page';

/** What each role of the console may do, in the words of tokens. */
const SCOPES_OF_ROLE: Record<ConsoleRole, readonly Scope[]> = {
  viewer: ['read'],
  operator: ['read', 'write'],
  admin: ['admin'],
};

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
    requireOwnPage(this.config, request, this.secretOf(request));
  }

  /** @throws RemitError forbidden when the browser says that another origin's page sends this. */
  requireSameOrigin(request: Request): void {
    requireSameOrigin(this.config, request);
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
