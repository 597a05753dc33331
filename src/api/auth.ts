import { createHash } from 'node:crypto';
import type { Request } from 'express';
import { decodeProtectedHeader, errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose';
import { LRUCache } from 'lru-cache';
import { RemitError } from '../contracts/errors';
import { TenantId, UserId } from '../contracts/http';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import { IssuerKeys } from './issuer-keys';

/**
 * `topup` is for whoever puts money into users' accounts; `admin` includes it, `read` and `write`, of one tenant. `platform`
 * is for whoever runs the installation, and sees what is of no tenant: dead letters, the outbox, lag.
 */
export const SCOPES = ['read', 'write', 'topup', 'admin', 'platform'] as const;
export type Scope = (typeof SCOPES)[number];

/** Who calls, as far as a bearer token or a session of the console says. */
export interface Principal {
  subject: string;
  tenantId: string;
  scopes: ReadonlySet<Scope>;
  via: 'token' | 'console';
}

/** Finds whose session of the console a request belongs to; undefined when it brings none. */
export type FindSession = (request: Request) => Promise<Principal | undefined>;

/** Who calls on one of the users' routes. */
export interface User {
  userId: string;
  tenantId: string;
}

/** `iss` of tokens made by `remit token` when no AUTH_ISSUER is set. */
export const LOCAL_ISSUER = 'remit';

/** Asymmetric only: a JWKS key must never be usable as an HMAC key, nor the other way round. */
const JWKS_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  // RFC 9864's name of EdDSA with this curve, which alone goes on.
  'Ed25519',
];
const LOCAL_ALGORITHMS = ['HS256'];
const CLOCK_TOLERANCE_S = 5;
const MAX_TOKEN_CHARACTERS = 8_192;
/** How long a verified token is not verified again: so long a key that its issuer withdraws may still count. */
const VERIFIED_FOR_MS = 30_000;
const MAX_VERIFIED = 10_000;

export type AuthConfig = Pick<
  Config,
  | 'AUTH_JWT_SECRET'
  | 'AUTH_JWKS_URL'
  | 'AUTH_ISSUER'
  | 'AUTH_AUDIENCE'
  | 'DEFAULT_TENANT'
  | 'TRUST_USER_ID_HEADER'
>;

/** Verifies bearer tokens and tells users apart. */
export class Authenticator {
  private readonly localKey: Uint8Array | undefined;
  private readonly jwks: JWTVerifyGetKey | undefined;
  /** Who the callers are whose tokens were verified lately, by the hash of the token. */
  private readonly verified = new LRUCache<string, { principal: Principal; untilMs: number }>({
    max: MAX_VERIFIED,
  });

  constructor(
    private readonly config: AuthConfig,
    log?: Pick<Logger, 'warn' | 'info'>,
    private readonly findSession?: FindSession,
  ) {
    this.localKey = config.AUTH_JWT_SECRET ? new TextEncoder().encode(config.AUTH_JWT_SECRET) : undefined;
    this.jwks = config.AUTH_JWKS_URL ? new IssuerKeys(config.AUTH_JWKS_URL, log).find : undefined;
  }

  /**
   * The caller of an operator's route; the token must carry all of these scopes (`admin` includes those of a tenant).
   * Without a token, a session of the console will do.
   * @throws RemitError unauthenticated, forbidden, or unavailable when the JWKS can't be fetched.
   */
  async principal(request: Request, ...scopes: readonly Scope[]): Promise<Principal> {
    const session =
      request.headers.authorization === undefined ? await this.findSession?.(request) : undefined;
    const principal = session ?? (await this.verifyBearer(request));
    const lacking = scopes.find((scope) => !allows(principal, scope));
    if (lacking === undefined) return principal;
    const what = principal.via === 'console' ? 'Your role' : 'The token';
    throw new RemitError('forbidden', `${what} lacks the scope ${lacking}.`);
  }

  /**
   * The caller of a user's route: X-User-Id where configuration says to believe it, otherwise the token's subject. A
   * token of a user needs no scope; one that carries scopes of ours must have one of these.
   * @throws RemitError unauthenticated, forbidden, invalid_request for a malformed X-User-Id.
   */
  async user(request: Request, ...anyOf: readonly [Scope, ...Scope[]]): Promise<User> {
    const userId = this.trustedUserId(request);
    if (userId !== undefined) return { userId, tenantId: this.config.DEFAULT_TENANT };
    if (this.config.TRUST_USER_ID_HEADER && request.headers.authorization === undefined)
      throw new RemitError('unauthenticated', 'X-User-Id or a bearer token is required.');
    const principal = await this.verifyBearer(request);
    if (principal.scopes.size > 0 && !anyOf.some((scope) => allows(principal, scope)))
      throw new RemitError('forbidden', `The token lacks the scope ${anyOf.join(' or ')}.`);
    return { userId: principal.subject, tenantId: principal.tenantId };
  }

  /**
   * The user for whom somebody with a token of this scope acts: X-User-Id where configuration says to believe it,
   * otherwise the token's subject; of the token's tenant.
   * @throws RemitError unauthenticated, forbidden, invalid_request for a malformed X-User-Id.
   */
  async userFor(request: Request, scope: Scope): Promise<User> {
    const { subject, tenantId } = await this.principal(request, scope);
    return { userId: this.trustedUserId(request) ?? subject, tenantId };
  }

  private trustedUserId(request: Request): string | undefined {
    const header = request.headers['x-user-id'];
    if (!this.config.TRUST_USER_ID_HEADER || header === undefined) return undefined;
    const parsed = UserId.safeParse(header);
    if (parsed.success) return parsed.data;
    throw new RemitError('invalid_request', 'X-User-Id is not valid.', [
      { path: 'X-User-Id', message: parsed.error.issues[0]?.message ?? 'not valid' },
    ]);
  }

  private async verifyBearer(request: Request): Promise<Principal> {
    const match = /^Bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/i.exec(
      request.headers.authorization ?? '',
    );
    const token = match?.[1];
    if (!token || token.length > MAX_TOKEN_CHARACTERS)
      throw new RemitError('unauthenticated', 'A bearer token is required.');
    const hash = createHash('sha256').update(token).digest('base64');
    const known = this.verified.get(hash);
    if (known && Date.now() < known.untilMs) return known.principal;
    const payload = await this.verify(token);
    const principal = this.read(payload);
    const untilMs = Math.min((payload.exp! + CLOCK_TOLERANCE_S) * 1_000, Date.now() + VERIFIED_FOR_MS);
    this.verified.set(hash, { principal, untilMs });
    return principal;
  }

  private async verify(token: string): Promise<JWTPayload> {
    const issuer = this.config.AUTH_ISSUER;
    const common = {
      audience: this.config.AUTH_AUDIENCE,
      ...(issuer ? { issuer } : {}),
      requiredClaims: ['exp', 'sub'],
      clockTolerance: CLOCK_TOLERANCE_S,
    };
    try {
      const { alg } = decodeProtectedHeader(token);
      if (this.localKey && alg === 'HS256') {
        const { payload } = await jwtVerify(token, this.localKey, {
          ...common,
          algorithms: LOCAL_ALGORITHMS,
        });
        return payload;
      }
      if (this.jwks) {
        const { payload } = await jwtVerify(token, this.jwks, { ...common, algorithms: JWKS_ALGORITHMS });
        return payload;
      }
    } catch (error) {
      throw refusal(error);
    }
    throw new RemitError('unauthenticated', 'The token is not signed with a key that is accepted here.');
  }

  private read(payload: JWTPayload): Principal {
    const subject = UserId.safeParse(payload.sub);
    if (!subject.success) throw new RemitError('unauthenticated', 'The token’s subject (sub) is not usable.');
    const tenant = TenantId.safeParse(payload['tenant'] ?? this.config.DEFAULT_TENANT);
    if (!tenant.success) throw new RemitError('unauthenticated', 'The token’s tenant is not usable.');
    const claimed = typeof payload['scope'] === 'string' ? payload['scope'].split(' ') : [];
    const scopes = new Set(SCOPES.filter((scope) => claimed.includes(scope)));
    return { subject: subject.data, tenantId: tenant.data, scopes, via: 'token' };
  }
}

function allows(principal: Principal, scope: Scope): boolean {
  return principal.scopes.has(scope) || (scope !== 'platform' && principal.scopes.has('admin'));
}

/** What of a failed verification the caller may know: which rule, never key material. */
function refusal(error: unknown): RemitError {
  if (error instanceof errors.JWTExpired) return new RemitError('unauthenticated', 'The token has expired.');
  if (error instanceof errors.JWTClaimValidationFailed)
    return new RemitError('unauthenticated', `The token’s claim ${error.claim} is not accepted.`);
  const keysUnreachable =
    error instanceof errors.JWKSTimeout ||
    error instanceof errors.JWKSInvalid ||
    (error instanceof errors.JOSEError && error.code === 'ERR_JOSE_GENERIC');
  if (keysUnreachable || isFetchFailure(error))
    return new RemitError('unavailable', 'The keys of the token issuer can’t be fetched; try again.');
  return new RemitError('unauthenticated', 'The token is not valid.');
}

/** jose fetches the JWKS with node:http: an unreachable issuer shows as a system or TLS error with a code. */
function isFetchFailure(error: unknown): boolean {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && !/^ERR_(?!TLS)/.test(code);
}
