import { listed, tenant, type Check } from './reconciliation-check';
import {
  stillUnfinished,
  unfinishedWork,
  WORK_KINDS,
  type UnfinishedWork,
  type WorkKind,
} from './unfinished-work';
import type { FailingWorkflow } from '../platform/failing-workflows';
import type { Database } from '../platform/postgres';

/** Longer than EXPIRY_GRACE_MS can be: until then, a payment that is due is not late. */
const LONGEST_EXPIRY_GRACE = `interval '1 day'`;

/**
 * Stalled work: what nothing has carried on for longer than the margin (`$3`, milliseconds). `remit recover`
 * starts it again.
 */
export const WORK_CHECKS: readonly Check[] = [
  {
    name: 'orders_vs_requests',
    rule: 'an order paid from the balance is decided within the margin, or its payment request waits in the outbox; one that a provider pays within the margin and a day after its time',
    aged: true,
    sql: listed(`
      SELECT 'order:' || o.id AS subject, format('order of %s is NEW since %s', o.amount_minor, o.created_at) AS detail
        FROM orders o
       WHERE ${tenant('o')} AND o.status = 'NEW'
         AND CASE o.payment_method WHEN 'balance' THEN o.created_at ELSE o.expires_at + ${LONGEST_EXPIRY_GRACE} END
             < now() - $3 * interval '1 millisecond'
         AND NOT EXISTS (SELECT FROM outbox WHERE topic = 'payment-request' AND key = o.id::text)`),
  },
  {
    name: 'events_vs_fanout',
    rule: 'an event is handed out to its subscribers within the margin, or its message waits in the outbox',
    aged: true,
    sql: listed(`
      SELECT 'event:' || e.id AS subject, format('%s waits for its fan-out since %s', e.type, e.created_at) AS detail
        FROM webhook_events e
       WHERE ${tenant('e')} AND e.fanned_out_at IS NULL AND e.created_at < now() - $3 * interval '1 millisecond'
         AND NOT EXISTS (SELECT FROM outbox WHERE topic = 'events' AND key = e.id)`),
  },
  {
    name: 'payments_vs_deadlines',
    rule: 'no payment or payout is pending for a day and the margin after it was due',
    aged: true,
    sql: listed(`
      SELECT p.type || ':' || p.id AS subject,
             format('%s of %s pending, overdue since %s', p.type, p.amount_minor, p.expires_at) AS detail
        FROM payments p
       WHERE ${tenant('p')} AND p.status = 'pending'
         AND p.expires_at < now() - ${LONGEST_EXPIRY_GRACE} - $3 * interval '1 millisecond'`),
  },
  {
    name: 'disputes_vs_deadlines',
    rule: 'a dispute whose evidence was due is expired within the margin',
    aged: true,
    sql: listed(`
      SELECT 'dispute:' || d.id AS subject,
             format('dispute of %s opened, its evidence was due at %s', d.amount_minor, d.evidence_due_at) AS detail
        FROM disputes d
       WHERE ${tenant('d')} AND d.status = 'opened' AND d.evidence_due_at < now() - $3 * interval '1 millisecond'`),
  },
];

/** Tells which of these workflow ids have no running workflow. */
export type WithoutWorkflow = (ids: readonly string[]) => Promise<ReadonlySet<string>>;

export const WORKFLOW_CHECK = {
  name: 'work_vs_workflows',
  rule: 'every open dispute, running replay, pending delivery and lane with deliveries that are older than the margin has a running workflow',
} as const;

export const TASK_CHECK = {
  name: 'workflows_vs_tasks',
  rule: 'no open workflow has a workflow task that has failed, and been tried in vain, for longer than the margin',
} as const;

/** What Temporal knows of workflows. */
export interface Workflows {
  without: WithoutWorkflow;
  /** Those that have been failing for at least so long. */
  failing: (forMs: number) => AsyncIterable<FailingWorkflow>;
}

interface Limits {
  maxFindings: number;
  stuckAfterMs: number;
}

interface Found {
  found: number;
  findings: { subject: string; detail: string }[];
}

/**
 * Workflows whose code throws or does not fit their history: Temporal calls them running, and nothing carries them on. At
 * most `maxFindings` are listed, all are counted. @throws what Temporal throws in an outage.
 */
export async function findFailing(
  failing: Workflows['failing'],
  { maxFindings, stuckAfterMs }: Limits,
): Promise<Found> {
  const result: Found = { found: 0, findings: [] };
  for await (const { workflowId, type, attempts, since, failure } of failing(stuckAfterMs)) {
    result.found += 1;
    if (result.findings.length < maxFindings)
      result.findings.push({
        subject: `workflow:${workflowId}`,
        detail: `${type} fails since ${since?.toISOString() ?? 'long'}, attempt ${attempts}: ${failure}`,
      });
  }
  return result;
}

/**
 * What only a workflow carries on and that has none. Everything unfinished is looked at, a page at a time; at most
 * `maxFindings` are listed, all are counted. Reads only.
 * @throws what the database or Temporal throws in an outage.
 */
export async function findStranded(
  db: Pick<Database, 'pool'>,
  withoutWorkflow: WithoutWorkflow,
  { maxFindings, stuckAfterMs }: Limits,
): Promise<Found> {
  const result: Found = { found: 0, findings: [] };
  for (const kind of WORK_KINDS)
    for await (const page of unfinishedWork(db, kind, stuckAfterMs))
      for (const work of await strandedOf(db, kind, page, withoutWorkflow)) {
        result.found += 1;
        if (result.findings.length < maxFindings)
          result.findings.push({
            subject: `${kind}:${work.id}`,
            detail: `no workflow ${work.workflowId} is running`,
          });
      }
  return result;
}

async function strandedOf(
  db: Pick<Database, 'pool'>,
  kind: WorkKind,
  page: UnfinishedWork[],
  withoutWorkflow: WithoutWorkflow,
): Promise<UnfinishedWork[]> {
  const without = await withoutWorkflow(page.map((work) => work.workflowId));
  const suspects = page.filter((work) => without.has(work.workflowId));
  if (suspects.length === 0) return [];
  const unfinished = await stillUnfinished(
    db,
    kind,
    suspects.map(({ id }) => id),
  );
  return suspects.filter(({ id }) => unfinished.has(id));
}
