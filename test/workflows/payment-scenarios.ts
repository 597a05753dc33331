import type { WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import {
  FAILURES,
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type PaymentRequest,
  type PayOrderResult,
  type ProviderEvent,
  type SettleResult,
} from '../../src/contracts/workflows';
import { messageRef } from '../support/message-refs';
import type { Scenario } from './history-scenarios';

function settled(changes: Partial<SettleResult>): SettleResult {
  return {
    outcome: 'applied',
    status: 'succeeded',
    failureCode: null,
    userId: 'user-1',
    expiresAt: null,
    waitUntil: null,
    ...changes,
  };
}

/** The payment `name`, whose events are answered in turn; the last answer repeats. */
function payment(
  name: string,
  statuses: ProviderEvent['status'][],
  answers: Partial<SettleResult>[],
  meanwhile?: (handle: WorkflowHandle) => Promise<void>,
  resumed?: ProviderEvent['status'][],
): Scenario {
  const event = (status: ProviderEvent['status']): ProviderEvent => ({
    provider: 'decard',
    providerEventId: `${name}:${status}`,
    transactionId: name,
    type: 'payment',
    status,
    amountMinor: '10000',
    currency: 'TRY',
    payloadHash: 'hash',
    receivedAt: '2026-11-21T00:00:00.000Z',
    correlationId: 'correlation',
    source: messageRef('payment.webhook.decard'),
  });
  const [first, ...later] = statuses.map(event);
  const left = answers.map(settled);
  return {
    name,
    workflowType: WORKFLOWS.payment,
    workflowId: workflowId.payment('decard', name),
    taskQueue: TASK_QUEUES.payments,
    input: {
      ...{ provider: 'decard', transactionId: name },
      ...(resumed && {
        resume: {
          carried: { messages: resumed.map(event), earlySince: PAST },
          ...{ status: null, expiresAt: null, known: null },
        },
      }),
    },
    signal: { name: SIGNALS.providerEvent.name, input: first },
    activities: {
      settlePayment: () => Promise.resolve(left.length > 1 ? left.shift() : left[0]),
      expirePayment: () => Promise.resolve(settled({ status: 'expired', failureCode: 'expired' })),
      deadLetterMessages: () => Promise.resolve(),
    },
    meanwhile: async (handle) => {
      await meanwhile?.(handle);
      for (const each of later) await handle.signal(SIGNALS.providerEvent, each);
    },
  };
}

function order(name: string, answer: Partial<PayOrderResult>): Scenario {
  const request: PaymentRequest = {
    orderId: name,
    userId: 'user-1',
    amountMinor: '5000',
    currency: 'TRY',
    correlationId: 'correlation',
    source: messageRef('payment-request'),
  };
  return {
    name,
    workflowType: WORKFLOWS.order,
    workflowId: workflowId.order(name),
    taskQueue: TASK_QUEUES.orders,
    input: { orderId: name },
    signal: { name: SIGNALS.paymentRequest.name, input: request },
    activities: {
      payOrder: () =>
        Promise.resolve({
          outcome: 'applied',
          status: 'FINISHED',
          failureCode: null,
          ...answer,
        }),
      deadLetterMessages: () => Promise.resolve(),
    },
  };
}

/** The payment `name`, whose event the database refuses for good: a step of it fails. */
function refusedPayment(name: string): Scenario {
  const scenario = payment(name, ['success'], [{}]);
  const settlePayment = () =>
    Promise.reject(ApplicationFailure.nonRetryable('SQLSTATE 22P05: not text', FAILURES.dataRefused));
  return { ...scenario, activities: { ...scenario.activities, settlePayment } };
}

const FAR = '2099-01-01T00:00:00.000Z';
const PAST = '2020-01-01T00:00:00.000Z';

export const PAYMENT_SCENARIOS: readonly Scenario[] = [
  payment('payment-success', ['success'], [{}]),
  payment(
    'payment-pending-then-success',
    ['pending', 'success'],
    [{ outcome: 'noted', status: 'pending', expiresAt: FAR }, {}],
  ),
  payment('payment-expires', ['pending'], [{ outcome: 'noted', status: 'pending', expiresAt: PAST }]),
  payment(
    'payment-unknown-then-known',
    ['success'],
    [{ outcome: 'unknown_transaction', status: null, userId: null, waitUntil: FAR }, {}],
  ),
  payment(
    'payment-never-known',
    ['success'],
    [{ outcome: 'unknown_transaction', status: null, userId: null, waitUntil: PAST }],
  ),
  payment('payment-amount-mismatch', ['success'], [{ outcome: 'amount_mismatch', status: 'pending' }]),
  payment('payment-duplicate', ['success'], [{ outcome: 'duplicate' }]),
  payment(
    'payment-cancelled-while-early',
    ['success'],
    [{ outcome: 'unknown_transaction', status: null, userId: null, waitUntil: FAR }],
    async (handle) => void (await handle.cancel()),
  ),
  payment(
    'payment-continued-while-early',
    ['success'],
    [
      { outcome: 'unknown_transaction', status: null, userId: null, waitUntil: FAR },
      { outcome: 'noted', status: 'pending', expiresAt: FAR },
      {},
    ],
    undefined,
    ['pending'],
  ),
  refusedPayment('payment-refused-by-the-database'),
  { ...refusedPayment('payment-refused-encrypted'), encrypted: true },
  {
    ...payment(
      'payment-encrypted',
      ['pending', 'success'],
      [{ outcome: 'noted', status: 'pending', expiresAt: FAR }, {}],
    ),
    encrypted: true,
  },
];

export const ORDER_SCENARIOS: readonly Scenario[] = [
  order('order-finished', {}),
  order('order-cancelled', { status: 'CANCELLED', failureCode: 'insufficient_funds' }),
  order('order-unknown', { outcome: 'unknown_order', status: null }),
];
