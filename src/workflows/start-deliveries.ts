import { defineSearchAttributeKey, WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import { ParentClosePolicy, startChild, WorkflowIdReusePolicy } from '@temporalio/workflow';
import { TASK_QUEUES, workflowId, WORKFLOWS, type DeliveryRef } from '../contracts/workflows';

const SUBSCRIPTION = defineSearchAttributeKey('RemitSubscriptionId', 'KEYWORD');
const EVENT_TYPE = defineSearchAttributeKey('RemitEventType', 'KEYWORD');
/** Temporal's limit, in bytes. */
const FAIRNESS_KEY_MAX = 64;

/**
 * Starts a delivery workflow for each delivery row, as a child that outlives this workflow. Repeating it after a
 * crash starts none beside one that runs, and the delivery row is the judge of what an ended one has left: the id may be
 * used again, or a row that a restored database has back would stay pending for ever.
 */
export async function startDeliveries(deliveries: DeliveryRef[]): Promise<void> {
  await Promise.all(deliveries.map(startDelivery));
}

async function startDelivery(delivery: DeliveryRef): Promise<void> {
  try {
    await startChild(WORKFLOWS.delivery, {
      workflowId: workflowId.delivery(delivery.eventId, delivery.subscriptionId, delivery.generation),
      taskQueue: TASK_QUEUES.deliveries,
      parentClosePolicy: ParentClosePolicy.ABANDON,
      workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
      args: [delivery],
      // A server with fair task queues serves subscriptions in turn, so that the backlog of one does not delay the rest.
      priority: { fairnessKey: delivery.subscriptionId.slice(0, FAIRNESS_KEY_MAX) },
      typedSearchAttributes: [
        { key: SUBSCRIPTION, value: delivery.subscriptionId },
        { key: EVENT_TYPE, value: delivery.eventType },
      ],
    });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}
