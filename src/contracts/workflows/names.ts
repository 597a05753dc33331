/**
 * What bridges, API, workflows and operators agree on about Temporal by name: workflows, their ids, task queues, schedules.
 * Needs nothing: the command line loads it for its help.
 */

export const WORKFLOWS = {
  payment: 'paymentWorkflow',
  order: 'orderWorkflow',
  delivery: 'deliveryWorkflow',
  lane: 'laneWorkflow',
  replay: 'replayWorkflow',
  dispute: 'disputeWorkflow',
  reconciliation: 'reconciliationWorkflow',
  expiry: 'expiryWorkflow',
  retention: 'retentionWorkflow',
  recovery: 'recoveryWorkflow',
} as const;

/** Those without which unfinished work stands still until somebody restarts them: no message will reach them. */
export const CARRYING_WORKFLOWS: readonly string[] = [
  WORKFLOWS.dispute,
  WORKFLOWS.replay,
  WORKFLOWS.delivery,
  WORKFLOWS.lane,
];

/** Scheduled jobs: ids of the Temporal schedules, and of the workflows that they start. */
export const SCHEDULES = {
  reconciliation: 'reconciliation',
  expiry: 'expiry',
  retention: 'retention',
  recovery: 'recovery',
} as const;

/** Ids that schedules had in 0.1: `remit migrate` deletes them, so that no schedule starts a workflow that is gone. */
export const FORMER_SCHEDULES = ['housekeeping', 'event-retention', 'replay-sweep'] as const;

/** Disputes run on the queue of the orders: they are rare, and change the same rows. */
export const TASK_QUEUES = {
  payments: 'payments',
  orders: 'orders',
  deliveries: 'deliveries',
  events: 'events',
} as const;

export type TaskQueue = keyof typeof TASK_QUEUES;

/** Global of the workflows' sandbox that workers set which are versioned (platform/worker-versions.ts). */
export const VERSIONED_WORKERS = 'remitWorkersAreVersioned';

/** Workflow ids are the business ids, so that an operator can type them. */
export const workflowId = {
  payment: (provider: string, transactionId: string) => `payment/${provider}/${transactionId}`,
  order: (orderId: string) => `order/${orderId}`,
  dispute: (disputeId: string) => `dispute/${disputeId}`,
  /** `generation`: how often it was sent again; each time is a workflow of its own. */
  delivery: (eventId: string, subscriptionId: string, generation = 0) =>
    `delivery/${eventId}/${subscriptionId}${generation > 0 ? `/${generation}` : ''}`,
  lane: (subscriptionId: string) => `lane/${subscriptionId}`,
  replay: (replayId: string) => `replay/${replayId}`,
} as const;

/** Types of failures of steps that workflows tell apart. */
export const FAILURES = {
  /** The database refuses what the step would write, and always will. */
  dataRefused: 'DataRefusedError',
  /** The run takes no further update: it is about to continue in a new one, which will. Nothing was done. */
  runIsFull: 'RunIsFull',
} as const;
