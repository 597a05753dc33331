import type { CookieOptions, Request, Response } from 'express';
import { RemitError } from '../../contracts/errors';
import {
  endPortalSession,
  findPortalSession,
  openPortalLink,
  type PortalSession,
} from '../../domain/portal-links';
import type { Config } from '../../platform/config';
import type { Database } from '../../platform/postgres';
import { cookieOf, requireOwnPage, requireSameOrigin } from '../own-page';
import type { Caller } from '../routes/route';

export type PortalConfig = Pick<Config, 'CONSOLE_URL' | 'PORTAL_FRAME_ORIGINS'>;

/**
 * Sessions of the portal, in a cookie of their own that no other part of the API heeds. Where other sites may frame the
 * portal, browsers must send it in a frame too (SameSite=None), and keep it apart for each site that frames it (Partitioned).
 * What changes something carries the session's CSRF token and comes from the portal's own origin in any case.
 */
export class PortalSessions {
  private readonly cookie: string;
  private readonly cookieOptions: CookieOptions;

  constructor(
    private readonly config: PortalConfig,
    private readonly database: Pick<Database, 'pool'>,
  ) {
    const https = config.CONSOLE_URL?.startsWith('https:') ?? false;
    const framed = config.PORTAL_FRAME_ORIGINS.length > 0;
    this.cookie = https ? '__Host-remit_portal' : 'remit_portal';
    this.cookieOptions = framed
      ? { httpOnly: true, path: '/', secure: true, sameSite: 'none', partitioned: true }
      : { httpOnly: true, path: '/', secure: https, sameSite: 'strict' };
  }

  /** The session's secret, when the request brings one. */
  secretOf(request: Request): string | undefined {
    return cookieOf(request, this.cookie);
  }

  /** Whose session the request's cookie is. */
  async find(request: Request): Promise<PortalSession | undefined> {
    const secret = this.secretOf(request);
    return secret === undefined ? undefined : findPortalSession(this.database, secret);
  }

  /**
   * Who calls, after the checks on where the request comes from.
   * @param acts whether the call is one that a read-only link does not allow.
   * @throws RemitError unauthenticated, forbidden.
   */
  async caller(request: Request, acts: boolean): Promise<Caller> {
    const secret = this.secretOf(request);
    if (secret === undefined) throw new RemitError('unauthenticated', 'Open the portal by its link.');
    requireOwnPage(this.config, request, secret);
    const session = await this.find(request);
    if (!session) throw new RemitError('unauthenticated', 'The session has ended; ask for a new link.');
    if (acts && session.readOnly) throw new RemitError('forbidden', 'This link only lets you look.');
    const { linkId: id, tenantId, subscriptionIds } = session;
    return { id, tenantId, actor: `portal:${id}`, subscriptionIds };
  }

  /** @throws RemitError forbidden when another page made the browser send this. */
  requireOwnPage(request: Request): void {
    requireOwnPage(this.config, request, this.secretOf(request));
  }

  /** @throws RemitError forbidden when the browser says that another origin's page sends this. */
  requireSameOrigin(request: Request): void {
    requireSameOrigin(this.config, request);
  }

  /** Opens a link, once. @throws RemitError unauthenticated when it can't be opened here. */
  async open(request: Request, response: Response, code: string): Promise<void> {
    const { correlationId } = request.remit;
    const opened = await openPortalLink(this.database, {
      ...{ code, correlationId },
      present: this.secretOf(request),
    });
    if (opened === undefined)
      throw new RemitError(
        'unauthenticated',
        'The link was opened already or is too old; ask for a new one.',
      );
    if (opened === 'open') return;
    const { secret, sessionS } = opened;
    response.cookie(this.cookie, secret, { ...this.cookieOptions, maxAge: sessionS * 1_000 });
  }

  /** Ends the session. Safe to repeat. */
  async end(request: Request, response: Response): Promise<void> {
    const secret = this.secretOf(request);
    if (secret !== undefined) await endPortalSession(this.database, secret);
    response.clearCookie(this.cookie, this.cookieOptions);
  }
}
