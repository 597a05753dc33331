import type { Request, Response } from 'express';
import type * as oauth from 'oauth4webapi' with { 'resolution-mode': 'import' };
import { CONSOLE_ROLES, type ConsoleRole } from '../../contracts/console';
import { RemitError } from '../../contracts/errors';
import { TenantId, UserId } from '../../contracts/http';
import type { ConsoleUser } from '../../domain/console-sessions';
import type { Config } from '../../platform/config';
import { cookieOf } from '../own-page';
import { returnPath } from './return-path';

type OidcConfig = Pick<
  Config,
  | 'AUTH_ISSUER'
  | 'CONSOLE_URL'
  | 'CONSOLE_OIDC_CLIENT_ID'
  | 'CONSOLE_OIDC_CLIENT_SECRET'
  | 'CONSOLE_ROLE_CLAIM'
  | 'DEFAULT_TENANT'
>;

/** The role and tenant are claims of the ID token, which the issuer puts there for this client. */
const SCOPES = 'openid';
const COOKIE = 'remit_console_login';
const COOKIE_PATH = '/console/login';
const LOGIN_MAX_MS = 10 * 60_000;
const ISSUER_TIMEOUT_MS = 10_000;
const DISCOVERY_MAX_AGE_MS = 10 * 60_000;

/** What the browser keeps while it is at the issuer. Only this browser can finish the login that it began. */
interface Pending {
  state: string;
  nonce: string;
  verifier: string;
  next: string;
}

/** The scopes of tokens, as roles of the console. */
const ROLE_OF_WORD: Record<string, ConsoleRole> = {
  admin: 'admin',
  operator: 'operator',
  write: 'operator',
  viewer: 'viewer',
  read: 'viewer',
};

/** Logs in at an OpenID Connect issuer: authorization code with PKCE, state and nonce. */
export class OidcLogin {
  private readonly issuer: URL;
  private readonly client: oauth.Client;
  private readonly redirectUri: string;
  private discovered: { at: number; server: oauth.AuthorizationServer } | undefined;

  private constructor(
    private readonly config: OidcConfig,
    private readonly lib: typeof oauth,
  ) {
    this.issuer = new URL(config.AUTH_ISSUER!);
    this.client = { client_id: config.CONSOLE_OIDC_CLIENT_ID! };
    this.redirectUri = new URL('/console/login/callback', config.CONSOLE_URL).toString();
  }

  static async create(config: OidcConfig): Promise<OidcLogin> {
    return new OidcLogin(config, await import('oauth4webapi'));
  }

  /**
   * Sends the browser to the issuer.
   * @throws RemitError unavailable when the issuer can't be reached.
   */
  async begin(response: Response, next: unknown): Promise<void> {
    const server = await this.discover();
    const {
      generateRandomCodeVerifier,
      calculatePKCECodeChallenge,
      generateRandomState,
      generateRandomNonce,
    } = this.lib;
    const pending: Pending = {
      state: generateRandomState(),
      nonce: generateRandomNonce(),
      verifier: generateRandomCodeVerifier(),
      next: returnPath(next),
    };
    const to = new URL(server.authorization_endpoint!);
    for (const [name, value] of Object.entries({
      client_id: this.client.client_id,
      redirect_uri: this.redirectUri,
      response_type: 'code',
      scope: SCOPES,
      state: pending.state,
      nonce: pending.nonce,
      code_challenge: await calculatePKCECodeChallenge(pending.verifier),
      code_challenge_method: 'S256',
    }))
      to.searchParams.set(name, value);
    response.cookie(COOKIE, Buffer.from(JSON.stringify(pending)).toString('base64url'), {
      httpOnly: true,
      // The issuer's page leads back here: a strict cookie would not come with it.
      sameSite: 'lax',
      secure: this.redirectUri.startsWith('https:'),
      path: COOKIE_PATH,
      maxAge: LOGIN_MAX_MS,
    });
    response.redirect(303, to.toString());
  }

  /**
   * What the issuer says after a login that this browser began.
   * @throws RemitError unauthenticated when anything about it does not fit, forbidden when the user has no role here,
   * unavailable when the issuer can't be reached.
   */
  async finish(request: Request, response: Response): Promise<{ user: ConsoleUser; next: string }> {
    const pending = readPending(cookieOf(request, COOKIE));
    response.clearCookie(COOKIE, { path: COOKIE_PATH });
    if (!pending)
      throw new RemitError('unauthenticated', 'This login was not begun in this browser, or took too long.');
    const server = await this.discover();
    const { claims, scope } = await this.exchange(
      server,
      new URL(request.originalUrl, this.redirectUri),
      pending,
    );
    return { user: this.userOf(claims, scope), next: returnPath(pending.next) };
  }

  private async exchange(server: oauth.AuthorizationServer, callback: URL, pending: Pending) {
    const { lib, client, config } = this;
    try {
      const params = lib.validateAuthResponse(server, client, callback, pending.state);
      const answer = await lib.authorizationCodeGrantRequest(
        server,
        client,
        config.CONSOLE_OIDC_CLIENT_SECRET
          ? lib.ClientSecretPost(config.CONSOLE_OIDC_CLIENT_SECRET)
          : lib.None(),
        params,
        this.redirectUri,
        pending.verifier,
        this.http(),
      );
      const tokens = await lib.processAuthorizationCodeResponse(server, client, answer, {
        expectedNonce: pending.nonce,
        requireIdToken: true,
      });
      await lib.validateApplicationLevelSignature(server, answer, this.http());
      return { claims: lib.getValidatedIdTokenClaims(tokens)!, scope: tokens.scope };
    } catch (error) {
      throw refusal(error);
    }
  }

  private userOf(claims: oauth.IDToken, scope: string | undefined): ConsoleUser {
    const subject = UserId.safeParse(claims.sub);
    const tenant = TenantId.safeParse(claims['tenant'] ?? this.config.DEFAULT_TENANT);
    if (!subject.success || !tenant.success)
      throw new RemitError('unauthenticated', 'The issuer’s subject or tenant is not usable here.');
    const name = this.config.CONSOLE_ROLE_CLAIM;
    const words = wordsOf(claims[name] ?? (name === 'scope' ? scope : undefined));
    const role = roleOf(words);
    if (!role)
      throw new RemitError(
        'forbidden',
        `The issuer gives you no role here: its claim ${name} has none of ${Object.keys(ROLE_OF_WORD).join(', ')}.`,
      );
    return { subject: subject.data, tenantId: tenant.data, role, platform: words.includes('platform') };
  }

  private async discover(): Promise<oauth.AuthorizationServer> {
    if (this.discovered && Date.now() - this.discovered.at < DISCOVERY_MAX_AGE_MS)
      return this.discovered.server;
    try {
      const answer = await this.lib.discoveryRequest(this.issuer, { algorithm: 'oidc', ...this.http() });
      const server = await this.lib.processDiscoveryResponse(this.issuer, answer);
      this.discovered = { at: Date.now(), server };
      return server;
    } catch {
      throw new RemitError('unavailable', `The issuer ${this.issuer.host} can’t be reached; try again.`);
    }
  }

  /** An issuer that configuration names with http: is one on this machine or network, and meant so. */
  private http() {
    return {
      [this.lib.allowInsecureRequests]: this.issuer.protocol === 'http:',
      signal: () => AbortSignal.timeout(ISSUER_TIMEOUT_MS),
    };
  }
}

/** The words of a claim: text with spaces or commas, or a list. */
function wordsOf(claim: unknown): string[] {
  if (typeof claim === 'string') return claim.split(/[\s,]+/);
  return Array.isArray(claim) ? claim.filter((word) => typeof word === 'string') : [];
}

/** The highest role that these words name. */
export function roleOf(words: readonly string[]): ConsoleRole | undefined {
  const roles = words.map((word) => (Object.hasOwn(ROLE_OF_WORD, word) ? ROLE_OF_WORD[word] : undefined));
  return CONSOLE_ROLES.toReversed().find((role) => roles.includes(role));
}

function readPending(cookie: string | undefined): Pending | undefined {
  try {
    const { state, nonce, verifier, next } = JSON.parse(
      Buffer.from(cookie ?? '', 'base64url').toString(),
    ) as Pending;
    const texts = [state, nonce, verifier, next];
    return texts.every((text) => typeof text === 'string') ? { state, nonce, verifier, next } : undefined;
  } catch {
    return undefined;
  }
}

function refusal(error: unknown): RemitError {
  const name = error instanceof Error ? error.name : '';
  if (name === 'TimeoutError' || error instanceof TypeError)
    return new RemitError('unavailable', 'The issuer can’t be reached; try again.');
  if (name === 'AuthorizationResponseError')
    return new RemitError('unauthenticated', 'The issuer did not log you in.');
  return new RemitError('unauthenticated', 'The issuer’s answer is not valid for this login; try again.');
}
