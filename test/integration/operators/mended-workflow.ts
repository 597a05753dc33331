import { sleep } from '@temporalio/workflow';

/** The same workflow in the release after it: it waits, and is open as before. */
export async function paymentWorkflow(): Promise<void> {
  await sleep('1 day');
}
