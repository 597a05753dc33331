import type { ExpiryStep, ReconciliationSummary } from '../contracts/workflows';
import { purgeKeys } from '../domain/idempotency';
import { expireOverdueOrders } from '../domain/order-expiry';
import { expireOverduePayments } from '../domain/payment-expiry';
import { reconcile, reconciliationOptions } from '../domain/reconciliation';
import { keepRun } from '../domain/reconciliation-runs';
import type { Workflows } from '../domain/reconciliation-work-checks';
import { saveExpiryPosition, type ExpiryPosition, type OverdueStep } from '../domain/expiry';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { ActivityDeps } from './deps';

export type LedgerDeps = Pick<ActivityDeps, 'db'> & {
  log: Logger;
  /** Looks at the open workflows; when left out, reconciliation does not. */
  lookAtWorkflows?: () => Promise<Workflows>;
  config: Pick<
    Config,
    | 'DEFAULT_TENANT'
    | 'RECONCILIATION_FINDINGS_MAX'
    | 'RECONCILIATION_DAYS'
    | 'RECONCILIATION_TIMEOUT_MS'
    | 'EXPIRY_GRACE_MS'
    | 'EXPIRY_BATCH_ROWS'
    | 'IDEMPOTENCY_KEY_TTL_MS'
    | 'IDEMPOTENCY_PURGE_ROWS'
  >;
};

/** What the schedules run: reconciliation, and the expiry of payments, orders and idempotency keys. */
export function createLedgerActivities({ db, log, config, lookAtWorkflows }: LedgerDeps) {
  const limits = {
    graceMs: config.EXPIRY_GRACE_MS,
    maxRows: config.EXPIRY_BATCH_ROWS,
  };
  const stepOf = (step: OverdueStep, refusal: string): ExpiryStep => {
    for (const { id, error } of step.refused) log.error({ err: error, id }, refusal);
    return { expired: step.expired, position: step.position };
  };
  return {
    /** Reconciles all tenants, sets the metric that alarms, and logs what was found, and keeps the run. */
    async reconcileLedger(): Promise<ReconciliationSummary> {
      const result = await reconcile(db, {
        ...reconciliationOptions(config),
        ...(lookAtWorkflows && { workflows: await lookAtWorkflows() }),
      });
      for (const { name, found, findings } of result.checks) {
        metrics.reconciliationFindings.set({ check: name }, found);
        if (found > 0) log.error({ check: name, found, findings }, 'reconciliation found a difference');
      }
      // For whoever looks later. A run that can't be kept is made again, as one that can't be read.
      await keepRun(db, result, { startedBy: 'schedule', operatorTenant: config.DEFAULT_TENANT });
      metrics.reconciliationLastRun.set(Date.now() / 1_000);
      return {
        clean: result.clean,
        found: Object.fromEntries(result.checks.map(({ name, found }) => [name, found])),
      };
    },

    /**
     * One bounded step of expiring payments that got no event at all and, when there are no more of those, orders that
     * their provider has not paid. Idempotent.
     */
    async expireOverdue(): Promise<ExpiryStep> {
      const payments = await expireOverduePayments(db, limits);
      if (payments.position !== null) {
        metrics.paymentsExpired.inc(payments.expired);
        return stepOf(payments, 'an overdue payment can not be expired and stays pending');
      }
      const orders = await expireOverdueOrders(db, limits);
      metrics.ordersExpired.inc(orders.expired);
      return stepOf(orders, 'an overdue order can not be expired and stays NEW');
    },

    /** Remembers how far the expiry has come. Idempotent. */
    async saveExpiryPosition(position: ExpiryPosition): Promise<void> {
      await saveExpiryPosition(db, position);
    },

    /** Deletes expired idempotency keys. @returns how many; as many as the limit means that there may be more. */
    async purgeIdempotencyKeys(): Promise<number> {
      return purgeKeys(db, { ttlMs: config.IDEMPOTENCY_KEY_TTL_MS, maxRows: config.IDEMPOTENCY_PURGE_ROWS });
    },
  };
}

export type LedgerActivities = ReturnType<typeof createLedgerActivities>;
