import type { OutboxRefused } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { decodeCursor, toPage, type Page } from './pages';

export type RefusedRow = OutboxRefused;

/** Messages that Kafka will never take as they are, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listRefused(
  { prisma }: Pick<Database, 'prisma'>,
  { limit, cursor }: { limit: number; cursor?: string | undefined },
): Promise<Page<OutboxRefused>> {
  const rows = await prisma.outboxRefused.findMany({
    where: cursor === undefined ? {} : { id: { lt: BigInt(decodeCursor(cursor).id) } },
    orderBy: { id: 'desc' },
    take: limit + 1,
  });
  const places = rows.map((row) => ({ id: row.id.toString(), createdAt: row.refusedAt, row }));
  return toPage(places, limit, ({ row }) => row);
}

/** Rows that one call works on. */
const ROWS_MAX = 1_000;

/**
 * Moves refused messages back into the outbox (`retry`), or deletes them, with their content in the audit log (`discard`);
 * the oldest when no ids are given. Repeated, it finds none of them any more.
 * @returns how many.
 */
export async function operateRefused(
  { pool }: Pick<Database, 'pool'>,
  by: { tenantId: string; actor: string; correlationId: string },
  verb: 'retry' | 'discard',
  ids: readonly string[] | undefined,
): Promise<number> {
  // One statement is one transaction.
  const { rows } = await pool.query<{ id: string }>(
    `WITH chosen AS (
         SELECT id FROM outbox_refused WHERE $1::bigint[] IS NULL OR id = ANY($1) ORDER BY id LIMIT ${ROWS_MAX} FOR UPDATE SKIP LOCKED),
       gone AS (DELETE FROM outbox_refused r USING chosen c WHERE r.id = c.id RETURNING r.*),
       again AS (
         INSERT INTO outbox (topic, key, value, headers)
         SELECT topic, key, value, headers FROM gone WHERE $2 ORDER BY id),
       told AS (
         INSERT INTO audit_log (tenant_id, actor, action, cause, correlation_id, details)
         SELECT $3, $4, CASE WHEN $2 THEN 'outbox.retried' ELSE 'outbox.discarded' END, 'outbox:' || id, $5,
                jsonb_build_object('before', to_jsonb(gone)) FROM gone)
       SELECT id FROM gone`,
    [ids ?? null, verb === 'retry', by.tenantId, by.actor, by.correlationId],
  );
  return rows.length;
}
