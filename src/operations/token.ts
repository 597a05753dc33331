import path from 'node:path';
import { SignJWT } from 'jose';
import { LOCAL_ISSUER, SCOPES, type Scope } from '../api/auth';
import { TenantId, UserId } from '../contracts/http';
import { ConfigError, type Config } from '../platform/config';
import { localAccess } from './local-access';

export interface TokenRequest {
  /** `sub`: an operator's name, or a user's id. */
  subject: string;
  /** DEFAULT_TENANT when left out. */
  tenant?: string | undefined;
  /** May be empty: a user's token needs none. */
  scopes: readonly string[];
  expiresInS: number;
}

/** Longest life of a locally signed token: there is no way to revoke one but to change the key. */
const MAX_EXPIRY_S = 366 * 24 * 3_600;

/**
 * Signs a bearer token with AUTH_JWT_SECRET (HS256), for operators, scripts and the demo. Not idempotent.
 * @throws ConfigError without AUTH_JWT_SECRET, and Error that says which part of the request is not usable.
 */
export async function mintToken(
  config: Pick<Config, 'AUTH_JWT_SECRET' | 'AUTH_ISSUER' | 'AUTH_AUDIENCE' | 'DEFAULT_TENANT'>,
  { subject, tenant, scopes, expiresInS }: TokenRequest,
): Promise<string> {
  if (!config.AUTH_JWT_SECRET)
    throw new ConfigError('AUTH_JWT_SECRET is not set: without it, tokens come from your OIDC issuer only');
  if (!UserId.safeParse(subject).success) throw new Error(`subject ${JSON.stringify(subject)} is not usable`);
  const tenantId = tenant ?? config.DEFAULT_TENANT;
  if (!TenantId.safeParse(tenantId).success)
    throw new Error(`tenant ${JSON.stringify(tenantId)} is not usable`);
  const unknown = scopes.filter((scope) => !SCOPES.includes(scope as Scope));
  if (unknown.length > 0)
    throw new Error(`unknown scope ${unknown.join(', ')}; there are ${SCOPES.join(', ')}`);
  if (!Number.isInteger(expiresInS) || expiresInS < 1 || expiresInS > MAX_EXPIRY_S)
    throw new Error(`the token must expire within 1 to ${MAX_EXPIRY_S} seconds`);
  const now = Math.floor(Date.now() / 1_000);
  return new SignJWT({ tenant: tenantId, ...(scopes.length > 0 ? { scope: scopes.join(' ') } : {}) })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setSubject(subject)
    .setIssuer(config.AUTH_ISSUER ?? LOCAL_ISSUER)
    .setAudience(config.AUTH_AUDIENCE)
    .setIssuedAt(now)
    .setExpirationTime(now + expiresInS)
    .sign(new TextEncoder().encode(config.AUTH_JWT_SECRET));
}

/** `remit token`: a bearer token, signed with the key in the environment or of the local installation. */
export async function runToken(
  dataDir: string,
  options: { subject: string; tenant?: string; scope: string[]; expiresS: number },
): Promise<string> {
  const { config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const { subject, tenant, scope, expiresS } = options;
  return mintToken(config, { subject, tenant, scopes: scope, expiresInS: expiresS });
}
