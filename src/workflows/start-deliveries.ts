import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import {
  ParentClosePolicy,
  proxyActivities,
  startChild,
  WorkflowIdReusePolicy,
  type ActivityOptions,
} from '@temporalio/workflow';
import type { DeliveryActivities } from '../activities/deliveries';
import { deliveryStart } from '../contracts/workflows/starts';
import { TASK_QUEUES, WORKFLOWS, type DeliveryRef } from '../contracts/workflows';

/** First attempts that one activity makes. */
const AT_ONCE = 200;

const FIRST_ATTEMPTS: ActivityOptions = {
  taskQueue: TASK_QUEUES.deliveries,
  // The longest wait for a place, for the subscriber, and for the database to store what came of it.
  startToCloseTimeout: '2m',
  // An attempt of a worker that was killed is made anew after this.
  heartbeatTimeout: '15s',
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
};
const { makeFirstAttempts } = proxyActivities<DeliveryActivities>(FIRST_ATTEMPTS);

/**
 * Delivers what a state change wrote: makes the first attempt of each in one activity, and starts a delivery workflow, as
 * a child that outlives this workflow, for each that is not delivered by it. Repeating it after a crash starts none beside
 * one that runs, and the delivery row is the judge of what an ended one has left: the id may be used again, or a row that
 * a restored database has back would stay pending for ever.
 */
export async function startDeliveries(deliveries: readonly DeliveryRef[]): Promise<void> {
  for (let from = 0; from < deliveries.length; from += AT_ONCE) {
    const left = await makeFirstAttempts(deliveries.slice(from, from + AT_ONCE));
    await Promise.all(left.map(startDelivery));
  }
}

async function startDelivery(delivery: DeliveryRef): Promise<void> {
  try {
    await startChild(WORKFLOWS.delivery, {
      ...deliveryStart(delivery),
      parentClosePolicy: ParentClosePolicy.ABANDON,
      workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
    });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}
