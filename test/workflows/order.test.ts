import { randomUUID } from 'node:crypto';
import {
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  SIGNALS,
  type PaymentRequest,
  type PayOrderResult,
} from '../../src/contracts/workflows';
import { DataRefusedError } from '../../src/domain/conflicts';
import { messageRef, playedDeadLetters } from '../support/message-refs';
import { keyword, playedStage } from '../support/workflow-env';

const stage = playedStage(['payOrder', 'deadLetterMessages']);

function request(): PaymentRequest {
  const orderId = randomUUID();
  return {
    orderId,
    userId: 'user-1',
    amountMinor: '5000',
    currency: 'TRY',
    correlationId: 'correlation',
    source: messageRef('payment-request'),
  };
}

function played(answers: (PayOrderResult | Error)[]) {
  const { letters, deadLetterMessages } = playedDeadLetters();
  const calls = { paid: [] as PaymentRequest[], dead: letters };
  const activities = {
    payOrder: (input: PaymentRequest): Promise<PayOrderResult> => {
      calls.paid.push(input);
      const next = answers.length > 1 ? answers.shift()! : answers[0]!;
      return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
    },
    deadLetterMessages,
  };
  return { calls, activities };
}

function start(input: PaymentRequest) {
  return stage.environment.client.workflow.signalWithStart(WORKFLOWS.order, {
    workflowId: workflowId.order(input.orderId),
    taskQueue: TASK_QUEUES.orders,
    args: [{ orderId: input.orderId }],
    signal: SIGNALS.paymentRequest,
    signalArgs: [input],
  });
}

const answer = (result: Partial<PayOrderResult>): PayOrderResult => ({
  outcome: 'applied',
  status: 'FINISHED',
  failureCode: null,
  ...result,
});

describe('the order workflow', () => {
  it('finishes an order that could be paid', async () => {
    const { calls, activities } = played([answer({})]);
    stage.play(activities);
    const handle = await start(request());
    expect(await handle.result()).toEqual({ outcome: 'applied', status: 'FINISHED', failureCode: null });
    expect(calls.paid).toHaveLength(1);
    const { typedSearchAttributes } = await handle.describe();
    expect(keyword(typedSearchAttributes, 'RemitStatus')).toBe('FINISHED');
  });

  it('ends with a result, not a failure, when there is no money', async () => {
    const { activities } = played([answer({ status: 'CANCELLED', failureCode: 'insufficient_funds' })]);
    stage.play(activities);
    const handle = await start(request());
    expect(await handle.result()).toEqual({
      outcome: 'applied',
      status: 'CANCELLED',
      failureCode: 'insufficient_funds',
    });
  });

  it('keeps trying while the database is down', async () => {
    const { calls, activities } = played([new Error('connect ECONNREFUSED'), answer({})]);
    stage.play(activities);
    expect(await (await start(request())).result()).toMatchObject({ status: 'FINISHED' });
    expect(calls.paid).toHaveLength(2);
  });

  it('dead-letters a request that the database refuses for good, instead of trying forever', async () => {
    const refused = new DataRefusedError('22003', 'settle: out of range', {});
    const { calls, activities } = played([refused]);
    stage.play(activities);
    expect(await (await start(request())).result()).toMatchObject({ status: null });
    expect(calls.paid).toHaveLength(1);
    expect(calls.dead).toMatchObject([{ code: 'invalid_message' }]);
  });

  it.each(['unknown_order', 'payment_method_mismatch', 'event_conflict'] as const)(
    'dead-letters a request that is refused as %s',
    async (outcome) => {
      const { calls, activities } = played([answer({ outcome, status: null })]);
      stage.play(activities);
      await (await start(request())).result();
      expect(calls.dead).toMatchObject([{ code: outcome }]);
    },
  );
});
