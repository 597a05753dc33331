import type { WorkflowDefinitionOptions } from '@temporalio/common';
import { setWorkflowOptions } from '@temporalio/workflow';
import { VERSIONED_WORKERS } from '../contracts/workflows';
import { deliveryWorkflow } from './delivery';
import { disputeWorkflow } from './dispute';
import { expiryWorkflow } from './expiry';
import { laneWorkflow } from './lane';
import { orderWorkflow } from './order';
import { paymentWorkflow } from './payment';
import { reconciliationWorkflow } from './reconciliation';
import { replayWorkflow } from './replay';
import { recoveryWorkflow, retentionWorkflow } from './scheduled-jobs';

/** The server refuses a behaviour from workers that are not versioned, and a history does not tell what the worker is now. */
function behaviour(versioningBehavior: 'PINNED' | 'AUTO_UPGRADE'): () => WorkflowDefinitionOptions {
  return () => (VERSIONED_WORKERS in globalThis ? { versioningBehavior } : {});
}

/**
 * How each workflow goes over to a new version of this code, where workers are versioned (docs/rollouts.md). One that is over
 * soon ends on the version that it began on. One that may live for days goes over to the next version at its next task: what is
 * changed in it needs `patched`, so that its history replays.
 */
const pinned = behaviour('PINNED');
const goesOver = behaviour('AUTO_UPGRADE');
setWorkflowOptions(pinned, paymentWorkflow);
setWorkflowOptions(pinned, orderWorkflow);
setWorkflowOptions(goesOver, deliveryWorkflow);
setWorkflowOptions(goesOver, disputeWorkflow);
setWorkflowOptions(goesOver, laneWorkflow);
setWorkflowOptions(goesOver, replayWorkflow);
setWorkflowOptions(goesOver, expiryWorkflow);
setWorkflowOptions(goesOver, reconciliationWorkflow);
setWorkflowOptions(goesOver, recoveryWorkflow);
setWorkflowOptions(goesOver, retentionWorkflow);

/** Every workflow of remit: what the workflow bundle is built from. */
export {
  deliveryWorkflow,
  disputeWorkflow,
  expiryWorkflow,
  laneWorkflow,
  orderWorkflow,
  paymentWorkflow,
  reconciliationWorkflow,
  recoveryWorkflow,
  replayWorkflow,
  retentionWorkflow,
};
