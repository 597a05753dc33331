import { createHash, randomBytes } from 'node:crypto';
import type { ConsoleRole } from '../contracts/console';
import type { Database } from '../platform/postgres';

/** Who is logged in to the console. The secrets leave once and are stored as SHA-256 alone. */

export interface ConsoleUser {
  tenantId: string;
  subject: string;
  role: ConsoleRole;
  /** Also what belongs to the installation and to no tenant: dead letters, lag, purchases. */
  platform: boolean;
}

export interface ConsoleSessionView extends ConsoleUser {
  /** It ends then unless it is used before. */
  expiresAt: Date;
  /** It ends then in any case. */
  endsAt: Date;
}

export interface SessionLimits {
  /** Milliseconds without use after which a session ends. */
  idleMs: number;
  /** Milliseconds after which it ends in any case. */
  maxMs: number;
}

const SECRET_BYTES = 32;
/** Uses within this share of the idle time are not written down one by one. */
const RENEW_SHARE = 20;
/** Ended sessions and links are kept for as long, to see who was logged in; each login deletes a few. */
const KEEP_ENDED = "interval '7 days'";
const PRUNED_ROWS = 500;

const newSecret = () => randomBytes(SECRET_BYTES).toString('base64url');
/** The secrets are random, so that a fast hash is enough. */
const hashOf = (secret: string) => createHash('sha256').update(secret).digest();

/**
 * Makes a link's code that logs this user in, once, within `validMs`.
 * @returns the code; it can't be read again.
 */
export async function createConsoleLink(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, subject, role, platform }: ConsoleUser,
  validMs: number,
): Promise<string> {
  const code = newSecret();
  await pool.query(
    `INSERT INTO console_links (code_hash, tenant_id, subject, role, platform, expires_at)
     VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 millisecond')`,
    [hashOf(code), tenantId, subject, role, platform, validMs],
  );
  return code;
}

/** Uses a link's code up. @returns whom it logs in; undefined when there is no such code, or it was used, or is too old. */
export async function redeemConsoleLink(
  { pool }: Pick<Database, 'pool'>,
  code: string,
): Promise<ConsoleUser | undefined> {
  const { rows } = await pool.query<ConsoleUser>(
    `UPDATE console_links SET used_at = now()
      WHERE code_hash = $1 AND used_at IS NULL AND expires_at > now()
      RETURNING tenant_id AS "tenantId", subject, role, platform`,
    [hashOf(code)],
  );
  return rows[0];
}

/** Logs a user in. @returns the session's secret, for the cookie. */
export async function createConsoleSession(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, subject, role, platform }: ConsoleUser,
  login: 'link' | 'oidc',
  limits: SessionLimits,
): Promise<string> {
  const secret = newSecret();
  await pool.query(
    `INSERT INTO console_sessions (id_hash, tenant_id, subject, role, platform, login, expires_at, ends_at)
     VALUES ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 millisecond', now() + $8 * interval '1 millisecond')`,
    [
      hashOf(secret),
      tenantId,
      subject,
      role,
      platform,
      login,
      Math.min(limits.idleMs, limits.maxMs),
      limits.maxMs,
    ],
  );
  await prune(pool);
  return secret;
}

/** Whose session this is, while it lasts; its use renews it. */
export async function useConsoleSession(
  { pool }: Pick<Database, 'pool'>,
  secret: string,
  { idleMs }: Pick<SessionLimits, 'idleMs'>,
): Promise<ConsoleSessionView | undefined> {
  const { rows } = await pool.query<ConsoleSessionView>(
    `SELECT tenant_id AS "tenantId", subject, role, platform, expires_at AS "expiresAt", ends_at AS "endsAt"
       FROM console_sessions
      WHERE id_hash = $1 AND revoked_at IS NULL AND expires_at > now() AND ends_at > now()`,
    [hashOf(secret)],
  );
  const session = rows[0];
  if (!session) return undefined;
  if (session.expiresAt >= session.endsAt) return session;
  if (session.expiresAt.getTime() - Date.now() > idleMs * (1 - 1 / RENEW_SHARE)) return session;
  const renewed = await pool.query<{ expiresAt: Date }>(
    `UPDATE console_sessions SET expires_at = least(now() + $2 * interval '1 millisecond', ends_at)
      WHERE id_hash = $1 AND revoked_at IS NULL
      RETURNING expires_at AS "expiresAt"`,
    [hashOf(secret), idleMs],
  );
  return renewed.rows[0] && { ...session, expiresAt: renewed.rows[0].expiresAt };
}

/** Logs out: this session, or all of its user. Safe to repeat. @returns how many sessions it ended. */
export async function revokeConsoleSession(
  { pool }: Pick<Database, 'pool'>,
  secret: string,
  everywhere: boolean,
): Promise<number> {
  const { rowCount } = await pool.query(
    everywhere
      ? `UPDATE console_sessions SET revoked_at = now()
          WHERE (tenant_id, subject) IN (SELECT tenant_id, subject FROM console_sessions WHERE id_hash = $1)
            AND revoked_at IS NULL AND ends_at > now()`
      : 'UPDATE console_sessions SET revoked_at = now() WHERE id_hash = $1 AND revoked_at IS NULL',
    [hashOf(secret)],
  );
  return rowCount ?? 0;
}

async function prune(pool: Database['pool']): Promise<void> {
  await pool.query(
    `DELETE FROM console_sessions WHERE id_hash IN
       (SELECT id_hash FROM console_sessions WHERE ends_at < now() - ${KEEP_ENDED} LIMIT ${PRUNED_ROWS})`,
  );
  await pool.query(
    `DELETE FROM console_links WHERE code_hash IN
       (SELECT code_hash FROM console_links WHERE expires_at < now() - ${KEEP_ENDED} LIMIT ${PRUNED_ROWS})`,
  );
}
