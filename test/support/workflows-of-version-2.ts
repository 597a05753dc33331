import { sleep } from '@temporalio/workflow';
import type { PaymentWorkflowInput, PaymentWorkflowResult } from '../../src/contracts/workflows';
import { paymentWorkflow as before } from '../../src/workflows/payment';

/** Workflow code of a release that changes payments so that histories of the one before do not replay on it. */

export * from '../../src/workflows';

/** Hides the one of `export *`: it does something first that the former one did not. As that one, it is pinned. */
export async function paymentWorkflow(input: PaymentWorkflowInput): Promise<PaymentWorkflowResult> {
  await sleep(1, { summary: 'what version 2 does first' });
  return before(input);
}
Object.assign(paymentWorkflow, { ...before });
