import type { AuditRecord, Prisma } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { decodeCursor, encodeCursor, type Page } from './pages';

/** Who changes something, and in which request. */
export interface Actor {
  tenantId: string;
  /** `token:<subject>`, `console:<subject>`, `portal:<id of the link>`, `user:<id>` or `system:<name>`. */
  actor: string;
  correlationId: string;
}

/** A change of configuration. `before` and `after` must hold nothing secret. */
export interface Change {
  action: string;
  /** What was changed: `event_type:invoice.paid`, `subscription:sub_…`. */
  cause: string;
  before?: object | null;
  after?: object | null;
}

/** Writes who changed what, in the transaction of the change itself. */
export async function recordChange(
  tx: Pick<Prisma.TransactionClient, 'auditRecord'>,
  { tenantId, actor, correlationId }: Actor,
  { action, cause, before, after }: Change,
): Promise<void> {
  // Dates and the like as JSON has them.
  const details = JSON.parse(JSON.stringify({ before: before ?? null, after: after ?? null })) as object;
  await tx.auditRecord.create({ data: { tenantId, actor, action, cause, correlationId, details } });
}

export interface AuditView {
  id: bigint;
  at: Date;
  actor: string;
  action: string;
  cause: string;
  accountId: string | null;
  /** Minor units, like the other three; null where no balance was changed. */
  balanceBeforeMinor: bigint | null;
  balanceAfterMinor: bigint | null;
  heldBeforeMinor: bigint | null;
  heldAfterMinor: bigint | null;
  correlationId: string | null;
  details: unknown;
}

function view({ tenantId: _, ...record }: AuditRecord): AuditView {
  return record;
}

export interface AuditFilter {
  tenantId: string;
  /** `money`: operations on balances. `configuration`: everything else. */
  kind?: 'money' | 'configuration' | undefined;
  actor?: string | undefined;
  action?: string | undefined;
  cause?: string | undefined;
  /** From this moment on. */
  since?: Date | undefined;
  /** Before this moment. */
  until?: Date | undefined;
  limit: number;
  cursor?: string | undefined;
}

/**
 * A tenant's audit log, newest first: changes of configuration, balance operations, refused events.
 * @throws RemitError invalid_request on a malformed cursor.
 */
export async function listAudit(db: Pick<Database, 'prisma'>, filter: AuditFilter): Promise<Page<AuditView>> {
  const { tenantId, kind, actor, action, cause, since, until, limit, cursor } = filter;
  const rows = await db.prisma.auditRecord.findMany({
    where: {
      tenantId,
      ...(kind && { accountId: kind === 'money' ? { not: null } : null }),
      ...(actor !== undefined && { actor }),
      ...(action !== undefined && { action }),
      ...(cause !== undefined && { cause }),
      ...((since ?? until) && { at: { ...(since && { gte: since }), ...(until && { lt: until }) } }),
      ...(cursor !== undefined && { id: { lt: BigInt(decodeCursor(cursor).id) } }),
    },
    // Ids are in the order of writing; the time alone is not unique.
    orderBy: { id: 'desc' },
    take: limit + 1,
  });
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  const nextCursor =
    rows.length > limit && last ? encodeCursor({ createdAt: last.at, id: last.id.toString() }) : null;
  return { items: items.map(view), nextCursor };
}
