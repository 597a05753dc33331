/** Every workflow of remit: what the workflow bundle is built from. */
export { paymentWorkflow } from './payment';
export { orderWorkflow } from './order';
export { deliveryWorkflow } from './delivery';
export { laneWorkflow } from './lane';
export { disputeWorkflow } from './dispute';
export { replayWorkflow } from './replay';
export { expiryWorkflow } from './expiry';
export { reconciliationWorkflow } from './reconciliation';
export { recoveryWorkflow, retentionWorkflow } from './scheduled-jobs';
