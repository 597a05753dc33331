import { defineSearchAttributeKey, TypedSearchAttributes } from '@temporalio/common';
import type { DeliveryRef } from './delivery';
import type { DisputeWorkflowInput } from './dispute';
import { TASK_QUEUES, workflowId } from './names';
import type { ReplayInput } from './replay';

/** How workflows are started, the same from a client and from a workflow. */

const SUBSCRIPTION = defineSearchAttributeKey('RemitSubscriptionId', 'KEYWORD');
const EVENT_TYPE = defineSearchAttributeKey('RemitEventType', 'KEYWORD');
const ORDER = defineSearchAttributeKey('RemitOrderId', 'KEYWORD');
const PROVIDER = defineSearchAttributeKey('RemitProvider', 'KEYWORD');
/** Temporal's limit, in bytes. */
const FAIRNESS_KEY_MAX = 64;

/** The delivery workflow of a delivery. */
export function deliveryStart(ref: DeliveryRef) {
  return {
    workflowId: workflowId.delivery(ref.eventId, ref.subscriptionId, ref.generation),
    taskQueue: TASK_QUEUES.deliveries,
    args: [ref] as [DeliveryRef],
    // A server with fair task queues serves subscriptions in turn, so that the backlog of one does not delay the rest.
    priority: { fairnessKey: ref.subscriptionId.slice(0, FAIRNESS_KEY_MAX) },
    typedSearchAttributes: new TypedSearchAttributes([
      { key: SUBSCRIPTION, value: ref.subscriptionId },
      { key: EVENT_TYPE, value: ref.eventType },
    ]),
  };
}

/** The workflow of a replay. */
export function replayStart(input: ReplayInput) {
  return {
    workflowId: workflowId.replay(input.replayId),
    taskQueue: TASK_QUEUES.deliveries,
    args: [input] as [ReplayInput],
    typedSearchAttributes: new TypedSearchAttributes([{ key: SUBSCRIPTION, value: input.subscriptionId }]),
  };
}

/** The workflow of a dispute. */
export function disputeStart({
  disputeId,
  orderId,
  provider,
}: {
  disputeId: string;
  orderId: string;
  provider: string;
}) {
  const input: DisputeWorkflowInput = { disputeId };
  return {
    workflowId: workflowId.dispute(disputeId),
    taskQueue: TASK_QUEUES.orders,
    args: [input] as [DisputeWorkflowInput],
    typedSearchAttributes: new TypedSearchAttributes([
      { key: ORDER, value: orderId },
      { key: PROVIDER, value: provider },
    ]),
  };
}
