import { RemitError } from '../contracts/errors';
import type { DeliveryStatus } from '../contracts/webhooks';
import type { ReplayProgress, ReplayState } from '../contracts/workflows';
import type { Replay } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { recordChange } from './audit';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';
import { createWithinQuota, requireRoom } from './quota';

/**
 * `failed`: exhausted deliveries whose row is of the time. `all`: every event of the time. `missed`: events of the time
 * that the subscription never got, and deliveries that were held or wait. `retry`: deliveries of the time in `statuses`, tried
 * now, of one subscription or all of the tenant's. `cancel`: those of them that are pending end without another attempt.
 */
export type ReplayKind = 'failed' | 'all' | 'missed' | 'retry' | 'cancel';
export type ReplayStatus = ReplayState['status'];

export interface ReplayView {
  id: string;
  /** Null for a retry or cancel of all of a tenant's. */
  subscriptionId: string | null;
  kind: ReplayKind;
  /** Of a retry; empty for the others. */
  statuses: DeliveryStatus[];
  /** Full types or wildcards at a dot; empty for all. */
  eventTypes: string[];
  /** Of a retry or cancel: only that event's. */
  eventId: string | null;
  since: Date;
  until: Date;
  ratePerSecond: number;
  status: ReplayStatus;
  statusReason: string | null;
  /** Rows looked at, and deliveries reopened. */
  examined: number;
  replayed: number;
  /** How far in the period it has come. */
  reachedAt: Date | null;
  createdAt: Date;
  finishedAt: Date | null;
}

function view({ tenantId: _, actor: __, examined, replayed, ...replay }: Replay): ReplayView {
  return {
    ...replay,
    kind: replay.kind as ReplayKind,
    statuses: replay.statuses as DeliveryStatus[],
    status: replay.status as ReplayStatus,
    examined: Number(examined),
    replayed: Number(replayed),
  };
}

export interface NewReplay {
  /** A UUID that makes the creation idempotent. */
  id: string;
  tenantId: string;
  subscriptionId: string | null;
  kind: ReplayKind;
  statuses?: DeliveryStatus[];
  eventTypes: string[];
  eventId?: string | null;
  since: Date;
  /** Now when left out: what is published later is not replayed. */
  until?: Date | undefined;
  ratePerSecond: number;
  actor: string;
  /** WEBHOOK_REPLAYS_MAX_RUNNING of the tenant. */
  maxRunning: number;
  /** For the audit log; the replay's id when left out. */
  correlationId?: string;
}

/**
 * Writes a replay; its workflow carries it out. Idempotent by id: the replay made under it is returned as it is.
 * @throws RemitError not_found; conflict when the subscription gets nothing in its state; unprocessable when the time is
 *   none or too many replays of the tenant are running.
 */
export async function createReplay(
  db: Pick<Database, 'prisma'>,
  { maxRunning, correlationId: given, ...replay }: NewReplay,
): Promise<ReplayView> {
  const now = new Date();
  const until = replay.until && replay.until < now ? replay.until : now;
  if (replay.since > until)
    throw new RemitError('unprocessable', 'The period to replay ends before it begins.', [
      { path: 'since', message: 'must not be after until, nor in the future' },
    ]);
  const { id, tenantId, subscriptionId } = replay;
  const correlationId = given ?? id;
  const created = await createWithinQuota(db, 'replays', tenantId, async (tx) => {
    const made = await tx.replay.findFirst({ where: { id, tenantId } });
    if (made) return made;
    if (subscriptionId !== null && replay.kind !== 'cancel')
      await requireTaking(tx, tenantId, subscriptionId);
    const running = await tx.replay.count({ where: { tenantId, status: { in: ['running', 'paused'] } } });
    requireRoom('replays at a time', running, maxRunning);
    const fresh = await tx.replay.create({ data: { ...replay, until } });
    const { kind, since, eventTypes, eventId = null } = replay;
    // Whoever has everything tried now does not want it to wait for a rest.
    if (kind === 'retry')
      await tx.subscription.updateMany({
        where: { tenantId, throttleLevel: { gt: 0 }, ...(subscriptionId !== null && { id: subscriptionId }) },
        data: { throttledUntil: null, throttleLevel: 0 },
      });
    await recordChange(
      tx,
      { tenantId, actor: replay.actor, correlationId },
      {
        action: 'replay.created',
        cause: subscriptionId === null ? `tenant:${tenantId}` : `subscription:${subscriptionId}`,
        after: {
          replayId: id,
          kind,
          since,
          until,
          eventTypes,
          ...(kind === 'retry' && { statuses: replay.statuses }),
          ...(eventId !== null && { eventId }),
        },
      },
    );
    return fresh;
  });
  return view(created);
}

async function requireTaking(
  tx: Pick<Database['prisma'], 'subscription'>,
  tenantId: string,
  id: string,
): Promise<void> {
  const found = await tx.subscription.findFirst({ where: { id, tenantId, state: { not: 'deleted' } } });
  if (!found) throw new RemitError('not_found', 'There is no such subscription.');
  if (found.state !== 'active' && found.state !== 'failing')
    throw new RemitError('conflict', `The subscription is ${found.state}: resume it first.`);
}

/** How many deliveries a retry or cancel would be for at the moment; counted up to a limit. */
export async function countRetried(
  db: Pick<Database, 'pool' | 'prisma'>,
  {
    tenantId,
    subscriptionId,
    kind,
    statuses,
    eventTypes,
    eventId = null,
    since,
    until = new Date(),
  }: Pick<
    NewReplay,
    'tenantId' | 'subscriptionId' | 'kind' | 'eventTypes' | 'eventId' | 'since' | 'until'
  > & {
    statuses: DeliveryStatus[];
  },
  limit: number,
): Promise<number> {
  const cancels = kind === 'cancel';
  if (subscriptionId !== null && !cancels) await requireTaking(db.prisma, tenantId, subscriptionId);
  const { rows } = await db.pool.query<{ count: number }>(
    `SELECT count(*)::integer AS count FROM (
       SELECT FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id
        WHERE d.tenant_id = $1 AND ($2::text IS NULL OR d.subscription_id = $2) AND d.status = ANY($3::text[])
          AND d.created_at >= $4 AND d.created_at <= $5 AND ($8 OR s.state IN ('active', 'failing'))
          AND ($6::text[] = '{}' OR event_type_wanted($6, d.event_type))
          AND ($9::text IS NULL OR d.event_id = $9) LIMIT $7) AS found`,
    [tenantId, subscriptionId, statuses, since, until, eventTypes, limit, cancels, eventId],
  );
  return rows[0]?.count ?? 0;
}

export interface ReplayFilter {
  tenantId: string;
  subscriptionId?: string | undefined;
  status?: ReplayStatus | undefined;
  limit: number;
  cursor?: string | undefined;
}

/** A tenant's replays, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listReplays(
  db: Pick<Database, 'prisma'>,
  { tenantId, subscriptionId, status, limit, cursor }: ReplayFilter,
): Promise<Page<ReplayView>> {
  const rows = await db.prisma.replay.findMany({
    where: {
      tenantId,
      ...(subscriptionId !== undefined && { subscriptionId }),
      ...(status !== undefined && { status }),
      ...afterCursor(cursor),
    },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

/** @throws RemitError not_found, also for another tenant's. `id` is a UUID. */
export async function getReplay(
  db: Pick<Database, 'prisma'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<ReplayView> {
  const found = await db.prisma.replay.findFirst({ where: { id, tenantId } });
  if (!found) throw new RemitError('not_found', 'There is no such replay.');
  return view(found);
}

export interface ReplaySlice {
  /** In whose lanes something has changed. */
  subscriptions: string[];
  /** It has cancelled deliveries, whose workflows may wait for their next attempts. */
  cancels?: true;
  at: string;
  after: string;
  examined: number;
  opened: number;
  done: boolean;
  /** Why it can't go on; null while it can. */
  stopped: string | null;
  /** When the next slice begins. */
  until: string;
}

/**
 * One slice of a replay: puts what the rate allows in `sliceMs` into the lanes, evenly from where the slice before ended
 * on, from among at most `rows` rows after a position. A cancellation ends as many as that. Repeating it opens nothing twice.
 * @throws what the database throws in an outage, and when the replay is no longer kept.
 */
export async function replaySlice(
  db: Pick<Database, 'pool'>,
  replayId: string,
  { at, after, nextAt }: Pick<ReplayProgress, 'at' | 'after' | 'nextAt'>,
  { sliceMs, rows: limit }: { sliceMs: number; rows: number },
): Promise<ReplaySlice> {
  const { rows } = await db.pool.query<{ slice: ReplaySlice }>({
    name: 'replay_slice',
    text: `SELECT replay_slice(r.id, $2, $3, $4::integer,
                        greatest(1, least($4::integer, r.rate_per_second * $5::double precision / 1000))::integer, $6) AS slice
             FROM replays r WHERE r.id = $1::uuid`,
    values: [replayId, at, after, limit, sliceMs, nextAt ?? new Date(0).toISOString()],
  });
  const slice = rows[0]?.slice;
  if (!slice) throw new Error(`replay ${replayId} is no longer kept`);
  return slice;
}

/** A delivery that a cancellation in bulk has ended while a workflow may have waited for its next attempt. */
export interface CancelledInWorkflow {
  id: string;
  createdAt: Date;
  eventId: string;
  subscriptionId: string;
  generation: number;
}

/** Those of a replay after a position, in the order of time. Reads only. */
export async function cancelledInWorkflows(
  db: Pick<Database, 'pool'>,
  replayId: string,
  { at, after }: Pick<ReplayProgress, 'at' | 'after'>,
  limit: number,
): Promise<CancelledInWorkflow[]> {
  const { rows } = await db.pool.query<CancelledInWorkflow>({
    name: 'cancelled_workflows',
    text: `SELECT id, created_at AS "createdAt", event_id AS "eventId", subscription_id AS "subscriptionId", generation
             FROM cancelled_workflows($1, $2, $3, $4)`,
    values: [replayId, at, after, limit],
  });
  return rows;
}

/** A replay that no workflow may have begun yet. */
export type StrandedReplay = Pick<ReplayView, 'id' | 'subscriptionId' | 'ratePerSecond'>;

/**
 * Replays that are written and have not done a step, oldest first, at most `limit` after a position: after a crash of
 * the API their workflow may not have been started. Some of them may just be beginning: starting one again under its id
 * changes nothing.
 */
export async function listStrandedReplays(
  db: Pick<Database, 'pool'>,
  { after, limit }: { after: { at: string; id: string } | null; limit: number },
): Promise<{ replays: StrandedReplay[]; next: { at: string; id: string } | null }> {
  const { rows } = await db.pool.query<StrandedReplay & { at: Date }>({
    name: 'stranded_replays',
    text: `SELECT id, subscription_id AS "subscriptionId", rate_per_second AS "ratePerSecond", created_at AS at
             FROM replays
            WHERE status = 'running' AND reached_at IS NULL AND (created_at, id) > ($1::timestamptz, $2::uuid)
            ORDER BY created_at, id LIMIT $3`,
    values: [after?.at ?? '1970-01-01T00:00:00Z', after?.id ?? '00000000-0000-0000-0000-000000000000', limit],
  });
  const last = rows.at(-1);
  return {
    replays: rows.map(({ at: _, ...replay }) => replay),
    next: last && rows.length === limit ? { at: last.at.toISOString(), id: last.id } : null,
  };
}

/** Ends a replay whose workflow is not there. @returns whether it was not ended already. */
export async function cancelReplay(
  db: Pick<Database, 'prisma'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<boolean> {
  const { count } = await db.prisma.replay.updateMany({
    where: { id, tenantId, finishedAt: null },
    data: { status: 'cancelled', statusReason: 'its workflow was not running', finishedAt: new Date() },
  });
  return count > 0;
}

/** Stores how far a replay has come. Idempotent; one that is finished stays as it is. */
export async function recordReplay(
  db: Pick<Database, 'prisma'>,
  replayId: string,
  { status, reason, examined, replayed, at }: Omit<ReplayState, 'after' | 'paused'>,
): Promise<void> {
  await db.prisma.replay.updateMany({
    where: { id: replayId, finishedAt: null },
    data: {
      status,
      statusReason: reason,
      examined,
      replayed,
      ...(examined > 0 && { reachedAt: new Date(at) }),
      ...(status !== 'running' && status !== 'paused' && { finishedAt: new Date() }),
    },
  });
}
