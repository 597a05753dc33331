import { createHash, randomBytes } from 'node:crypto';
import { RemitError } from '../contracts/errors';
import { PORTAL_SUBSCRIPTIONS_MAX } from '../contracts/portal';
import type { PortalLink } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { recordChange, type Actor } from './audit';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';

/** Links to the subscribers' portal, and the session that each opens once. Secrets leave once and are stored as SHA-256 alone. */

export interface PortalBrand {
  name: string | null;
  /** `#rrggbb`. */
  color: string | null;
}

export interface PortalLinkView {
  id: string;
  subscriptionIds: string[];
  readOnly: boolean;
  brand: PortalBrand;
  /** Seconds for which its session lasts. */
  sessionS: number;
  createdBy: string;
  createdAt: Date;
  expiresAt: Date;
  openedAt: Date | null;
  sessionEndsAt: Date | null;
  revokedAt: Date | null;
}

/** Who looks at the portal: whoever has opened the link, for as long as its session lasts. */
export interface PortalSession {
  linkId: string;
  tenantId: string;
  /** All that it may see of the tenant: those of the link that have not been deleted. */
  subscriptionIds: readonly string[];
  readOnly: boolean;
  brand: PortalBrand;
  endsAt: Date;
}

const SECRET_BYTES = 32;
/** Links are kept for as long after their end, to see who was let in; each new one deletes a few. */
const KEEP_ENDED = "interval '30 days'";
const PRUNED_ROWS = 500;

const newSecret = () => randomBytes(SECRET_BYTES).toString('base64url');
/** The secrets are random, so that a fast hash is enough. */
const hashOf = (secret: string) => new Uint8Array(createHash('sha256').update(secret).digest());
const causeOf = (id: string) => `portal_link:${id}`;

function view(link: PortalLink): PortalLinkView {
  const { id, subscriptionIds, readOnly, brandName, brandColor, sessionS, createdBy, createdAt } = link;
  const { expiresAt, openedAt, sessionEndsAt, revokedAt } = link;
  return {
    ...{ id, subscriptionIds, readOnly, sessionS, createdBy, createdAt },
    ...{ expiresAt, openedAt, sessionEndsAt, revokedAt },
    brand: { name: brandName, color: brandColor },
  };
}

export interface NewPortalLink {
  /** A UUID: the link's id, and what makes its creation idempotent. */
  operationId: string;
  /** Ids or uids of the tenant's subscriptions, or a label that they have. */
  subscriptions: { refs: readonly string[] } | { label: string };
  expiresInS: number;
  sessionS: number;
  readOnly: boolean;
  brand: PortalBrand;
}

/**
 * Makes a link. Idempotent by its operationId: repeated, it hands back the same link with another code, which replaces the
 * one before.
 * @returns the link, and its code, which can't be read again.
 * @throws RemitError not_found for a subscription that the tenant has not; unprocessable when a label names none or too many;
 *   conflict when the link of the operationId was opened or revoked already.
 */
export async function createPortalLink(
  db: Database,
  by: Actor,
  { operationId: id, subscriptions, expiresInS, sessionS, readOnly, brand }: NewPortalLink,
): Promise<{ link: PortalLinkView; code: string }> {
  const { tenantId } = by;
  const code = newSecret();
  const link = await db.prisma.$transaction(async (tx) => {
    const made = await tx.portalLink.findUnique({ where: { id } });
    if (made) {
      if (made.tenantId !== tenantId || made.openedAt || made.revokedAt)
        throw new RemitError('conflict', 'The link that this request made was opened or revoked already.');
      return tx.portalLink.update({ where: { id }, data: { codeHash: hashOf(code) } });
    }
    const fresh = await tx.portalLink.create({
      data: {
        ...{ id, tenantId, readOnly, sessionS },
        codeHash: hashOf(code),
        subscriptionIds: await chosen({ prisma: tx as Database['prisma'] }, tenantId, subscriptions),
        brandName: brand.name,
        brandColor: brand.color,
        createdBy: by.actor,
        expiresAt: new Date(Date.now() + expiresInS * 1_000),
      },
    });
    const { subscriptionIds, expiresAt } = fresh;
    await recordChange(tx, by, {
      action: 'portal_link.created',
      cause: causeOf(id),
      after: { subscriptionIds, readOnly, brand, expiresAt, sessionS },
    });
    return fresh;
  });
  await db.pool.query(
    `DELETE FROM portal_links WHERE id IN
       (SELECT id FROM portal_links WHERE expires_at < now() - ${KEEP_ENDED} LIMIT ${PRUNED_ROWS})`,
  );
  return { link: view(link), code };
}

async function chosen(
  db: Pick<Database, 'prisma'>,
  tenantId: string,
  subscriptions: NewPortalLink['subscriptions'],
): Promise<string[]> {
  const which =
    'label' in subscriptions
      ? { labels: { has: subscriptions.label } }
      : { OR: [{ id: { in: [...subscriptions.refs] } }, { uid: { in: [...subscriptions.refs] } }] };
  const found = await db.prisma.subscription.findMany({
    where: { tenantId, state: { not: 'deleted' }, ...which },
    select: { id: true, uid: true },
    orderBy: { id: 'asc' },
    take: PORTAL_SUBSCRIPTIONS_MAX + 1,
  });
  if ('label' in subscriptions) {
    const refusal = found.length === 0 ? 'No subscription has' : `More than ${PORTAL_SUBSCRIPTIONS_MAX} have`;
    if (found.length === 0 || found.length > PORTAL_SUBSCRIPTIONS_MAX)
      throw new RemitError('unprocessable', `${refusal} the label ${subscriptions.label}.`);
  } else {
    const known = new Set(found.flatMap(({ id, uid }) => [id, uid]));
    const unknown = subscriptions.refs.find((ref) => !known.has(ref));
    if (unknown !== undefined) throw new RemitError('not_found', `There is no subscription ${unknown}.`);
  }
  return found.map(({ id }) => id);
}

/** A tenant's links, newest first, without their codes. @throws RemitError invalid_request on a malformed cursor. */
export async function listPortalLinks(
  { prisma }: Pick<Database, 'prisma'>,
  { tenantId, limit, cursor }: { tenantId: string; limit: number; cursor?: string | undefined },
): Promise<Page<PortalLinkView>> {
  const rows = await prisma.portalLink.findMany({
    where: { tenantId, ...afterCursor(cursor) },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

/** @throws RemitError not_found, also for another tenant's. */
export async function getPortalLink(
  { prisma }: Pick<Database, 'prisma'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<PortalLinkView> {
  const found = await prisma.portalLink.findFirst({ where: { id, tenantId } });
  if (!found) throw new RemitError('not_found', 'There is no such link.');
  return view(found);
}

/** Ends a link and its session at once. Safe to repeat. @throws RemitError not_found, also for another tenant's. */
export async function revokePortalLink(
  { prisma }: Pick<Database, 'prisma'>,
  by: Actor,
  id: string,
): Promise<void> {
  const { tenantId } = by;
  await prisma.$transaction(async (tx) => {
    const { count } = await tx.portalLink.updateMany({
      where: { id, tenantId, revokedAt: null },
      data: { revokedAt: new Date() },
    });
    if (count > 0) await recordChange(tx, by, { action: 'portal_link.revoked', cause: causeOf(id) });
    else await getPortalLink({ prisma: tx as Database['prisma'] }, { tenantId, id });
  });
}

// ---------------------------------------------------------------------------------------------------- sessions

/**
 * Opens a link, once. A browser that has opened it before, and whose session lasts, is let in again: a page that frames the
 * portal may be loaded again.
 * @param present what the browser's cookie holds; the session of another link ends.
 * @returns the session's secret, for the cookie, and for how many seconds it lasts; `open` when the present one goes on;
 *   undefined when there is no such code, or it was used, or is too old.
 */
export async function openPortalLink(
  { pool }: Pick<Database, 'pool'>,
  { code, present, correlationId }: { code: string; present: string | undefined; correlationId: string },
): Promise<{ secret: string; sessionS: number } | 'open' | undefined> {
  const secret = newSecret();
  const opened = await pool.query<{ sessionS: number }>(
    `WITH opened AS (
       UPDATE portal_links
          SET opened_at = now(), session_hash = $2, session_ends_at = now() + session_s * interval '1 second'
        WHERE code_hash = $1 AND opened_at IS NULL AND revoked_at IS NULL AND expires_at > now()
        RETURNING id, tenant_id, session_s)
     SELECT session_s AS "sessionS",
            audit_note(tenant_id, 'portal:' || id, 'portal_link.opened', 'portal_link:' || id, $3, NULL)
       FROM opened`,
    [hashOf(code), hashOf(secret), correlationId],
  );
  const [row] = opened.rows;
  if (row) {
    if (present !== undefined) await endPortalSession({ pool }, present);
    return { secret, sessionS: row.sessionS };
  }
  if (present === undefined) return undefined;
  const { rowCount } = await pool.query(
    `SELECT FROM portal_links
      WHERE code_hash = $1 AND session_hash = $2 AND revoked_at IS NULL AND session_ends_at > now()`,
    [hashOf(code), hashOf(present)],
  );
  return rowCount === 1 ? 'open' : undefined;
}

/** Whose session this is, while it lasts. */
export async function findPortalSession(
  { pool }: Pick<Database, 'pool'>,
  secret: string,
): Promise<PortalSession | undefined> {
  type Row = Omit<PortalSession, 'brand'> & { brandName: string | null; brandColor: string | null };
  const { rows } = await pool.query<Row>({
    name: 'find_portal_session',
    text: `SELECT l.id AS "linkId", l.tenant_id AS "tenantId", l.read_only AS "readOnly", l.brand_name AS "brandName",
                  l.brand_color AS "brandColor", l.session_ends_at AS "endsAt",
                  ARRAY(SELECT s.id FROM subscriptions s
                         WHERE s.id = ANY(l.subscription_ids) AND s.tenant_id = l.tenant_id AND s.state <> 'deleted'
                         ORDER BY s.created_at DESC, s.id DESC)
                    AS "subscriptionIds"
             FROM portal_links l
            WHERE l.session_hash = $1 AND l.revoked_at IS NULL AND l.session_ends_at > now()`,
    values: [hashOf(secret)],
  });
  if (!rows[0]) return undefined;
  const { brandName: name, brandColor: color, ...session } = rows[0];
  return { ...session, brand: { name, color } };
}

/** Ends a session. Safe to repeat. */
export async function endPortalSession({ pool }: Pick<Database, 'pool'>, secret: string): Promise<void> {
  await pool.query(
    'UPDATE portal_links SET session_ends_at = now() WHERE session_hash = $1 AND session_ends_at > now()',
    [hashOf(secret)],
  );
}
