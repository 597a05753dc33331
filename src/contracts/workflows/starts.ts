import {
  TypedSearchAttributes,
  WorkflowExecutionAlreadyStartedError,
  type SearchAttributePair,
} from '@temporalio/common';
import type { DeliveryRef } from './delivery';
import type { DisputeWorkflowInput } from './dispute';
import type { LaneInput } from './lane';
import { TASK_QUEUES, workflowId } from './names';
import type { OrderWorkflowInput } from './order';
import type { PaymentWorkflowInput } from './payment';
import type { ReplayInput } from './replay';
import { SEARCH_ATTRIBUTE_KEYS as KEYS } from './search-attributes';

/**
 * What each workflow is started with, the same by whomever: clients do so through platform/workflow-starts.ts, workflows
 * through workflows/start-children.ts, Temporal's schedules through platform/schedules.ts.
 *
 * The id of one that has closed may be used again, but for replays: a late or repeated message opens a short run, and the
 * database judges whether there is anything left to do.
 */

/** @returns false when one of the id is there, and the start says that it is left alone. @throws what else the start does. */
export async function unlessThere(start: Promise<unknown>): Promise<boolean> {
  try {
    await start;
    return true;
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return false;
    throw error;
  }
}

/** Temporal's limit, in bytes. */
const FAIRNESS_KEY_MAX = 64;

/** What is known of the search attributes at the start. */
function attributes(pairs: Partial<Record<keyof typeof KEYS, string>>): TypedSearchAttributes {
  return new TypedSearchAttributes(
    (Object.entries(pairs) as [keyof typeof KEYS, string | undefined][]).flatMap(
      ([name, value]): SearchAttributePair[] => (value === undefined ? [] : [{ key: KEYS[name], value }]),
    ),
  );
}

/** What each is, as the Temporal UI shows it beside its id: the same for everybody, nothing of the data is in it. */
const SUMMARIES = {
  payment: 'a payment or payout, from its provider’s first event to its end',
  order: 'everything that happens to one order: paid, cancelled, refunded',
  dispute: 'a dispute, from its chargeback to its end',
  delivery: 'one event for one subscriber, attempted until it is delivered or given up',
  lane: 'what waits for one subscription, in order and within its rate',
  replay: 'events of a time, sent again',
} as const;

const memoOf = (correlationId: string | undefined) =>
  correlationId === undefined ? {} : { memo: { correlationId } };

/** The workflow of a payment or payout. */
export function paymentStart({
  provider,
  transactionId,
  correlationId,
}: {
  provider: string;
  transactionId: string;
  correlationId?: string;
}) {
  const input: PaymentWorkflowInput = { provider, transactionId };
  return {
    workflowId: workflowId.payment(provider, transactionId),
    taskQueue: TASK_QUEUES.payments,
    staticSummary: SUMMARIES.payment,
    args: [input] as [PaymentWorkflowInput],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    typedSearchAttributes: attributes({ provider }),
    ...memoOf(correlationId),
  } as const;
}

/** The workflow of an order; its user, where the caller knows it. */
export function orderStart({
  orderId,
  userId,
  correlationId,
}: {
  orderId: string;
  userId?: string | undefined;
  correlationId?: string;
}) {
  const input: OrderWorkflowInput = { orderId };
  return {
    workflowId: workflowId.order(orderId),
    taskQueue: TASK_QUEUES.orders,
    staticSummary: SUMMARIES.order,
    args: [input] as [OrderWorkflowInput],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    typedSearchAttributes: attributes({ orderId, ...(userId !== undefined && { userId }) }),
    ...memoOf(correlationId),
  } as const;
}

/** The workflow of a dispute. */
export function disputeStart({
  disputeId,
  orderId,
  provider,
  correlationId,
}: {
  disputeId: string;
  orderId: string;
  provider: string;
  correlationId?: string;
}) {
  const input: DisputeWorkflowInput = { disputeId };
  return {
    workflowId: workflowId.dispute(disputeId),
    taskQueue: TASK_QUEUES.orders,
    staticSummary: SUMMARIES.dispute,
    args: [input] as [DisputeWorkflowInput],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    typedSearchAttributes: attributes({ orderId, provider }),
    ...memoOf(correlationId),
  } as const;
}

/** The workflow of a delivery. */
export function deliveryStart(ref: DeliveryRef) {
  const { eventId, subscriptionId, generation, eventType } = ref;
  return {
    workflowId: workflowId.delivery(eventId, subscriptionId, generation),
    taskQueue: TASK_QUEUES.deliveries,
    staticSummary: SUMMARIES.delivery,
    args: [ref] as [DeliveryRef],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    // A server with fair task queues serves subscriptions in turn, so that the backlog of one does not delay the rest.
    priority: { fairnessKey: subscriptionId.slice(0, FAIRNESS_KEY_MAX) },
    typedSearchAttributes: attributes({ subscriptionId, eventType }),
  } as const;
}

/** The workflow of a subscription's lane. */
export function laneStart(input: LaneInput) {
  const { subscriptionId } = input;
  return {
    workflowId: workflowId.lane(subscriptionId),
    taskQueue: TASK_QUEUES.deliveries,
    staticSummary: SUMMARIES.lane,
    args: [input] as [LaneInput],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    priority: { fairnessKey: subscriptionId.slice(0, FAIRNESS_KEY_MAX) },
    typedSearchAttributes: attributes({ subscriptionId }),
  } as const;
}

/** The workflow of a replay. Its id is used once: one that has ended is not begun again. */
export function replayStart(input: ReplayInput) {
  return {
    workflowId: workflowId.replay(input.replayId),
    taskQueue: TASK_QUEUES.deliveries,
    staticSummary: SUMMARIES.replay,
    args: [input] as [ReplayInput],
    workflowIdReusePolicy: 'REJECT_DUPLICATE',
    // A retry may be of all of a tenant's subscriptions.
    typedSearchAttributes: attributes(
      input.subscriptionId === null ? {} : { subscriptionId: input.subscriptionId },
    ),
  } as const;
}
