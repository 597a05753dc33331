import { setWorkflowOptions } from '@temporalio/workflow';
import { deliveryWorkflow } from './delivery';
import { disputeWorkflow } from './dispute';
import { expiryWorkflow } from './expiry';
import { laneWorkflow } from './lane';
import { orderWorkflow } from './order';
import { paymentWorkflow } from './payment';
import { reconciliationWorkflow } from './reconciliation';
import { replayWorkflow } from './replay';
import { recoveryWorkflow, retentionWorkflow } from './scheduled-jobs';

/**
 * How each workflow goes over to a new version of this code, where workers are versioned (docs/rollouts.md). One that is over
 * soon ends on the version that it began on. One that may live for days goes over to the next version at its next task: what is
 * changed in it needs `patched`, so that its history replays.
 */
setWorkflowOptions({ versioningBehavior: 'PINNED' }, paymentWorkflow);
setWorkflowOptions({ versioningBehavior: 'PINNED' }, orderWorkflow);
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, deliveryWorkflow);
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, disputeWorkflow);
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, laneWorkflow);
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, replayWorkflow);
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, expiryWorkflow);
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, reconciliationWorkflow);
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, recoveryWorkflow);
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, retentionWorkflow);

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
