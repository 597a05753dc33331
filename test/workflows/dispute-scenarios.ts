import type { WorkflowHandle } from '@temporalio/client';
import {
  SIGNALS,
  TASK_QUEUES,
  UPDATES,
  workflowId,
  WORKFLOWS,
  type DisputeEvent,
  type DisputeResult,
  type OrderEvent,
  type OrderEventResult,
} from '../../src/contracts/workflows';
import { messageRef } from '../support/message-refs';
import type { Scenario } from './history-scenarios';

const ORDER_ID = '00000000-0000-4000-8000-000000000002';
/** Long past and far away, whenever the history is recorded. */
const PAST = '2020-01-01T00:00:00.000Z';
const FUTURE = '2099-01-01T00:00:00.000Z';
const webhook = {
  provider: 'payments',
  providerEventId: 'event-1',
  orderId: ORDER_ID,
  payloadHash: 'hash',
  receivedAt: PAST,
  correlationId: 'correlation',
  source: messageRef('webhooks'),
};
const chargeback = (disputeId: string, status: DisputeEvent['status']): DisputeEvent => ({
  ...webhook,
  disputeId,
  status,
  amountMinor: null,
  currency: null,
  reason: null,
  evidenceDueBy: null,
});
const orderWebhook: OrderEvent = {
  ...webhook,
  userId: 'user-1',
  status: 'success',
  amountMinor: '5000',
  currency: 'TRY',
};

const dispute = (changes: Partial<DisputeResult>): DisputeResult => ({
  outcome: 'applied',
  status: 'opened',
  userId: 'user-1',
  evidenceDueAt: null,
  waitUntil: null,
  ...changes,
});

/** The dispute `name`, whose events are answered in turn; the last answer repeats. */
function disputed(
  name: string,
  answers: DisputeResult[],
  meanwhile?: (handle: WorkflowHandle) => Promise<void>,
): Scenario {
  const left = [...answers];
  return {
    name,
    workflowType: WORKFLOWS.dispute,
    workflowId: workflowId.dispute(name),
    taskQueue: TASK_QUEUES.orders,
    input: { disputeId: name },
    signal: { name: SIGNALS.disputeEvent.name, input: chargeback(name, 'opened') },
    activities: {
      settleDispute: () => Promise.resolve(left.length > 1 ? left.shift() : left[0]),
      expireDispute: () => Promise.resolve(dispute({ status: 'expired' })),
      loadDispute: () => Promise.resolve(dispute({ outcome: 'unknown_dispute', status: null, userId: null })),
      submitDisputeEvidence: () => Promise.resolve({ outcome: 'ok', status: 'under_review' }),
      deadLetterMessages: () => Promise.resolve(),
    },
    ...(meanwhile ? { meanwhile } : {}),
  };
}

const ordered = (answer: Partial<OrderEventResult>) => ({
  outcome: 'applied',
  status: 'FINISHED',
  failureCode: null,
  userId: 'user-1',
  waitUntil: null,
  ...answer,
});

/** The order `name`, which a provider's webhook decides. */
function order(
  name: string,
  answers: Partial<OrderEventResult>[],
  meanwhile?: (handle: WorkflowHandle) => Promise<void>,
): Scenario {
  const left = [...answers];
  return {
    name,
    workflowType: WORKFLOWS.order,
    workflowId: workflowId.order(name),
    taskQueue: TASK_QUEUES.orders,
    input: { orderId: ORDER_ID },
    signal: { name: SIGNALS.orderEvent.name, input: orderWebhook },
    activities: {
      settleOrder: () => Promise.resolve(ordered((left.length > 1 ? left.shift() : left[0]) ?? {})),
      refundOrder: () => Promise.resolve({ outcome: 'ok', refundId: 'refund-1', refundableMinor: '0' }),
      deadLetterMessages: () => Promise.resolve(),
    },
    ...(meanwhile ? { meanwhile } : {}),
  };
}

const WAITS = dispute({ outcome: 'order_not_paid', status: null, waitUntil: FUTURE });

/** Evidence comes in time, and the provider decides for the merchant. */
const answered = (name: string) =>
  disputed(name, [dispute({ evidenceDueAt: FUTURE }), dispute({ status: 'won' })], async (handle) => {
    const evidence = { disputeId: name, hash: 'hash', evidence: { text: 'Yes.' } };
    await handle.executeUpdate(UPDATES.submitEvidence, {
      args: [{ ...evidence, actor: 'operator', correlationId: 'correlation' }],
      updateId: 'hash',
    });
    await handle.signal(SIGNALS.disputeEvent, chargeback(name, 'won'));
  });

export const DISPUTE_SCENARIOS: readonly Scenario[] = [
  disputed('dispute-lost', [dispute({ status: 'lost' })]),
  disputed('dispute-expires', [dispute({ evidenceDueAt: '2030-01-01T00:00:00.000Z' })]),
  disputed('dispute-refused', [dispute({ outcome: 'amount_mismatch', status: null })]),
  disputed('dispute-before-payment', [WAITS, WAITS, dispute({ status: 'won' })]),
  answered('dispute-evidence-then-won'),
  { ...answered('dispute-evidence-encrypted'), encrypted: true },
];

export const ORDER_WEBHOOK_SCENARIOS: readonly Scenario[] = [
  order('order-paid-by-provider', [{}]),
  order('order-webhook-refused', [{ outcome: 'user_mismatch', status: 'NEW' }]),
  order(
    'order-webhook-early-and-refunded',
    [{ outcome: 'unknown_order', status: null, waitUntil: FUTURE }, {}],
    async (handle) => {
      const refund = { refundId: 'refund-1', tenantId: 'default', orderId: ORDER_ID, amountMinor: null };
      await handle.executeUpdate(UPDATES.refund, {
        args: [{ ...refund, reason: null, actor: 'operator', correlationId: 'correlation' }],
        updateId: 'refund-1',
      });
    },
  ),
];
