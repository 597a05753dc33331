import { HEADERS, type PaymentRequestEvent } from '../contracts/messages';
import { formatMinor } from '../contracts/money';
import { workflowId } from '../contracts/workflows';
import type { Database } from '../platform/postgres';
import type { DeliveryRow } from './pending-deliveries';

/**
 * Work that the database knows to be unfinished. What carries it on lies elsewhere: a message on its way through outbox
 * and Kafka, or a workflow in Temporal. After a restore, or when one of these was lost, nothing may; `remit recover` walks
 * through all of it, a page at a time, and reconciliation reports what is stalled.
 */

type Db = Pick<Database, 'pool'>;

/** Rows of one page. */
const PAGE_ROWS = 500;

// ---------------------------------------------------------------------------------------------------- messages

/** A message that is put into the outbox once more. */
interface Announcement {
  topic: 'payment-request' | 'events';
  /** The id of the order or event, which is also the message's key. */
  key: string;
  value: string;
  correlationId: string | null;
}

interface WaitingOrder {
  id: string;
  user_id: string;
  amount_minor: string;
  currency: string;
  correlation_id: string | null;
  created_at: Date;
}

/**
 * Orders paid from the balance that are not decided and whose payment request does not wait in the outbox: it is on its way, or
 * lost. Their request may be sent again at any time, as an order is paid once.
 */
export const waitingOrders = (db: Db, olderThanMs = 0): AsyncGenerator<Announcement[]> =>
  pages<WaitingOrder, Announcement>(
    db,
    `SELECT id, user_id, amount_minor, currency, correlation_id, created_at FROM orders o
      WHERE id > $1::uuid AND status = 'NEW' AND payment_method = 'balance' AND created_at <= now() - $2 * interval '1 millisecond'
        AND NOT EXISTS (SELECT FROM outbox WHERE topic = 'payment-request' AND key = o.id::text)
      ORDER BY id LIMIT $3`,
    ['00000000-0000-0000-0000-000000000000'],
    ({ id }) => [id],
    olderThanMs,
    ({ id, user_id: userId, amount_minor: amount, currency, correlation_id, created_at: createdAt }) => {
      const request: PaymentRequestEvent = {
        event: 'payment-request',
        orderId: id,
        userId,
        amount: formatMinor(BigInt(amount), currency),
        currency,
        requestedAt: createdAt.toISOString(),
      };
      return {
        topic: 'payment-request',
        key: id,
        value: JSON.stringify(request),
        correlationId: correlation_id,
      };
    },
  );

interface WaitingEvent {
  id: string;
  tenant_id: string;
  client_id: string | null;
  body: string;
  correlation_id: string | null;
  at: string;
}

/**
 * Events that are not handed out and whose message does not wait in the outbox. A message may be sent again at any time:
 * deliveries that are written stay as they are.
 */
export const waitingEvents = (db: Db, olderThanMs = 0): AsyncGenerator<Announcement[]> =>
  pages<WaitingEvent, Announcement>(
    db,
    // The text of a time keeps the microseconds that a Date would lose.
    `SELECT id, tenant_id, client_id, body, correlation_id, created_at::text AS at FROM webhook_events e
      WHERE (tenant_id, created_at, id) > ($1, $2::timestamptz, $3) AND fanned_out_at IS NULL
        AND created_at <= now() - $4 * interval '1 millisecond'
        AND NOT EXISTS (SELECT FROM outbox WHERE topic = 'events' AND key = e.id)
      ORDER BY tenant_id, created_at, id LIMIT $5`,
    ['', 'epoch', ''],
    ({ tenant_id: tenant, at, id }) => [tenant, at, id],
    olderThanMs,
    ({ id, tenant_id: tenantId, client_id: clientId, body, correlation_id: correlationId }) => ({
      topic: 'events',
      key: id,
      // The body is JSON text of an object, and stays as it was written.
      value: `${JSON.stringify({ id, tenantId, clientId }).slice(0, -1)},${body.trimStart().slice(1)}`,
      correlationId,
    }),
  );

/** Puts messages into the outbox, but for those that wait there. @returns how many were put. */
export async function announce({ pool }: Db, messages: readonly Announcement[]): Promise<number> {
  const { rowCount } = await pool.query(
    `INSERT INTO outbox (topic, key, value, headers)
     SELECT topic, key, value, headers::jsonb
       FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS m (topic, key, value, headers)
      WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.topic = m.topic AND o.key = m.key)`,
    [
      messages.map(({ topic }) => topic),
      messages.map(({ key }) => key),
      messages.map(({ value }) => value),
      messages.map(({ correlationId }) => JSON.stringify({ [HEADERS.correlationId]: correlationId ?? '' })),
    ],
  );
  return rowCount ?? 0;
}

// ---------------------------------------------------------------------------------------------------- workflows

/** What only a running workflow carries on. */
export type UnfinishedWork =
  | { kind: 'dispute'; id: string; workflowId: string; orderId: string; provider: string }
  | {
      kind: 'replay';
      id: string;
      workflowId: string;
      subscriptionId: string | null;
      ratePerSecond: number;
      paused: boolean;
    }
  | { kind: 'delivery'; id: string; workflowId: string; row: DeliveryRow; correlationId: string | null }
  | { kind: 'lane'; id: string; workflowId: string };
export type WorkKind = UnfinishedWork['kind'];

/** Disputes that wait for evidence or a verdict. */
const openDisputes = (db: Db, olderThanMs: number): AsyncGenerator<UnfinishedWork[]> =>
  pages<{ id: string; order_id: string; provider: string }, UnfinishedWork>(
    db,
    `SELECT id, order_id, provider FROM disputes
      WHERE id > $1 AND closed_at IS NULL AND created_at <= now() - $2 * interval '1 millisecond'
      ORDER BY id LIMIT $3`,
    [''],
    ({ id }) => [id],
    olderThanMs,
    ({ id, order_id: orderId, provider }) => ({
      kind: 'dispute',
      id,
      workflowId: workflowId.dispute(id),
      orderId,
      provider,
    }),
  );

/** Replays that are not at their end. */
const runningReplays = (db: Db, olderThanMs: number): AsyncGenerator<UnfinishedWork[]> =>
  pages<
    { id: string; subscription_id: string | null; rate_per_second: number; status: string },
    UnfinishedWork
  >(
    db,
    `SELECT id, subscription_id, rate_per_second, status FROM replays
      WHERE id > $1::uuid AND finished_at IS NULL AND created_at <= now() - $2 * interval '1 millisecond'
      ORDER BY id LIMIT $3`,
    ['00000000-0000-0000-0000-000000000000'],
    ({ id }) => [id],
    olderThanMs,
    ({ id, subscription_id: subscriptionId, rate_per_second: ratePerSecond, status }) => ({
      kind: 'replay',
      id,
      workflowId: workflowId.replay(id),
      subscriptionId,
      ratePerSecond,
      paused: status === 'paused',
    }),
  );

interface PendingDelivery {
  id: string;
  subscription_id: string;
  at: string;
  ref: DeliveryRow;
  correlation_id: string | null;
}

/** Deliveries that are neither delivered nor given up, and that neither a lane nor a message in the outbox has. */
const pendingDeliveries = (db: Db, olderThanMs: number): AsyncGenerator<UnfinishedWork[]> =>
  pages<PendingDelivery, UnfinishedWork>(
    db,
    `SELECT d.id, d.subscription_id, d.created_at::text AS at, delivery_ref_of(d) AS ref, e.correlation_id
       FROM deliveries d LEFT JOIN webhook_events e ON e.id = d.event_id
      WHERE (d.subscription_id, d.created_at, d.id) > ($1, $2::timestamptz, $3::uuid) AND d.status = 'pending' AND NOT d.in_lane
        AND greatest(d.created_at, d.to_start_since) <= now() - $4 * interval '1 millisecond'
        AND NOT EXISTS (SELECT FROM outbox o WHERE o.topic = 'events' AND o.key = d.event_id)
      ORDER BY d.subscription_id, d.created_at, d.id LIMIT $5`,
    ['', 'epoch', '00000000-0000-0000-0000-000000000000'],
    ({ subscription_id: subscription, at, id }) => [subscription, at, id],
    olderThanMs,
    ({ id, ref: row, correlation_id: correlationId }) => ({
      kind: 'delivery',
      id,
      workflowId: workflowId.delivery(row.eventId, row.subscriptionId, row.generation),
      row,
      correlationId,
    }),
  );

/** Lanes in which something waits. */
const waitingLanes = (db: Db, olderThanMs: number): AsyncGenerator<UnfinishedWork[]> =>
  pages<{ id: string }, UnfinishedWork>(
    db,
    `SELECT s.id FROM subscriptions s
      WHERE s.id > $1 AND EXISTS (
        SELECT FROM deliveries d WHERE d.subscription_id = s.id AND d.in_lane AND d.status = 'pending'
           AND d.created_at <= now() - $2 * interval '1 millisecond')
      ORDER BY s.id LIMIT $3`,
    [''],
    ({ id }) => [id],
    olderThanMs,
    ({ id }) => ({ kind: 'lane', id, workflowId: workflowId.lane(id) }),
  );

const WORK: Record<WorkKind, (db: Db, olderThanMs: number) => AsyncGenerator<UnfinishedWork[]>> = {
  dispute: openDisputes,
  replay: runningReplays,
  delivery: pendingDeliveries,
  lane: waitingLanes,
};
export const WORK_KINDS = Object.keys(WORK) as WorkKind[];

/** All unfinished work of a kind that is at least so old, a page at a time. Reads only. */
export const unfinishedWork = (db: Db, kind: WorkKind, olderThanMs = 0): AsyncGenerator<UnfinishedWork[]> =>
  WORK[kind](db, olderThanMs);

/** Which of these are unfinished still: while Temporal was asked, some may have come to their end. */
export async function stillUnfinished(
  { pool }: Db,
  kind: WorkKind,
  ids: readonly string[],
): Promise<ReadonlySet<string>> {
  const condition: Record<WorkKind, string> = {
    dispute: 'FROM disputes WHERE closed_at IS NULL AND id',
    replay: 'FROM replays WHERE finished_at IS NULL AND id::text',
    delivery: `FROM deliveries WHERE status = 'pending' AND NOT in_lane AND id::text`,
    lane: `FROM subscriptions s WHERE EXISTS (SELECT FROM deliveries d
             WHERE d.subscription_id = s.id AND d.in_lane AND d.status = 'pending') AND id`,
  };
  const { rows } = await pool.query<{ id: string }>(`SELECT id::text ${condition[kind]} = ANY($1::text[])`, [
    ids,
  ]);
  return new Set(rows.map(({ id }) => id));
}

// ---------------------------------------------------------------------------------------------------- payments

/**
 * Takes the expiry of payments back to before the first one that it has passed and that is pending all the same:
 * it expires them then, and looks at the others again. Idempotent. @returns how many such payments there are.
 */
export async function rewindExpiry({ pool }: Db, dryRun: boolean): Promise<number> {
  const passed = `FROM payments p JOIN job_positions s ON s.job = 'payment-expiry'
                  WHERE p.status = 'pending' AND (p.expires_at, p.id) <= (s.reached_at, s.reached_id::uuid)`;
  const { rows } = await pool.query<{ count: string; first: Date | null }>(
    `SELECT count(*), min(p.expires_at) AS first ${passed}`,
  );
  const count = Number(rows[0]?.count ?? 0);
  if (count > 0 && !dryRun)
    await pool.query(
      `UPDATE job_positions s
          SET reached_at = first.at - interval '1 millisecond', reached_id = '00000000-0000-0000-0000-000000000000', updated_at = now()
         FROM (SELECT min(p.expires_at) AS at ${passed}) AS first
        WHERE s.job = 'payment-expiry' AND first.at IS NOT NULL`,
    );
  return count;
}

/** How much is left to expire, for people: nothing has to be started for it, the schedule `expiry` does it. */
export async function countPendingPayments({ pool }: Db): Promise<number> {
  const { rows } = await pool.query<{ count: string }>(
    `SELECT count(*) FROM payments WHERE status = 'pending'`,
  );
  return Number(rows[0]?.count ?? 0);
}

// ---------------------------------------------------------------------------------------------------- pages

/** Walks a query in the order of its key, so that what changes meanwhile is met at most once. */
async function* pages<Row, Item>(
  { pool }: Db,
  text: string,
  start: readonly string[],
  keyOf: (row: Row) => string[],
  olderThanMs: number,
  toItem: (row: Row) => Item,
): AsyncGenerator<Item[]> {
  let key = [...start];
  for (;;) {
    const { rows } = await pool.query(text, [...key, olderThanMs, PAGE_ROWS]);
    const found = rows as Row[];
    const last = found.at(-1);
    if (last === undefined) return;
    yield found.map(toItem);
    if (found.length < PAGE_ROWS) return;
    key = keyOf(last);
  }
}
