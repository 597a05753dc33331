import {
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  ScheduleOverlapPolicy,
  type Client,
} from '@temporalio/client';
import { FORMER_SCHEDULES, SCHEDULES, TASK_QUEUES, WORKFLOWS } from '../contracts/workflows';
import type { Config } from './config';

/**
 * Creates the schedules of the scheduled jobs (reconciliation, expiry, retention, recovery), or gives them the configured
 * interval, and deletes those under former ids. Idempotent; one that an operator has paused stays paused.
 * @returns the ids that were created.
 */
export async function ensureSchedules(
  client: Client,
  config: Pick<
    Config,
    | 'RECONCILIATION_INTERVAL_MS'
    | 'EXPIRY_INTERVAL_MS'
    | 'EVENT_RETENTION_INTERVAL_MS'
    | 'RECOVERY_INTERVAL_MS'
  >,
): Promise<string[]> {
  const { payments, events, deliveries } = TASK_QUEUES;
  const wanted = [
    [SCHEDULES.reconciliation, WORKFLOWS.reconciliation, payments, config.RECONCILIATION_INTERVAL_MS],
    [SCHEDULES.expiry, WORKFLOWS.expiry, payments, config.EXPIRY_INTERVAL_MS],
    [SCHEDULES.retention, WORKFLOWS.retention, events, config.EVENT_RETENTION_INTERVAL_MS],
    [SCHEDULES.recovery, WORKFLOWS.recovery, deliveries, config.RECOVERY_INTERVAL_MS],
  ] as const;
  for (const scheduleId of FORMER_SCHEDULES)
    await client.schedule
      .getHandle(scheduleId)
      .delete()
      .catch((error: unknown) => {
        if (!(error instanceof ScheduleNotFoundError)) throw error;
      });
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
