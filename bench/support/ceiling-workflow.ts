import { defineSignal, proxyActivities, setHandler } from '@temporalio/workflow';

const { nothing } = proxyActivities<{ nothing(): Promise<void> }>({ startToCloseTimeout: '10s' });

/** The least that a durable step costs: one workflow, one activity, nothing in either. */
export async function emptyWorkflow(): Promise<void> {
  await nothing();
}

export const noopSignal = defineSignal('noop');

/** The least that anything costs which a message starts: one signal, one workflow task, nothing in it. */
export function noopWorkflow(): Promise<void> {
  setHandler(noopSignal, () => undefined);
  return Promise.resolve();
}
