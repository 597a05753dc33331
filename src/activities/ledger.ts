import type { DeliveryRef, HousekeepingStep, ReconciliationSummary } from '../contracts/workflows';
import { purgeKeys } from '../domain/idempotency';
import { saveSweepPosition, sweepPayments, type SweepPosition } from '../domain/payment-sweep';
import { reconcile, reconciliationOptions } from '../domain/reconciliation';
import type { WithoutWorkflow } from '../domain/reconciliation-work-checks';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { ActivityDeps } from './deps';

export type LedgerDeps = Pick<ActivityDeps, 'db' | 'deliveryPolicy'> & {
  log: Logger;
  /** Looks at which workflows are running; when left out, work without one is not looked for. */
  lookAtWorkflows?: () => Promise<WithoutWorkflow>;
  config: Pick<
    Config,
    | 'RECONCILIATION_FINDINGS_MAX'
    | 'RECONCILIATION_DAYS'
    | 'RECONCILIATION_TIMEOUT_MS'
    | 'PAYMENT_SWEEP_GRACE_MS'
    | 'PAYMENT_SWEEP_BATCH_ROWS'
    | 'PAYMENT_SWEEP_BATCH_DELIVERIES'
    | 'IDEMPOTENCY_KEY_TTL_MS'
    | 'IDEMPOTENCY_PURGE_ROWS'
  >;
};

/** What the schedules run: reconciliation, and the housekeeping of payments and idempotency keys. */
export function createLedgerActivities({ db, log, config, deliveryPolicy, lookAtWorkflows }: LedgerDeps) {
  return {
    /** Reconciles all tenants, sets the metric that alarms, and logs what was found. Reads only. */
    async reconcileLedger(): Promise<ReconciliationSummary> {
      const result = await reconcile(db, {
        ...reconciliationOptions(config),
        ...(lookAtWorkflows && { withoutWorkflow: await lookAtWorkflows() }),
      });
      for (const { name, found, findings } of result.checks) {
        metrics.reconciliationFindings.set({ check: name }, found);
        if (found > 0) log.error({ check: name, found, findings }, 'reconciliation found a difference');
      }
      metrics.reconciliationLastRun.set(Date.now() / 1_000);
      return {
        clean: result.clean,
        found: Object.fromEntries(result.checks.map(({ name, found }) => [name, found])),
      };
    },

    /** One bounded step of expiring payments that got no event at all. Idempotent. */
    async sweepOverduePayments(): Promise<HousekeepingStep> {
      const { expired, deliveries, refused, position } = await sweepPayments(db, {
        graceMs: config.PAYMENT_SWEEP_GRACE_MS,
        maxRows: config.PAYMENT_SWEEP_BATCH_ROWS,
        maxDeliveries: config.PAYMENT_SWEEP_BATCH_DELIVERIES,
      });
      metrics.paymentsSwept.inc(expired);
      for (const { id, error } of refused)
        log.error(
          { err: error, transactionId: id },
          'an overdue payment can not be expired and stays pending',
        );
      const refs: DeliveryRef[] = deliveries.map(({ row, correlationId }) =>
        deliveryPolicy(row, correlationId),
      );
      return { expired, deliveries: refs, position };
    },

    /** Remembers that what a step handed back has been started. Idempotent. */
    async saveSweepPosition(position: SweepPosition): Promise<void> {
      await saveSweepPosition(db, position);
    },

    /** Deletes expired idempotency keys. @returns how many; as many as the limit means that there may be more. */
    async purgeIdempotencyKeys(): Promise<number> {
      return purgeKeys(db, { ttlMs: config.IDEMPOTENCY_KEY_TTL_MS, maxRows: config.IDEMPOTENCY_PURGE_ROWS });
    },
  };
}

export type LedgerActivities = ReturnType<typeof createLedgerActivities>;
