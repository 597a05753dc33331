/** Every workflow of remit: what the workflow bundle is built from. */
export { paymentWorkflow } from './payment';
export { orderWorkflow } from './order';
export { deliveryWorkflow } from './delivery';
export { laneWorkflow } from './lane';
export { disputeWorkflow } from './dispute';
export { replayWorkflow } from './replay';
export { housekeepingWorkflow, reconciliationWorkflow } from './reconciliation';
export { replaySweepWorkflow, retentionWorkflow } from './upkeep';
