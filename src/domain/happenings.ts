import type { Happened } from '../contracts/stream';
import type { Database } from '../platform/postgres';
import { SUBJECTS, titleOf, type Subject } from './subjects';

/** What happens of a kind, with its time in `at`: rows of Subject and what happened to them, after $2 and up to $3. */
interface Source {
  kinds: readonly Happened['kind'][];
  sql: string;
}

const fresh = (kind: keyof typeof SUBJECTS, type: string): string =>
  `SELECT s.*, ${type} AS type, s.at AS "happenedAt" FROM (${SUBJECTS[kind]} WHERE tenant_id = $1 AND created_at > $2 AND created_at <= $3
      ORDER BY created_at DESC, id DESC LIMIT $4) AS s`;

const SOURCES: readonly Source[] = [
  { kinds: ['payment', 'payout'], sql: fresh('payment', `s.kind || '.created'`) },
  { kinds: ['order'], sql: fresh('order', `'order.created'`) },
  { kinds: ['delivery'], sql: fresh('delivery', `'delivery.created'`) },
  // Of payments, payouts, orders and disputes what became of them; and what the tenant publishes.
  { kinds: ['event', 'payment', 'payout', 'order', 'dispute'], sql: fresh('event', 's.label') },
  {
    kinds: ['attempt'],
    sql: `SELECT s.*, 'attempt.' || a.result AS type, a.started_at AS "happenedAt", a.attempt
            FROM (SELECT * FROM delivery_attempts WHERE tenant_id = $1 AND started_at > $2 AND started_at <= $3) AS a
            JOIN LATERAL (${SUBJECTS.delivery} WHERE id = a.delivery_id AND tenant_id = $1) AS s ON true
           ORDER BY a.started_at DESC LIMIT $4`,
  },
];

type Row = Omit<Subject, 'amountMinor'> & {
  amountMinor: string | null;
  type: string;
  happenedAt: Date;
  attempt?: number;
};

/** What the types of remit's own events begin with. */
const OWN_PREFIX = 'remit.';
/** Of what a remit event tells, by the first word of its type. */
const OWN_KINDS: readonly string[] = ['payment', 'payout', 'order', 'dispute'];

/**
 * What happened to a tenant's things after a time and up to another, oldest first, the newest `limit` of each kind. By the
 * times that rows bear, which are of before their commit: what commits late is found by looking once more.
 */
export async function happenings(
  { pool }: Pick<Database, 'pool'>,
  {
    tenantId,
    kinds,
    after,
    upTo,
    limit,
  }: { tenantId: string; kinds: ReadonlySet<Happened['kind']>; after: Date; upTo: Date; limit: number },
): Promise<Happened[]> {
  const asked = SOURCES.filter((source) => source.kinds.some((kind) => kinds.has(kind)));
  const found = await Promise.all(
    asked.map(({ sql }) => pool.query<Row>(sql, [tenantId, after, upTo, limit])),
  );
  return found
    .flatMap(({ rows }) => rows.map(happenedOf))
    .filter(({ kind }) => kinds.has(kind))
    .sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}

function happenedOf({ type, happenedAt, attempt, ...row }: Row): Happened {
  const subject: Subject = { ...row, amountMinor: row.amountMinor === null ? null : BigInt(row.amountMinor) };
  const own = type.startsWith(OWN_PREFIX) ? type.slice(OWN_PREFIX.length) : '';
  const word = own.split('.', 1)[0] ?? '';
  const kind = (
    attempt !== undefined
      ? 'attempt'
      : subject.kind === 'event' && OWN_KINDS.includes(word)
        ? word
        : subject.kind
  ) as Happened['kind'];
  return {
    id: attempt === undefined ? `${subject.kind}-${subject.id}` : `attempt-${subject.id}-${attempt}`,
    at: happenedAt.toISOString(),
    kind,
    type,
    subject: { kind: subject.kind, id: subject.id },
    title: titleOf(subject),
    status: subject.status,
    userId: subject.userId,
  };
}
