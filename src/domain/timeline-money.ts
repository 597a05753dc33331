import { formatMinor } from '../contracts/money';
import { workflowId } from '../contracts/workflows';
import { readSubjects, refOf, SUBJECTS, titleOf, type Subject } from './subjects';
import {
  readAudit,
  readEvents,
  readJournal,
  readProviderEvents,
  readRelated,
  type Reading,
} from './timeline-reads';
import { action, amountOf, curlOf, iso } from './timeline-record';

/** The timelines of what moves money; each answers why its subject is in its state. */

// ---------------------------------------------------------------------------------------------------- payments, payouts

export async function readPayment(reading: Reading, subject: Subject): Promise<string> {
  const { pool, record } = reading;
  const { kind, id, label: provider, userId } = subject;
  const ref = refOf(subject);
  const { rows } = await pool.query<{
    expiresAt: Date;
    settledAt: Date | null;
    failureCode: string | null;
    heldAt: Date | null;
    heldMinor: string | null;
    resolvedAt: Date | null;
    holdStatus: string | null;
  }>(
    `SELECT p.expires_at AS "expiresAt", p.settled_at AS "settledAt", p.failure_code AS "failureCode",
            h.created_at AS "heldAt", h.amount_minor AS "heldMinor", h.resolved_at AS "resolvedAt", h.status AS "holdStatus"
       FROM payments p LEFT JOIN holds h ON h.reference = 'payout:' || p.id WHERE p.id = $1`,
    [id],
  );
  const row = rows[0]!;
  record.add(subject.at, 'request', `the ${titleOf(subject)}, for user ${userId}, was created`, {
    subject: ref,
    correlationId: subject.correlationId,
    details: { expiresAt: iso(row.expiresAt) },
  });
  if (row.heldAt !== null && row.heldMinor !== null && subject.currency !== null)
    record.add(row.heldAt, 'ledger', `${amountOf(row.heldMinor, subject.currency)} were set aside for it`, {
      subject: ref,
    });
  if (row.resolvedAt !== null)
    record.add(row.resolvedAt, 'ledger', `what was set aside was ${row.holdStatus}`, { subject: ref });
  if (row.settledAt !== null)
    record.add(
      row.settledAt,
      'state',
      `the ${kind} ${subject.status}${row.failureCode === null ? '' : `: ${row.failureCode}`}`,
      { subject: ref, level: subject.status === 'succeeded' ? 'info' : 'warning' },
    );
  const said = await readProviderEvents(reading, id, ref);
  const name = `${kind}:${id}`;
  await readJournal(reading, [`${name}:success`], ref);
  const causes = [name, ...['success', 'failed', 'expired', 'hold'].map((end) => `${name}:${end}`)];
  const refused = await readAudit(reading, causes, ref);
  await readEvents(reading, [
    ...said.flatMap(({ eventId }) => (eventId === null ? [] : [eventId])),
    ...(await eventAt(reading, row.settledAt, `remit.${kind}.failed`, id)),
  ]);
  if (userId !== null) record.relate({ kind: 'user', id: userId }, 'of the user', null);
  record.workflows.set(workflowId.payment(provider ?? '', id), ref);
  record.letters.push({ of: 'payments', provider, key: id });
  return whyPayment(reading, subject, { ...row, said: said.length, refused: refused.at(-1)?.what });
}

function whyPayment(
  { record }: Reading,
  subject: Subject,
  {
    expiresAt,
    settledAt,
    failureCode,
    said,
    refused,
  }: {
    expiresAt: Date;
    settledAt: Date | null;
    failureCode: string | null;
    said: number;
    refused: string | undefined;
  },
): string {
  const { kind, label: provider, status } = subject;
  const flagged = refused === undefined ? '' : ` ${refused}.`;
  if (status !== 'pending') {
    const moved = kind === 'payment' ? 'credited' : 'paid out';
    return status === 'succeeded'
      ? `${provider} reported success, and the amount was ${moved} at ${iso(settledAt)}.${flagged}`
      : `It ${status} at ${iso(settledAt)} (${failureCode ?? 'no reason given'}): nothing was ${moved}.${flagged}`;
  }
  const late = expiresAt.getTime() < Date.now();
  record.plan({
    at: expiresAt,
    what: late
      ? `the ${kind} expires as soon as the expiry job reaches it: it is overdue`
      : `the ${kind} expires, unless ${provider} reports success or failure before`,
    waitsFor: 'provider',
    subject: refOf(subject),
    actions: [
      action('hurry', `Have ${provider} send its webhook again`, null, {
        command: `remit send --transaction ${subject.id} --type ${kind} --status success --amount ${formatMinor(subject.amountMinor ?? 0n, subject.currency ?? '')} --currency ${subject.currency}   # plays DeCard on a local stack`,
      }),
    ],
  });
  if (refused !== undefined) return `It is pending because what came was refused.${flagged}`;
  return said === 0
    ? `It is pending because ${provider} has reported nothing of it that could be applied.`
    : `It is pending: ${provider} has only reported that it is.`;
}

/** An event that was written in the transaction of a change, where nothing refers to it. */
async function eventAt(
  { pool, tenantId }: Reading,
  at: Date | null,
  type: string,
  id: string,
): Promise<string[]> {
  if (at === null) return [];
  const { rows } = await pool.query<{ id: string }>(
    `SELECT id FROM webhook_events
      WHERE tenant_id = $1 AND created_at = $2 AND type = $3 AND body::jsonb->'data'->>'id' = $4 LIMIT 1`,
    [tenantId, at, type, id],
  );
  return rows.map((row) => row.id);
}

// ---------------------------------------------------------------------------------------------------- orders

export async function readOrder(reading: Reading, subject: Subject): Promise<string> {
  const { pool, record, tenantId } = reading;
  const { id, userId, status, label: method } = subject;
  const ref = refOf(subject);
  const { rows } = await pool.query<{
    decidedAt: Date | null;
    expiresAt: Date | null;
    failureCode: string | null;
    eventId: string | null;
    requested: boolean;
  }>(
    `SELECT o.decided_at AS "decidedAt", o.expires_at AS "expiresAt", o.failure_code AS "failureCode",
            t.webhook_event_id AS "eventId",
            o.status = 'NEW' AND EXISTS (SELECT FROM outbox WHERE topic = 'payment-request' AND key = o.id::text) AS requested
       FROM orders o LEFT JOIN payment_attempts t ON t.order_id = o.id WHERE o.id = $1`,
    [id],
  );
  const row = rows[0]!;
  record.add(subject.at, 'request', `the ${titleOf(subject)}, was placed by user ${userId}`, {
    subject: ref,
    correlationId: subject.correlationId,
  });
  if (row.decidedAt !== null)
    record.add(
      row.decidedAt,
      'state',
      `the order was decided: ${row.failureCode === null ? 'FINISHED' : `CANCELLED (${row.failureCode})`}`,
      { subject: ref, level: row.failureCode === null ? 'info' : 'warning' },
    );
  await readProviderEvents(reading, id, ref);
  const refunds = await pool.query<{
    id: string;
    eventId: string;
    at: Date;
    amountMinor: string;
    currency: string;
    actor: string;
    reason: string | null;
  }>(
    `SELECT id, webhook_event_id AS "eventId", created_at AS at, amount_minor AS "amountMinor", currency, actor, reason
       FROM refunds WHERE order_id = $1 ORDER BY created_at DESC, id DESC LIMIT 100`,
    [id],
  );
  for (const { id: refundId, at, amountMinor, currency, actor, reason } of refunds.rows)
    record.add(
      at,
      'request',
      `${actor} refunded ${amountOf(amountMinor, currency)}${reason === null ? '' : ` (${reason})`}`,
      {
        subject: ref,
        details: { refundId },
      },
    );
  const disputes = await readSubjects(
    { pool },
    `${SUBJECTS.dispute} WHERE tenant_id = $1 AND order_id = $2 ORDER BY created_at LIMIT 20`,
    [tenantId, id],
  );
  const moves = [`order:${id}`, `order:${id}:credit`, ...refunds.rows.map((refund) => `refund:${refund.id}`)];
  await readJournal(reading, moves, ref);
  const refused = await readAudit(reading, moves, ref);
  await readEvents(reading, [
    ...(row.eventId === null ? [] : [row.eventId]),
    ...refunds.rows.map(({ eventId }) => eventId),
  ]);
  for (const dispute of disputes) {
    await readDispute(reading, dispute);
    record.relate(refOf(dispute), titleOf(dispute), dispute.status);
  }
  if (userId !== null) record.relate({ kind: 'user', id: userId }, 'of the user', null);
  record.workflows.set(workflowId.order(id), ref);
  record.letters.push({
    of: method === 'provider' ? 'order-webhooks' : 'payment-requests',
    provider: null,
    key: id,
  });
  if (method === 'provider') record.letters.push({ of: 'disputes', provider: null, key: id });
  const flagged = refused.length === 0 ? '' : ` ${refused.at(-1)!.what}.`;
  if (status !== 'NEW')
    return row.failureCode === null
      ? `It was paid at ${iso(row.decidedAt)}${status === 'CHARGED_BACK' ? ' and charged back since' : ''}.${flagged}`
      : `It was cancelled at ${iso(row.decidedAt)}: ${row.failureCode}.${flagged}`;
  planNewOrder(reading, subject, row);
  if (method === 'provider') return `It waits for its provider’s webhook.${flagged}`;
  return row.requested
    ? `Its payment request waits in the outbox for the relay.${flagged}`
    : `Its payment request is on its way through Kafka to its workflow.${flagged}`;
}

function planNewOrder(
  { record }: Reading,
  subject: Subject,
  { expiresAt, requested }: { expiresAt: Date | null; requested: boolean },
): void {
  const ref = refOf(subject);
  if (expiresAt !== null)
    return record.plan({
      at: expiresAt,
      what: 'the order is cancelled, unless its provider has paid it by then',
      waitsFor: 'provider',
      subject: ref,
      actions: [],
    });
  record.plan({
    at: null,
    what: `the order is paid from the balance, as soon as ${requested ? 'the relay publishes its payment request' : 'bridge and worker get to it'}`,
    waitsFor: requested ? 'relay' : 'worker',
    subject: ref,
    actions: [action('hurry', 'Restart stalled work', null, { command: 'remit recover --dry-run' })],
  });
}

// ---------------------------------------------------------------------------------------------------- disputes

export async function readDispute(reading: Reading, subject: Subject): Promise<string> {
  const { pool, record } = reading;
  const { id, status } = subject;
  const ref = refOf(subject);
  const { rows } = await pool.query<{
    orderId: string;
    orderStatus: string;
    evidenceDueAt: Date;
    closedAt: Date | null;
    reason: string | null;
    openingEventId: string;
    closingEventId: string | null;
    submittedAt: Date | null;
    submittedBy: string | null;
  }>(
    `SELECT d.order_id AS "orderId", o.status AS "orderStatus", d.evidence_due_at AS "evidenceDueAt",
            d.closed_at AS "closedAt", d.reason, d.opening_event_id AS "openingEventId",
            d.closing_event_id AS "closingEventId", e.submitted_at AS "submittedAt", e.actor AS "submittedBy"
       FROM disputes d JOIN orders o ON o.id = d.order_id LEFT JOIN dispute_evidence e ON e.dispute_id = d.id
      WHERE d.id = $1`,
    [id],
  );
  const row = rows[0]!;
  record.add(
    subject.at,
    'state',
    `the ${titleOf(subject)}, was opened${row.reason === null ? '' : ` (${row.reason})`}`,
    {
      subject: ref,
      level: 'warning',
      correlationId: subject.correlationId,
      details: { orderId: row.orderId, evidenceDueAt: iso(row.evidenceDueAt) },
    },
  );
  if (row.submittedAt !== null)
    record.add(row.submittedAt, 'request', `${row.submittedBy} submitted evidence`, { subject: ref });
  if (row.closedAt !== null)
    record.add(row.closedAt, 'state', `the dispute ended: ${status}`, {
      subject: ref,
      level: status === 'won' ? 'info' : 'error',
    });
  const moves = ['opened', 'won', 'lost', 'expired', 'collected'].map((end) => `dispute:${id}:${end}`);
  await readJournal(reading, moves, ref);
  const refused = await readAudit(reading, [`dispute:${id}`, ...moves], ref);
  await readEvents(reading, [
    row.openingEventId,
    ...(row.closingEventId === null ? [] : [row.closingEventId, `${row.closingEventId}_order`]),
  ]);
  record.relate({ kind: 'order', id: row.orderId }, 'of the order', row.orderStatus);
  record.workflows.set(workflowId.dispute(id), ref);
  record.letters.push({ of: 'disputes', provider: null, key: row.orderId });
  const flagged = refused.length === 0 ? '' : ` ${refused.at(-1)!.what}.`;
  const path = `/api/v1/disputes/${id}/evidence`;
  if (status === 'opened') {
    record.plan({
      at: row.evidenceDueAt,
      what: 'the dispute expires and its money goes to the provider, unless evidence is submitted by then',
      waitsFor: 'evidence',
      subject: ref,
      actions: [
        action('stop', 'Submit evidence', path, {
          body: { text: '' },
          command: curlOf(path, { text: 'Delivered on 3 March and signed for.' }),
        }),
      ],
    });
    return `It waits for evidence until ${iso(row.evidenceDueAt)}.${flagged}`;
  }
  if (status === 'under_review') {
    record.plan({
      at: null,
      what: 'the provider decides the dispute, and says so by a webhook',
      waitsFor: 'provider',
      subject: ref,
      actions: [],
    });
    return `The provider reviews it; the amount is held until its verdict.${flagged}`;
  }
  return `It is ${status} since ${iso(row.closedAt)}.${flagged}`;
}

// ---------------------------------------------------------------------------------------------------- users

/** Of a user the newest of each kind. */
const OF_USER = 20;

export async function readUser(reading: Reading, subject: Subject): Promise<string> {
  const { pool, record, tenantId } = reading;
  const { rows: accounts } = await pool.query<{
    id: string;
    currency: string;
    balance: string;
    held: string;
    at: Date;
  }>(
    `SELECT id, currency, balance_minor AS balance, held_minor AS held, created_at AS at FROM accounts
      WHERE tenant_id = $1 AND user_id = $2 ORDER BY currency LIMIT 50`,
    [tenantId, subject.id],
  );
  for (const { id, currency, at } of accounts)
    record.add(at, 'request', `an account in ${currency} was opened`, { details: { accountId: id } });
  const entries = await pool.query<{
    at: Date;
    kind: string;
    reference: string;
    amount: string;
    after: string;
    currency: string;
    journalId: string;
    correlationId: string | null;
  }>(
    `SELECT e.created_at AS at, j.kind, j.reference, e.amount_minor AS amount, e.balance_after_minor AS after, e.currency,
            e.journal_id AS "journalId", j.correlation_id AS "correlationId"
       FROM unnest($1::uuid[]) AS a (id) CROSS JOIN LATERAL (
              SELECT * FROM ledger_entries WHERE account_id = a.id ORDER BY id DESC LIMIT 100) AS e
       JOIN journal_transactions j ON j.id = e.journal_id`,
    [accounts.map(({ id }) => id)],
  );
  for (const { at, kind, reference, amount, after, currency, journalId, correlationId } of entries.rows)
    record.add(
      at,
      'ledger',
      `${amount.startsWith('-') ? '' : '+'}${amountOf(amount, currency)} (${kind}), balance ${amountOf(after, currency)}`,
      { correlationId, details: { journalId, reference } },
    );
  if (entries.rows.length >= 100) record.notes.add('only the newest 100 movements of each account are shown');
  const newest: [string, ...unknown[]] = ['user_id = $2 ORDER BY created_at DESC, id DESC', subject.id];
  const payments = await readRelated(reading, 'payment', 'of the user', newest, OF_USER);
  const orders = await readRelated(reading, 'order', 'of the user', newest, OF_USER);
  for (const each of [...payments, ...orders]) {
    const open = each.status === 'pending' || each.status === 'NEW';
    record.add(each.at, 'request', `the ${titleOf(each)} was made; it is ${each.status}`, {
      subject: refOf(each),
      correlationId: each.correlationId,
      level: open ? 'warning' : 'info',
    });
    if (open)
      record.plan({
        at: null,
        what: `the ${titleOf(each)} is ${each.status}: remit why ${each.id} says what it waits for`,
        waitsFor: each.label === 'balance' ? 'worker' : 'provider',
        subject: refOf(each),
        actions: [],
      });
  }
  return accounts.length === 0
    ? 'The user has no account.'
    : `Balance ${accounts.map(({ balance, held, currency }) => `${amountOf(balance, currency)}${held === '0' ? '' : ` (${amountOf(held, currency)} held)`}`).join(', ')}.`;
}
