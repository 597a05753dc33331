import type { SubjectRef } from '../contracts/timeline';
import { workflowId } from '../contracts/workflows';
import type { Database } from '../platform/postgres';
import { readSubjects, refOf, SUBJECTS, titleOf, type Subject } from './subjects';
import { action, amountOf, curlOf, type TimelineRecord } from './timeline-record';

/** What a timeline reads at most of each kind; the rest is noted. */
const READ_MAX = {
  events: 200,
  deliveries: 200,
  attempts: 1_000,
  journal: 300,
  audit: 500,
  providerEvents: 300,
};
/** Workflows of deliveries whose history is read. */
const DELIVERY_WORKFLOWS_MAX = 5;

export interface Reading {
  pool: Database['pool'];
  tenantId: string;
  record: TimelineRecord;
}

async function limited<Row extends object>(
  { pool, record }: Reading,
  what: keyof typeof READ_MAX,
  sql: string,
  values: unknown[],
): Promise<Row[]> {
  const limit = READ_MAX[what];
  const { rows } = await pool.query<Row>(`${sql} LIMIT ${limit + 1}`, values);
  if (rows.length > limit) record.notes.add(`only ${limit} of the ${what} are shown`);
  return rows.slice(0, limit);
}

// ---------------------------------------------------------------------------------------------------- money

interface JournalRow {
  id: string;
  kind: string;
  reference: string;
  correlationId: string | null;
  at: Date;
  lines: {
    account: string | null;
    user: string | null;
    amount: string;
    currency: string;
    after: string | null;
  }[];
}

/** Journal transactions of these references, with all their lines. */
export async function readJournal(reading: Reading, references: readonly string[], subject: SubjectRef) {
  const rows = await limited<JournalRow>(
    reading,
    'journal',
    `SELECT j.id, j.kind, j.reference, j.correlation_id AS "correlationId", j.created_at AS at,
            (SELECT jsonb_agg(jsonb_build_object('account', coalesce(e.account_id::text, e.system_account),
                      'user', a.user_id, 'amount', e.amount_minor::text, 'currency', e.currency,
                      'after', e.balance_after_minor::text) ORDER BY e.id)
               FROM ledger_entries e LEFT JOIN accounts a ON a.id = e.account_id WHERE e.journal_id = j.id) AS lines
       FROM journal_transactions j WHERE j.tenant_id = $1 AND j.reference = ANY($2) ORDER BY j.id`,
    [reading.tenantId, references],
  );
  for (const { id, kind, reference, correlationId, at, lines } of rows) {
    const told = (lines ?? []).map(
      ({ account, user, amount, currency }) =>
        `${amount.startsWith('-') ? '' : '+'}${amountOf(amount, currency)} ${user === null ? account : `user ${user}`}`,
    );
    reading.record.add(at, 'ledger', `money moved (${kind}): ${told.join(', ')}`, {
      subject,
      correlationId,
      details: { journalId: id, reference, lines: lines ?? [] },
    });
  }
}

interface AuditRow {
  id: string;
  at: Date;
  actor: string;
  action: string;
  cause: string;
  correlationId: string | null;
  details: Record<string, unknown> | null;
  currency: string | null;
  before: string | null;
  after: string | null;
  heldBefore: string | null;
  heldAfter: string | null;
}

/** Actions by which an event of a provider is refused or flagged. */
const REFUSED_ACTIONS: ReadonlySet<string> = new Set([
  ...['amount_mismatch', 'type_mismatch', 'user_mismatch', 'payment_method_mismatch', 'event_conflict'],
  ...['contradiction', 'dispute_mismatch'],
]);

/** Audit records of these causes. @returns those by which something was refused, the newest last. */
export async function readAudit(
  reading: Reading,
  causes: readonly string[],
  subject: SubjectRef,
): Promise<{ action: string; what: string; at: Date }[]> {
  const rows = await limited<AuditRow>(
    reading,
    'audit',
    `SELECT l.id, l.at, l.actor, l.action, l.cause, l.correlation_id AS "correlationId", l.details, a.currency,
            l.balance_before_minor AS before, l.balance_after_minor AS after,
            l.held_before_minor AS "heldBefore", l.held_after_minor AS "heldAfter"
       FROM audit_log l LEFT JOIN accounts a ON a.id = l.account_id
      WHERE l.tenant_id = $1 AND l.cause = ANY($2) ORDER BY l.id DESC`,
    [reading.tenantId, causes],
  );
  const refused: { action: string; what: string; at: Date }[] = [];
  for (const row of rows.reverse()) {
    const bad = REFUSED_ACTIONS.has(row.action);
    const what = auditText(row);
    reading.record.add(row.at, 'audit', what, {
      level: bad ? 'error' : 'info',
      subject,
      correlationId: row.correlationId,
      details: { auditId: row.id, actor: row.actor, action: row.action, cause: row.cause, ...row.details },
    });
    if (bad) refused.push({ action: row.action, what, at: row.at });
  }
  return refused;
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '?');

function auditText(row: AuditRow): string {
  const { actor, action: done, details, currency } = row;
  if (REFUSED_ACTIONS.has(done)) {
    const { status, amountMinor, currency: said, providerEventId } = details ?? {};
    const amount =
      typeof amountMinor === 'string' && typeof said === 'string' ? ` of ${amountOf(amountMinor, said)}` : '';
    return `${actor}’s event ${textOf(providerEventId)} (${textOf(status)}${amount}) was not applied: ${done}`;
  }
  if (currency === null || row.before === null || row.after === null) return `${actor}: ${done}`;
  const changes = [
    ...(row.before === row.after
      ? []
      : [`balance ${amountOf(row.before, currency)} → ${amountOf(row.after, currency)}`]),
    ...(row.heldBefore === row.heldAfter
      ? []
      : [
          `held ${amountOf(row.heldBefore ?? 0n.toString(), currency)} → ${amountOf(row.heldAfter ?? '0', currency)}`,
        ]),
  ];
  return `${actor}: ${done}, ${changes.join(', ')}`;
}

// ---------------------------------------------------------------------------------------------------- providers

interface ProviderEventRow {
  provider: string;
  providerEventId: string;
  status: string;
  outcome: string;
  eventId: string | null;
  receivedAt: Date;
  appliedAt: Date;
}

/** What providers said of a payment, payout or order. */
export async function readProviderEvents(
  reading: Reading,
  transactionId: string,
  subject: SubjectRef,
): Promise<ProviderEventRow[]> {
  const rows = await limited<ProviderEventRow>(
    reading,
    'providerEvents',
    `SELECT provider, provider_event_id AS "providerEventId", status, outcome, webhook_event_id AS "eventId",
            received_at AS "receivedAt", applied_at AS "appliedAt"
       FROM provider_events WHERE transaction_id = $1 ORDER BY applied_at`,
    [transactionId],
  );
  for (const { provider, providerEventId, status, outcome, receivedAt, appliedAt } of rows)
    reading.record.add(
      appliedAt,
      'provider',
      `${provider} said ${status} (event ${providerEventId}): ${outcome}`,
      {
        level: outcome === 'contradiction' ? 'warning' : 'info',
        subject,
        details: { provider, providerEventId, status, outcome, receivedAt: receivedAt.toISOString() },
      },
    );
  return rows;
}

// ---------------------------------------------------------------------------------------------------- events, deliveries

/** Events, what became of them, and their deliveries. */
export async function readEvents(reading: Reading, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  const { record, tenantId } = reading;
  const events = await limited<Subject & { source: string; fannedOutAt: Date | null; waiting: boolean }>(
    reading,
    'events',
    `SELECT e.*, w.source, w.fanned_out_at AS "fannedOutAt" FROM (${SUBJECTS.event} WHERE tenant_id = $1 AND id = ANY($2)) AS e
       JOIN webhook_events w ON w.id = e.id ORDER BY e.at`,
    [tenantId, ids],
  );
  for (const event of events) {
    const { id, label, at, correlationId, fannedOutAt, source } = event;
    const subject = { kind: 'event', id } as const;
    const verb = source === 'api' ? 'was published' : 'was announced';
    record.add(at, 'event', `event ${label} ${verb} (${id})`, {
      subject,
      correlationId,
      details: { type: label },
    });
    if (fannedOutAt === null) {
      record.plan({
        at: null,
        what: `event ${id} is handed out to its subscribers`,
        waitsFor: 'relay',
        subject,
        actions: [action('mend', 'Restart stalled work', null, { command: 'remit recover --dry-run' })],
      });
      record.letters.push({ of: 'events', provider: null, key: id });
    }
  }
  await readDeliveries(reading, 'd.event_id = ANY($2)', [ids]);
}

/** A delivery with what decides on when it goes on. */
interface DeliveryRow {
  id: string;
  eventId: string;
  subscriptionId: string;
  eventType: string;
  status: string;
  attempts: number;
  lastStatusCode: number | null;
  lastError: string | null;
  at: Date;
  finishedAt: Date | null;
  generation: number;
  toStartSince: Date | null;
  url: string;
  state: string;
  stateReason: string | null;
  throttledUntil: Date | null;
  rateLimit: number | null;
  behind: boolean;
}

/** Deliveries by a condition on `d`, their attempts, and what each waits for. */
export async function readDeliveries(
  reading: Reading,
  where: string,
  values: unknown[],
): Promise<DeliveryRow[]> {
  const { record, tenantId } = reading;
  const rows = await limited<DeliveryRow>(
    reading,
    'deliveries',
    `SELECT d.id, d.event_id AS "eventId", d.subscription_id AS "subscriptionId", d.event_type AS "eventType", d.status,
            d.attempts, d.last_status_code AS "lastStatusCode", d.last_error AS "lastError", d.created_at AS at,
            d.finished_at AS "finishedAt", d.generation, d.to_start_since AS "toStartSince", s.url, s.state,
            s.state_reason AS "stateReason", s.throttled_until AS "throttledUntil",
            s.rate_limit_per_second AS "rateLimit",
            s.ordered AND d.status = 'pending' AND EXISTS (
              SELECT FROM deliveries b WHERE b.subscription_id = d.subscription_id AND b.status = 'pending'
                 AND (b.created_at, b.id) < (d.created_at, d.id)) AS behind
       FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id
      WHERE d.tenant_id = $1 AND ${where} ORDER BY d.created_at DESC, d.id DESC`,
    [tenantId, ...values],
  );
  let histories = 0;
  for (const row of rows) {
    const { id, at, eventId, subscriptionId, generation, status, finishedAt, attempts, url, lastError } = row;
    const subject = { kind: 'delivery', id } as const;
    record.add(at, 'delivery', `a delivery to ${subscriptionId} (${url}) was written`, {
      subject,
      details: { deliveryId: id, eventId, subscriptionId },
    });
    if (finishedAt !== null) {
      const bad = status === 'exhausted';
      const why = status === 'delivered' || lastError === null ? '' : `: ${lastError}`;
      record.add(
        finishedAt,
        'delivery',
        `the delivery to ${subscriptionId} was ${status} after ${attempts} attempts${why}`,
        {
          level: bad ? 'error' : status === 'delivered' ? 'info' : 'warning',
          subject,
          details: {
            deliveryId: id,
            lastStatusCode: row.lastStatusCode,
            ...(bad && { deadLetterTopic: 'webhook.delivery.dlq', key: subscriptionId }),
          },
        },
      );
    }
    planDelivery(reading, row);
    if (status === 'pending' && histories < DELIVERY_WORKFLOWS_MAX) {
      histories += 1;
      record.workflows.set(workflowId.delivery(eventId, subscriptionId, generation), subject);
    }
  }
  await readAttempts(reading, rows);
  return rows;
}

/**
 * What a delivery waits for, when it goes on, and how to hurry or stop it. The one place that knows: a new reason to wait
 * is added here.
 */
function planDelivery({ record }: Reading, row: DeliveryRow): void {
  const { id, subscriptionId, eventId, generation, status, state, stateReason, throttledUntil } = row;
  const subject = { kind: 'delivery', id } as const;
  const path = `/api/v1/deliveries/${id}`;
  const sub = `/api/v1/subscriptions/${subscriptionId}`;
  const resend = action('mend', 'Send it again', `${path}/resend`, { command: curlOf(`${path}/resend`) });
  const to = `to ${subscriptionId}`;
  if (status === 'held')
    return record.plan({
      at: null,
      what: `the delivery ${to} waits until the subscription, which is ${state}${stateReason === null ? '' : ` (${stateReason})`}, is resumed`,
      waitsFor: 'operator',
      subject,
      actions: [
        action('mend', 'Resume the subscription with what it missed', `${sub}/resume`, {
          body: { missed: true },
          command: curlOf(`${sub}/resume`, { missed: true }),
        }),
      ],
    });
  if (status === 'exhausted' || status === 'cancelled')
    return record.plan({
      at: null,
      what: `nothing: the delivery ${to} is ${status} until somebody sends it again`,
      waitsFor: 'operator',
      subject,
      actions: [resend],
    });
  if (status !== 'pending') return;
  const actions = [
    action('hurry', 'Attempt it now', `${path}/try-now`, { command: curlOf(`${path}/try-now`) }),
    action('stop', 'Cancel it', `${path}/cancel`, { command: curlOf(`${path}/cancel`) }),
  ];
  const attempt = `attempt ${row.attempts + 1} of the delivery ${to}`;
  const common = { subject, actions, workflowId: workflowId.delivery(eventId, subscriptionId, generation) };
  if (state === 'paused' || state === 'disabled')
    return record.plan({
      ...common,
      at: null,
      what: `${attempt} will not be made: the subscription is ${state}, so that the delivery is held`,
      waitsFor: 'operator',
    });
  if (row.behind)
    return record.plan({
      ...common,
      at: null,
      what: `${attempt} waits for the delivery before it: the subscription keeps the order of its events`,
      waitsFor: 'order',
    });
  if (row.toStartSince !== null)
    return record.plan({
      ...common,
      at: null,
      what: `${attempt} waits for its workflow to be started, since ${row.toStartSince.toISOString()}`,
      waitsFor: 'worker',
    });
  const rest = throttledUntil !== null && throttledUntil.getTime() > Date.now() ? throttledUntil : null;
  const before = row.attempts === 0 ? '' : `, after ${row.lastError ?? `status ${row.lastStatusCode}`}`;
  record.plan({
    ...common,
    at: rest,
    what:
      rest === null
        ? `${attempt}${before}`
        : `${attempt}${before}; not before ${rest.toISOString()}, because nothing is sent to the subscriber until then`,
    waitsFor: rest === null ? 'time' : 'subscriber',
  });
}

async function readAttempts(reading: Reading, deliveries: readonly DeliveryRow[]): Promise<void> {
  if (deliveries.length === 0) return;
  interface Row {
    deliveryId: string;
    attempt: number;
    at: Date;
    durationMs: number;
    result: string;
    statusCode: number | null;
    error: string | null;
    responseBody: string | null;
  }
  const rows = await limited<Row>(
    reading,
    'attempts',
    `SELECT delivery_id AS "deliveryId", attempt, started_at AS at, duration_ms AS "durationMs", result,
            status_code AS "statusCode", error, left(response_body, 2000) AS "responseBody"
       FROM delivery_attempts WHERE delivery_id = ANY($1::uuid[]) ORDER BY started_at DESC`,
    [deliveries.map(({ id }) => id)],
  );
  const byId = new Map(deliveries.map((delivery) => [delivery.id, delivery]));
  for (const { deliveryId, attempt, at, durationMs, result, statusCode, error, responseBody } of rows) {
    const { subscriptionId = '' } = byId.get(deliveryId) ?? {};
    const met = statusCode === null ? (error ?? result) : `HTTP ${statusCode}`;
    reading.record.add(
      at,
      'attempt',
      `attempt ${attempt} to ${subscriptionId}: ${result} (${met}, ${durationMs} ms)`,
      {
        level: result === 'delivered' ? 'info' : 'warning',
        subject: { kind: 'delivery', id: deliveryId },
        details: { attempt, result, statusCode, error, durationMs, responseBody },
      },
    );
  }
}

// ---------------------------------------------------------------------------------------------------- what belongs to it

/** Notes what else belongs to a subject, by a condition over one of SUBJECTS; the newest first. */
export async function readRelated(
  { pool, record, tenantId }: Reading,
  kind: keyof typeof SUBJECTS,
  relation: string,
  [where, ...values]: [string, ...unknown[]],
  limit = 20,
): Promise<Subject[]> {
  const found = await readSubjects(
    { pool },
    `${SUBJECTS[kind]} WHERE tenant_id = $1 AND ${where} LIMIT ${limit}`,
    [tenantId, ...values],
  );
  for (const subject of found)
    record.relate(refOf(subject), `${relation}: ${titleOf(subject)}`, subject.status);
  return found;
}
