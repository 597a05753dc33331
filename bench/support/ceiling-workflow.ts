import { proxyActivities } from '@temporalio/workflow';

const { nothing } = proxyActivities<{ nothing(): Promise<void> }>({ startToCloseTimeout: '10s' });

/** The least that a durable step costs: one workflow, one activity, nothing in either. */
export async function emptyWorkflow(): Promise<void> {
  await nothing();
}
