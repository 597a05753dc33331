import type { PoolClient, QueryResult, QueryResultRow } from 'pg';
import { formatMinor } from '../contracts/money';
import type { Config } from '../platform/config';
import type { Database } from '../platform/postgres';
import { withClient } from '../platform/postgres-pool';
import { CHECKS, DAILY_TOTALS } from './reconciliation-checks';
import {
  findFailing,
  findStranded,
  TASK_CHECK,
  WORKFLOW_CHECK,
  type Workflows,
} from './reconciliation-work-checks';

export interface Finding {
  /** What is wrong, such as `account:<id>` or `order:<id>`. */
  subject: string;
  detail: string;
}

export interface CheckResult {
  name: string;
  /** What holds when nothing is found. */
  rule: string;
  found: number;
  /** The first of them; all are counted in `found`. */
  findings: Finding[];
  durationMs: number;
}

/** A provider's payments or payouts of one UTC day, by when they were settled; the amount in minor units. */
export interface DailyTotal {
  day: string;
  provider: string;
  type: string;
  currency: string;
  succeeded: number;
  failed: number;
  expired: number;
  succeededMinor: bigint;
}

export interface Reconciliation {
  clean: boolean;
  /** When the snapshot was taken. */
  at: Date;
  /** The tenant that was looked at; null for all of them. */
  tenantId: string | null;
  checks: CheckResult[];
  dailyTotals: DailyTotal[];
}

export interface ReconciliationOptions {
  /** All tenants when left out. */
  tenantId?: string;
  maxFindings: number;
  /** How many days of totals. */
  days: number;
  /** Longest single check, in milliseconds. */
  timeoutMs: number;
  /** Work that waits for longer than this, in milliseconds, stands still; an hour when left out. */
  stuckAfterMs?: number;
  /** Asks Temporal; when left out, or for a single tenant, workflows are not looked at. */
  workflows?: Workflows;
}

/**
 * Everything is carried on within seconds, or, while a role or server is away, as soon as it is back: an outage that took
 * longer is worth a finding.
 */
const STUCK_AFTER_MS = 3_600_000;

/** The server’s own limit comes first. */
const ANSWER_MARGIN_MS = 5_000;

/**
 * Proves the ledger against itself and against what it is said to have done. Reads only, in one snapshot: what moves
 * meanwhile is seen wholly or not at all. The database compares and counts; what comes here is at most `maxFindings` rows
 * a check. A check that can't be finished fails the whole; there is no half answer.
 * @throws what the database throws, a statement timeout included.
 */
export async function reconcile(
  { pool }: Pick<Database, 'pool'>,
  options: ReconciliationOptions,
): Promise<Reconciliation> {
  const { tenantId, maxFindings, stuckAfterMs = STUCK_AFTER_MS, workflows } = options;
  const result = await withClient(pool, (client) => reconcileOn(client, options));
  if (workflows === undefined || tenantId !== undefined) return result;
  // After the snapshot: it is about now, and asking Temporal may take a while.
  const limits = { maxFindings, stuckAfterMs };
  const checks = [
    ...result.checks,
    await timed(WORKFLOW_CHECK, () => findStranded({ pool }, workflows.without, limits)),
    await timed(TASK_CHECK, () => findFailing(workflows.failing, limits)),
  ];
  return { ...result, clean: checks.every(({ found }) => found === 0), checks };
}

async function timed(
  check: { name: string; rule: string },
  find: () => Promise<Pick<CheckResult, 'found' | 'findings'>>,
): Promise<CheckResult> {
  const startedAt = performance.now();
  const result = await find();
  return { ...check, ...result, durationMs: Math.round(performance.now() - startedAt) };
}

async function reconcileOn(
  client: PoolClient,
  { tenantId, maxFindings, days, timeoutMs, stuckAfterMs = STUCK_AFTER_MS }: ReconciliationOptions,
): Promise<Reconciliation> {
  // The pool gives up a connection that is silent for longer than an ordinary statement may take; this may take longer.
  const ask: Ask = <Row extends QueryResultRow>(text: string, values: unknown[]) =>
    client.query<Row>(Object.assign({ text, values }, { query_timeout: timeoutMs + ANSWER_MARGIN_MS }));
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  await client.query(`SET LOCAL statement_timeout = ${Math.trunc(timeoutMs)}`);
  const at = await client.query<{ at: Date }>('SELECT now() AS at');
  const checks: CheckResult[] = [];
  for (const check of CHECKS) {
    const startedAt = performance.now();
    const { rows } = await ask<Finding & { found: string }>(check.sql, [
      tenantId ?? null,
      maxFindings,
      ...(check.aged ? [stuckAfterMs] : []),
    ]);
    checks.push({
      name: check.name,
      rule: check.rule,
      found: Number(rows[0]?.found ?? 0),
      findings: rows.map(({ subject, detail }) => ({ subject, detail })),
      durationMs: Math.round(performance.now() - startedAt),
    });
  }
  const dailyTotals = await readDailyTotals(ask, tenantId, days);
  await client.query('COMMIT');
  return {
    clean: checks.every(({ found }) => found === 0),
    at: at.rows[0]!.at,
    tenantId: tenantId ?? null,
    checks,
    dailyTotals,
  };
}

type Ask = <Row extends QueryResultRow>(text: string, values: unknown[]) => Promise<QueryResult<Row>>;

async function readDailyTotals(ask: Ask, tenantId: string | undefined, days: number): Promise<DailyTotal[]> {
  interface Row {
    day: string;
    provider: string;
    type: string;
    currency: string;
    succeeded: string;
    failed: string;
    expired: string;
    succeeded_minor: string;
  }
  const { rows } = await ask<Row>(DAILY_TOTALS, [tenantId ?? null, days]);
  return rows.map((row) => ({
    day: row.day,
    provider: row.provider,
    type: row.type,
    currency: row.currency,
    succeeded: Number(row.succeeded),
    failed: Number(row.failed),
    expired: Number(row.expired),
    succeededMinor: BigInt(row.succeeded_minor),
  }));
}

/** The limits of a reconciliation, from configuration. */
export function reconciliationOptions(
  config: Pick<Config, 'RECONCILIATION_FINDINGS_MAX' | 'RECONCILIATION_DAYS' | 'RECONCILIATION_TIMEOUT_MS'>,
): ReconciliationOptions {
  return {
    maxFindings: config.RECONCILIATION_FINDINGS_MAX,
    days: config.RECONCILIATION_DAYS,
    timeoutMs: config.RECONCILIATION_TIMEOUT_MS,
  };
}

/** A reconciliation as the API and `remit reconcile --json` show it: contracts/http.ts Reconciliation. */
export function reconciliationReport({ clean, at, tenantId, checks, dailyTotals }: Reconciliation) {
  return {
    clean,
    at: at.toISOString(),
    tenant: tenantId,
    checks,
    dailyTotals: dailyTotals.map(({ succeededMinor, ...total }) => ({
      ...total,
      succeededAmount: formatMinor(succeededMinor, total.currency),
    })),
  };
}
