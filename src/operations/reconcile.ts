import path from 'node:path';
import type { Client, Connection } from '@temporalio/client';
import { reconcile, reconciliationOptions, reconciliationReport } from '../domain/reconciliation';
import type { Config } from '../platform/config';
import { createLogger } from '../platform/logging';
import { lookAtWorkflows } from '../platform/failing-workflows';
import { openDatabase } from '../platform/postgres';
import { createTable } from '../platform/table';
import { connectTemporal } from '../platform/temporal';
import { localAccess } from './local-access';

/** How `remit reconcile` is called. */
export interface ReconcileCommand {
  tenant?: string;
  json?: boolean;
  /** Minutes after which work that waits counts as standing still. */
  margin?: number;
}

/**
 * Reconciles the database of the environment, or else of the local installation, and prints the result.
 * @throws Error when neither names a database.
 * @returns the exit code: 0 when everything agrees, 1 when something was found.
 */
export async function runReconcile(
  dataDir: string,
  { tenant, json, margin }: ReconcileCommand,
  say: (line: string) => void,
): Promise<number> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const url = config.DATABASE_URL ?? endpoints.postgres;
  if (!url) throw new Error('no database is known: start remit first (npm start), or set DATABASE_URL');
  const database = openDatabase({ ...config, DATABASE_URL: url }, createLogger(config, 'reconcile'));
  const temporal = tenant === undefined ? await reachTemporal(config, endpoints.temporal) : 'of one tenant';
  try {
    const options = {
      ...reconciliationOptions(config),
      ...(tenant === undefined ? {} : { tenantId: tenant }),
      ...(margin === undefined ? {} : { stuckAfterMs: margin * 60_000 }),
      ...(typeof temporal === 'string' ? {} : { workflows: await lookAtWorkflows(temporal) }),
    };
    const report = reconciliationReport(await reconcile(database, options));
    if (json) say(JSON.stringify(report));
    else for (const line of describe(report)) say(line);
    if (typeof temporal === 'string' && tenant === undefined && !json)
      say(
        `Whether all unfinished work has its workflow, and no workflow fails, was not checked: ${temporal}.`,
      );
    return report.clean ? 0 : 1;
  } finally {
    await database.close();
    if (typeof temporal !== 'string') await (temporal.connection as Connection).close();
  }
}

/** A client, or why there is none: the ledger is proved without Temporal too. */
async function reachTemporal(config: Config, local: string | undefined): Promise<Client | string> {
  const address = config.TEMPORAL_ADDRESS ?? local;
  if (!address) return 'no Temporal is known (TEMPORAL_ADDRESS)';
  try {
    return await connectTemporal({ ...config, TEMPORAL_ADDRESS: address });
  } catch (error) {
    return `Temporal at ${address} does not answer (${String(error)})`;
  }
}

function* describe(report: ReturnType<typeof reconciliationReport>): Iterable<string> {
  const checks = createTable(['check', 'found', 'what holds when nothing is found']);
  for (const { name, found, rule } of report.checks) checks.push([name, found, rule]);
  yield checks.toString();
  for (const { name, found, findings } of report.checks) {
    for (const { subject, detail } of findings) yield `${name}: ${subject}: ${detail}`;
    if (found > findings.length) yield `${name}: and ${found - findings.length} more`;
  }
  if (report.dailyTotals.length > 0) {
    const totals = createTable(['day', 'provider', 'type', 'succeeded', 'failed', 'expired', 'amount']);
    for (const {
      day,
      provider,
      type,
      succeeded,
      failed,
      expired,
      succeededAmount,
      currency,
    } of report.dailyTotals)
      totals.push([day, provider, type, succeeded, failed, expired, `${succeededAmount} ${currency}`]);
    yield totals.toString();
  }
  yield report.clean ? `Clean at ${report.at}.` : `NOT clean at ${report.at}.`;
}
