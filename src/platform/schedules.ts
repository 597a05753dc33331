import { ScheduleAlreadyRunning, ScheduleOverlapPolicy, type Client } from '@temporalio/client';
import { SCHEDULES, TASK_QUEUES, WORKFLOWS } from '../contracts/workflows';
import type { Config } from './config';

/**
 * Creates the schedules that run reconciliation, housekeeping, the end of events by age and the sweep of replays, or gives
 * them the configured interval. Idempotent;
 * one that an operator has paused stays paused.
 * @returns the ids that were created.
 */
export async function ensureSchedules(
  client: Client,
  config: Pick<
    Config,
    | 'RECONCILIATION_INTERVAL_MS'
    | 'PAYMENT_SWEEP_INTERVAL_MS'
    | 'EVENT_RETENTION_INTERVAL_MS'
    | 'WEBHOOK_REPLAY_SWEEP_INTERVAL_MS'
  >,
): Promise<string[]> {
  const { payments, events, deliveries } = TASK_QUEUES;
  const wanted = [
    [SCHEDULES.reconciliation, WORKFLOWS.reconciliation, payments, config.RECONCILIATION_INTERVAL_MS],
    [SCHEDULES.housekeeping, WORKFLOWS.housekeeping, payments, config.PAYMENT_SWEEP_INTERVAL_MS],
    [SCHEDULES.retention, WORKFLOWS.retention, events, config.EVENT_RETENTION_INTERVAL_MS],
    [SCHEDULES.replaySweep, WORKFLOWS.replaySweep, deliveries, config.WEBHOOK_REPLAY_SWEEP_INTERVAL_MS],
  ] as const;
  const created: string[] = [];
  for (const [scheduleId, workflowType, taskQueue, every] of wanted) {
    const options = {
      spec: { intervals: [{ every }] },
      action: {
        type: 'startWorkflow' as const,
        workflowType,
        workflowId: scheduleId,
        taskQueue,
        args: [],
      },
      // A run that takes longer than the interval is not joined by a second one.
      policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1m' as const },
    };
    try {
      await client.schedule.create({ scheduleId, ...options });
      created.push(scheduleId);
    } catch (error) {
      if (!(error instanceof ScheduleAlreadyRunning)) throw error;
      await client.schedule.getHandle(scheduleId).update(({ state }) => ({ ...options, state }));
    }
  }
  return created;
}
