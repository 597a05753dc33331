import { randomUUID } from 'node:crypto';
import { RemitError } from '../contracts/errors';
import type { Database } from '../platform/postgres';
import { decodeCursor, toPage, type Page } from './pages';
import { reconciliationReport, type Reconciliation } from './reconciliation';

/** How long runs are kept. */
const KEPT_DAYS = 90;

export interface RunView {
  id: string;
  /** Null: all tenants. */
  tenant: string | null;
  at: Date;
  durationMs: number;
  clean: boolean;
  found: number;
  startedBy: string;
  createdAt: Date;
}

type Report = ReturnType<typeof reconciliationReport>;

const COLUMNS = `id, tenant_id AS tenant, at, duration_ms AS "durationMs", clean, found::int AS found,
                 started_by AS "startedBy", created_at AS "createdAt"`;

/**
 * Keeps a run, and forgets those that are older than 90 days. Idempotent by id.
 * @param operatorTenant is told, by `remit.reconciliation.differs` and `remit.reconciliation.clean`, when a run over all tenants
 *   finds what the one before it did not, or is clean again; nobody is when it is left out.
 * @returns its id.
 */
export async function keepRun(
  { pool }: Pick<Database, 'pool'>,
  result: Reconciliation,
  {
    id = randomUUID(),
    startedBy,
    operatorTenant,
  }: { id?: string; startedBy: string; operatorTenant?: string },
): Promise<string> {
  const report = reconciliationReport(result);
  const run = {
    ...{ id, tenant: result.tenantId, at: report.at, clean: result.clean, startedBy, report },
    durationMs: result.checks.reduce((sum, { durationMs }) => sum + durationMs, 0),
    found: result.checks.reduce((sum, { found }) => sum + found, 0),
  };
  await pool.query('SELECT keep_reconciliation_run($1, $2, $3)', [
    ...[JSON.stringify(run), KEPT_DAYS, operatorTenant ?? null],
  ]);
  return id;
}

/**
 * Runs of a tenant, newest first, and with `allTenants` those over all of them.
 * @throws RemitError invalid_request on a malformed cursor.
 */
export async function listRuns(
  { pool }: Pick<Database, 'pool'>,
  {
    tenantId,
    allTenants,
    clean,
    limit,
    cursor,
  }: {
    tenantId: string;
    allTenants: boolean;
    clean?: boolean | undefined;
    limit: number;
    cursor?: string | undefined;
  },
): Promise<Page<RunView>> {
  const after = cursor === undefined ? undefined : decodeCursor(cursor);
  const { rows } = await pool.query<RunView>(
    `SELECT ${COLUMNS} FROM reconciliation_runs
      WHERE (tenant_id = $1 OR ($2 AND tenant_id IS NULL)) AND ($3::boolean IS NULL OR clean = $3)
        AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
      ORDER BY created_at DESC, id DESC LIMIT $6`,
    [tenantId, allTenants, clean ?? null, after?.createdAt ?? null, after?.id ?? null, limit + 1],
  );
  return toPage(rows, limit, (row) => row);
}

/** A run with its report. @throws RemitError not_found, also for one that the tenant may not see. `id` is a UUID. */
export async function getRun(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, allTenants, id }: { tenantId: string; allTenants: boolean; id: string },
): Promise<RunView & { report: Report }> {
  const { rows } = await pool.query<RunView & { report: Report }>(
    `SELECT ${COLUMNS}, report FROM reconciliation_runs
      WHERE id = $3 AND (tenant_id = $1 OR ($2 AND tenant_id IS NULL))`,
    [tenantId, allTenants, id],
  );
  if (!rows[0]) throw new RemitError('not_found', 'There is no such run.');
  return rows[0];
}
