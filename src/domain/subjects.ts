import { formatMinor } from '../contracts/money';
import type { SearchHit, SubjectKind, SubjectRef } from '../contracts/timeline';
import { workflowId } from '../contracts/workflows';
import type { Database } from '../platform/postgres';

/** Something that has an id of remit's, or a user, as lists and timelines show it. */
export interface Subject {
  kind: SubjectKind;
  id: string;
  status: string | null;
  /** When it was made. */
  at: Date;
  userId: string | null;
  amountMinor: bigint | null;
  currency: string | null;
  correlationId: string | null;
  /** Provider, event type or address. */
  label: string | null;
  /** Of a delivery: its event and its subscription. */
  eventId: string | null;
  subscriptionId: string | null;
  generation: number;
}

interface Row extends Omit<Subject, 'amountMinor'> {
  amountMinor: string | null;
}

const NONE = 'NULL::text';
/** The columns of Subject, of each kind; `where` is added. */
const select = (
  from: string,
  columns: Partial<Record<keyof Subject, string>> & { kind: string; id: string; at: string },
) =>
  `SELECT ${columns.kind} AS kind, ${columns.id}::text AS id, ${columns.status ?? NONE} AS status, ${columns.at} AS at,
          ${columns.userId ?? NONE} AS "userId", ${columns.amountMinor ?? NONE}::text AS "amountMinor",
          ${columns.currency ?? NONE} AS currency, ${columns.correlationId ?? NONE} AS "correlationId",
          ${columns.label ?? NONE} AS label, ${columns.eventId ?? NONE} AS "eventId",
          ${columns.subscriptionId ?? NONE} AS "subscriptionId", ${columns.generation ?? '0'} AS generation
     FROM ${from}`;

const money = { userId: 'user_id', amountMinor: 'amount_minor', currency: 'currency' };
const made = { id: 'id', at: 'created_at', status: 'status' };
const traced = { correlationId: 'correlation_id' };

export const SUBJECTS = {
  payment: select('payments', { ...made, ...money, ...traced, kind: 'type', label: 'provider' }),
  order: select('orders', { ...made, ...money, ...traced, kind: `'order'`, label: 'payment_method' }),
  dispute: select('disputes', { ...made, ...money, ...traced, kind: `'dispute'`, label: 'provider' }),
  event: select('webhook_events', {
    ...{ ...traced, kind: `'event'`, id: 'id', at: 'created_at', label: 'type' },
    status: `CASE WHEN fanned_out_at IS NULL THEN 'waiting' ELSE 'handed out' END`,
  }),
  delivery: select('deliveries', {
    ...{ ...made, kind: `'delivery'`, label: 'event_type', eventId: 'event_id' },
    ...{ subscriptionId: 'subscription_id', generation: 'generation' },
  }),
  subscription: select('subscriptions', {
    ...{ ...made, kind: `'subscription'`, status: 'state', label: 'url', subscriptionId: 'id' },
  }),
  replay: select('replays', {
    ...{ ...made, kind: `'replay'`, label: 'kind', subscriptionId: 'subscription_id' },
  }),
  user: select('accounts', { kind: `'user'`, id: 'user_id', at: 'min(created_at)', userId: 'user_id' }),
} as const;

function subjectOf({ amountMinor, ...row }: Row): Subject {
  return { ...row, amountMinor: amountMinor === null ? null : BigInt(amountMinor) };
}

/** One line of what it is. */
export function titleOf(subject: Subject): string {
  const { kind, label, amountMinor, currency, id } = subject;
  const amount =
    amountMinor !== null && currency !== null ? ` of ${formatMinor(amountMinor, currency)} ${currency}` : '';
  switch (kind) {
    case 'payment':
    case 'payout':
      return `${kind}${amount} by ${label}`;
    case 'order':
      return `order${amount}, paid ${label === 'provider' ? 'by a provider' : 'from the balance'}`;
    case 'dispute':
      return `dispute${amount} at ${label}`;
    case 'event':
      return `event ${label}`;
    case 'delivery':
      return `delivery of ${label} to ${subject.subscriptionId}`;
    case 'subscription':
      return `subscription of ${label}`;
    case 'replay':
      return `replay (${label}) for ${subject.subscriptionId}`;
    case 'user':
      return `user ${id}`;
  }
}

export const refOf = ({ kind, id }: SubjectRef): SubjectRef => ({ kind, id });

/** The workflow that carries it on; null when none does. */
export function workflowOf({ kind, id, label, eventId, subscriptionId, generation }: Subject): string | null {
  switch (kind) {
    case 'payment':
    case 'payout':
      return workflowId.payment(label ?? '', id);
    case 'order':
      return workflowId.order(id);
    case 'dispute':
      return workflowId.dispute(id);
    case 'delivery':
      return workflowId.delivery(eventId ?? '', subscriptionId ?? '', generation);
    case 'replay':
      return workflowId.replay(id);
    case 'event':
    case 'subscription':
    case 'user':
      return null;
  }
}

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;

type Matched = SearchHit['matched'];
export interface FoundSubject extends Subject {
  matched: Matched;
}

/** `payment/decard/<id>`, `delivery/<event>/<subscription>/2`, `order:<id>`: what stands in Temporal and in the audit log. */
const NAMED = /^(payment|payout|order|dispute|delivery|replay|event|subscription|refund|user)[:/](.{1,250})$/;

/** What stands for what in a name of ours; a text that is none is itself. */
function unfold(text: string): { text: string; delivery?: { eventId: string; subscriptionId: string } } {
  const [, kind, rest = ''] = NAMED.exec(text) ?? [];
  if (kind === undefined) return { text };
  const parts = rest.split('/');
  if (kind === 'delivery' && parts.length >= 2)
    return { text: '', delivery: { eventId: parts[0]!, subscriptionId: parts[1]! } };
  if (kind === 'user') return { text: rest };
  // A reference may go on: order:<id>:credit.
  return { text: (parts.at(-1) ?? '').split(':')[0] ?? '' };
}

const uuidTables = ['payment', 'order', 'delivery', 'replay'] as const;

/**
 * Everything of the tenant that has exactly this id or reference: ids of ours, a refund’s (which is its order), the
 * publisher’s id of an event, a provider’s of its event, a workflow’s, a user’s. Each is looked up by an index.
 * @param providers streams of provider events: the providers, and theirs of orders and disputes.
 */
export async function findExactly(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, text: given, providers }: { tenantId: string; text: string; providers: readonly string[] },
): Promise<FoundSubject[]> {
  const { text, delivery } = unfold(given);
  const named = text !== given;
  if (delivery) {
    const { rows } = await pool.query<Row>(
      `${SUBJECTS.delivery} WHERE tenant_id = $1 AND event_id = $2 AND subscription_id = $3`,
      [tenantId, delivery.eventId, delivery.subscriptionId],
    );
    return rows.map((row) => ({ ...subjectOf(row), matched: 'workflow' }));
  }
  const uuid = UUID.test(text.toLowerCase()) ? text.toLowerCase() : undefined;
  const byUuid = uuidTables.map((kind) => `${SUBJECTS[kind]} WHERE tenant_id = $1 AND id = $2::uuid`);
  const queries: { sql: string; values: unknown[]; matched: Matched }[] = [
    ...(uuid === undefined
      ? []
      : [
          ...byUuid.map((sql) => ({ sql, values: [tenantId, uuid], matched: 'id' as const })),
          {
            sql: `${SUBJECTS.order} WHERE tenant_id = $1 AND id = (SELECT order_id FROM refunds WHERE id = $2::uuid AND tenant_id = $1)`,
            values: [tenantId, uuid],
            matched: 'reference' as const,
          },
        ]),
    ...(['event', 'dispute', 'subscription'] as const).map((kind) => ({
      sql: `${SUBJECTS[kind]} WHERE tenant_id = $1 AND id = $2${kind === 'subscription' ? ` AND state <> 'deleted'` : ''}`,
      values: [tenantId, text],
      matched: 'id' as const,
    })),
    {
      sql: `${SUBJECTS.user} WHERE tenant_id = $1 AND user_id = $2 GROUP BY user_id`,
      values: [tenantId, text],
      matched: 'id',
    },
    {
      sql: `${SUBJECTS.event} WHERE tenant_id = $1 AND client_id = $2`,
      values: [tenantId, text],
      matched: 'reference',
    },
    ...(['payment', 'order'] as const).map((kind) => ({
      sql: `${SUBJECTS[kind]} WHERE tenant_id = $1 AND id IN (SELECT transaction_id FROM provider_events
              WHERE provider = ANY($3) AND provider_event_id = $2)`,
      values: [tenantId, text, providers],
      matched: 'reference' as const,
    })),
  ];
  const found = await Promise.all(
    queries.map(async ({ sql, values, matched }) => {
      const { rows } = await pool.query<Row>(`${sql} LIMIT 10`, values);
      return rows.map((row): FoundSubject => ({ ...subjectOf(row), matched: named ? 'workflow' : matched }));
    }),
  );
  return found.flat();
}

/** Characters of a prefix of a random id: 1 in 65,536 rows has the same. */
const PREFIX_MIN = 4;
/** Disputes have the ids that providers give them, which no index finds by a prefix: the newest are looked through. */
const DISPUTES_LOOKED_AT = 10_000;

/** What of the tenant has an id that begins so, at most `limit` of each kind. Ranges of an index, but for disputes. */
export async function findByPrefix(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, text, limit }: { tenantId: string; text: string; limit: number },
): Promise<FoundSubject[]> {
  const hex = text.toLowerCase().replaceAll('-', '');
  const isHex = /^[0-9a-f]+$/.test(hex) && hex.length >= PREFIX_MIN && hex.length < 32;
  const ours = /^(evt|sub)_[0-9a-f]{4,}$/.exec(text);
  const queries: { sql: string; values: unknown[] }[] = [
    ...(isHex
      ? uuidTables.map((kind) => ({
          sql: `${SUBJECTS[kind]} WHERE id BETWEEN $2::uuid AND $3::uuid AND tenant_id = $1 ORDER BY id LIMIT $4`,
          values: [tenantId, hex.padEnd(32, '0'), hex.padEnd(32, 'f'), limit],
        }))
      : []),
    ...(ours
      ? [
          {
            // In every collation digits come before letters, and `g` after every digit of an id.
            sql: `${SUBJECTS[ours[1] === 'evt' ? 'event' : 'subscription']} WHERE id >= $2 AND id < $3 AND tenant_id = $1 ORDER BY id LIMIT $4`,
            values: [tenantId, text, `${text}g`, limit],
          },
        ]
      : []),
    {
      sql: `${SUBJECTS.dispute.replace('FROM disputes', 'FROM (SELECT * FROM disputes WHERE tenant_id = $1 ORDER BY created_at DESC, id DESC LIMIT $4) AS recent')}
             WHERE starts_with(id, $2) LIMIT $3`,
      values: [tenantId, text, limit, DISPUTES_LOOKED_AT],
    },
    {
      // The last of the bounds in whatever collation the database has; starts_with is exact.
      sql: `${SUBJECTS.user} WHERE tenant_id = $1 AND user_id >= $2
               AND user_id < greatest($2 || '~~~~~~~~', $2 || 'zzzzzzzz') AND starts_with(user_id, $2)
             GROUP BY user_id ORDER BY user_id LIMIT $3`,
      values: [tenantId, text, limit],
    },
  ];
  const found = await Promise.all(
    queries.map(async ({ sql, values }) => (await pool.query<Row>(sql, values)).rows.map(subjectOf)),
  );
  return found.flat().map((subject) => ({ ...subject, matched: 'prefix' }));
}

/** Subjects by a condition over one of SUBJECTS, for timelines. */
export async function readSubjects(
  { pool }: Pick<Database, 'pool'>,
  sql: string,
  values: unknown[],
): Promise<Subject[]> {
  const { rows } = await pool.query<Row>(sql, values);
  return rows.map(subjectOf);
}
