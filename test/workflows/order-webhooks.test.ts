import { randomUUID } from 'node:crypto';
import { WithStartWorkflowOperation } from '@temporalio/client';
import type { SignalDefinition } from '@temporalio/common';
import { Worker } from '@temporalio/worker';
import {
  SIGNALS,
  TASK_QUEUES,
  UPDATES,
  workflowId,
  WORKFLOWS,
  type OrderEvent,
  type OrderEventResult,
  type PaymentRequest,
  type PayOrderResult,
  type RefundInput,
  type RefundResult,
  type RefusedMessage,
} from '../../src/contracts/workflows';
import { messageRef } from '../support/message-refs';
import { keyword, playedStage, workflowBundle } from '../support/workflow-env';

const stage = playedStage(['payOrder', 'settleOrder', 'refundOrder', 'deadLetterMessages']);

function event(orderId: string, status: OrderEvent['status']): OrderEvent {
  return {
    provider: 'payments',
    providerEventId: randomUUID(),
    orderId,
    userId: 'user-1',
    status,
    amountMinor: '5000',
    currency: 'TRY',
    payloadHash: 'hash',
    receivedAt: new Date().toISOString(),
    correlationId: 'correlation',
    source: messageRef('webhooks.orders'),
  };
}

function request(orderId: string): PaymentRequest {
  return {
    orderId,
    userId: 'user-1',
    amountMinor: '5000',
    currency: 'TRY',
    correlationId: 'correlation',
    source: messageRef('payment-request'),
  };
}

const answer = (result: Partial<OrderEventResult>): OrderEventResult => ({
  outcome: 'applied',
  status: 'FINISHED',
  failureCode: null,
  userId: 'user-1',
  waitUntil: null,
  ...result,
});

const REFUNDED: RefundResult = { outcome: 'ok', refundId: 'r', refundableMinor: '0' };

const refundOf = (orderId: string): RefundInput => ({
  refundId: randomUUID(),
  tenantId: 'default',
  orderId,
  amountMinor: '100',
  reason: null,
  actor: 'token:operator',
  correlationId: 'correlation',
});

/** Plays the database: each webhook takes the next answer; the last one repeats. */
function played(answers: OrderEventResult[], paid: Partial<PayOrderResult> = {}) {
  const calls = { log: [] as string[], dead: [] as string[] };
  stage.play({
    settleOrder: ({ status }: OrderEvent) => {
      calls.log.push(status);
      return Promise.resolve(answers.length > 1 ? answers.shift()! : answers[0]!);
    },
    payOrder: () => {
      calls.log.push('pay');
      return Promise.resolve({
        ...{ outcome: 'applied', status: 'FINISHED', failureCode: null },
        ...paid,
      });
    },
    refundOrder: ({ refundId }: RefundInput) => {
      calls.log.push(`refund ${refundId}`);
      return Promise.resolve({ ...REFUNDED, refundId });
    },
    deadLetterMessages: (messages: RefusedMessage[]) => {
      calls.dead.push(...messages.map(({ code }) => code));
      return Promise.resolve();
    },
  });
  return calls;
}

function signalled<Message>(orderId: string, signal: SignalDefinition<[Message]>, argument: Message) {
  return stage.environment.client.workflow.signalWithStart(WORKFLOWS.order, {
    workflowId: workflowId.order(orderId),
    taskQueue: TASK_QUEUES.orders,
    args: [{ orderId }],
    signal,
    signalArgs: [argument],
  });
}

describe('the order workflow, told by a provider', () => {
  it('finishes the order', async () => {
    const id = randomUUID();
    played([answer({})]);
    const handle = await signalled(id, SIGNALS.orderEvent, event(id, 'success'));
    expect(await handle.result()).toEqual({ outcome: 'applied', status: 'FINISHED', failureCode: null });
    const { typedSearchAttributes } = await handle.describe();
    expect(keyword(typedSearchAttributes, 'RemitStatus')).toBe('FINISHED');
    expect(keyword(typedSearchAttributes, 'RemitUserId')).toBe('user-1');
  });

  it('waits durably for an order that is not known yet, and does not lose the payment request meanwhile', async () => {
    const id = randomUUID();
    const waitUntil = new Date((await stage.environment.currentTimeMs()) + 10 * 60_000).toISOString();
    const waiting = answer({ outcome: 'unknown_order', status: null, waitUntil });
    const calls = played([waiting, waiting, answer({})], { outcome: 'duplicate' });
    const handle = await signalled(id, SIGNALS.orderEvent, event(id, 'success'));
    await signalled(id, SIGNALS.paymentRequest, request(id));
    expect(await handle.result()).toMatchObject({ outcome: 'duplicate', status: 'FINISHED' });
    expect(calls.log).toEqual(['success', 'success', 'success', 'pay']);
    expect(calls.dead).toEqual([]);
  });

  it('dead-letters the webhook of an order that never comes', async () => {
    const id = randomUUID();
    const waitUntil = new Date((await stage.environment.currentTimeMs()) + 10 * 60_000).toISOString();
    const calls = played([answer({ outcome: 'unknown_order', status: null, waitUntil })]);
    await (await signalled(id, SIGNALS.orderEvent, event(id, 'success'))).result();
    expect(calls.dead).toEqual(['unknown_order']);
    expect(calls.log.length).toBeGreaterThan(5);
  });

  it.each(['user_mismatch', 'amount_mismatch', 'event_conflict'] as const)(
    'dead-letters a webhook that is refused as %s',
    async (outcome) => {
      const id = randomUUID();
      const calls = played([answer({ outcome, status: 'NEW' })]);
      await (await signalled(id, SIGNALS.orderEvent, event(id, 'success'))).result();
      expect(calls.dead).toEqual([outcome]);
    },
  );

  it.each(['credited', 'noted', 'duplicate', 'contradiction'] as const)(
    'ends quietly with %s',
    async (outcome) => {
      const id = randomUUID();
      const calls = played([answer({ outcome })]);
      const handle = await signalled(id, SIGNALS.orderEvent, event(id, 'success'));
      expect(await handle.result()).toMatchObject({ outcome });
      expect(calls.dead).toEqual([]);
    },
  );
});

describe('the order workflow, asked for a refund', () => {
  it('carries it out in a run that was started for nothing else', async () => {
    const id = randomUUID();
    const calls = played([]);
    const input = refundOf(id);
    const startWorkflowOperation = new WithStartWorkflowOperation<(input: object) => Promise<unknown>>(
      WORKFLOWS.order,
      {
        workflowId: workflowId.order(id),
        taskQueue: TASK_QUEUES.orders,
        args: [{ orderId: id }],
        workflowIdConflictPolicy: 'USE_EXISTING',
      },
    );
    const result = await stage.environment.client.workflow.executeUpdateWithStart(UPDATES.refund, {
      args: [input],
      updateId: input.refundId,
      startWorkflowOperation,
    });
    expect(result).toEqual({ ...REFUNDED, refundId: input.refundId });
    const handle = await startWorkflowOperation.workflowHandle();
    expect(await handle.result()).toEqual({ outcome: null, status: null, failureCode: null });
    expect(calls.log).toEqual([`refund ${input.refundId}`]);
  });

  it('answers the update while a webhook waits for its order, and then goes on', async () => {
    const id = randomUUID();
    const waitUntil = new Date((await stage.environment.currentTimeMs()) + 10 * 60_000).toISOString();
    const calls = played([answer({ outcome: 'unknown_order', status: null, waitUntil }), answer({})]);
    const handle = await signalled(id, SIGNALS.orderEvent, event(id, 'success'));
    const input = refundOf(id);
    const refund = () =>
      handle.executeUpdate<RefundResult, [RefundInput]>(UPDATES.refund, {
        args: [input],
        updateId: input.refundId,
      });
    expect(await refund()).toEqual({ ...REFUNDED, refundId: input.refundId });
    expect(await refund()).toMatchObject({ outcome: 'ok' });
    expect(await handle.result()).toMatchObject({ status: 'FINISHED' });
    expect(calls.log.filter((call) => call.startsWith('refund'))).toHaveLength(1);
  });

  it('leaves a history that replays, also when it comes while a webhook is being applied', async () => {
    // Each step ends soon after the other has begun, or by itself when the other waits for it.
    const begun = new Map<string, (() => void)[]>();
    const together = (id: string) =>
      new Promise<void>((resolve) => {
        const both = [...(begun.get(id) ?? []), resolve];
        begun.set(id, both);
        if (both.length === 2) both.forEach((each, n) => setTimeout(each, n * 5));
        else setTimeout(resolve, 500);
      });
    stage.play({
      settleOrder: async ({ orderId }: OrderEvent) => {
        await together(orderId);
        return answer({});
      },
      refundOrder: async ({ orderId, refundId }: RefundInput) => {
        await together(orderId);
        return { ...REFUNDED, refundId };
      },
    });
    const handles = await Promise.all(
      Array.from({ length: 12 }, async () => {
        const id = randomUUID();
        const handle = await signalled(id, SIGNALS.orderEvent, event(id, 'success'));
        const input = refundOf(id);
        const asked = { args: [input] as [RefundInput], updateId: input.refundId };
        expect(await handle.executeUpdate(UPDATES.refund, asked)).toMatchObject({ outcome: 'ok' });
        return handle;
      }),
    );
    // Not before every refund is in: whoever waits for a result has time skipped, and the orders of the others end meanwhile.
    const histories = await Promise.all(
      handles.map(async (handle) => {
        expect(await handle.result()).toMatchObject({ status: 'FINISHED' });
        return handle.fetchHistory();
      }),
    );
    for (const history of histories)
      await Worker.runReplayHistory({ workflowBundle: workflowBundle() }, history);
  });
});
