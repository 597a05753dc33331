import { randomUUID } from 'node:crypto';
import {
  QUERIES,
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type ExpirePaymentInput,
  type ExpiryResult,
  type PaymentWorkflowResult,
  type ProviderEvent,
  type SettleResult,
} from '../../src/contracts/workflows';
import { DataRefusedError } from '../../src/domain/conflicts';
import { messageRef, playedDeadLetters } from '../support/message-refs';
import { keyword, playedStage } from '../support/workflow-env';

const HOUR = 3_600_000;
const stage = playedStage([
  'settlePayment',
  'expirePayment',
  'deadLetterMessages',
  'expireOverdue',
  'saveExpiryPosition',
  'purgeIdempotencyKeys',
]);

function providerEvent(transactionId: string, status: ProviderEvent['status']): ProviderEvent {
  return {
    provider: 'decard',
    providerEventId: randomUUID(),
    transactionId,
    type: 'payment',
    status,
    amountMinor: '10000',
    currency: 'TRY',
    payloadHash: 'hash',
    receivedAt: new Date().toISOString(),
    correlationId: 'correlation',
    source: messageRef('payment.webhook.decard'),
  };
}

const answer = (result: Partial<SettleResult>): SettleResult => ({
  outcome: 'applied',
  status: 'succeeded',
  failureCode: null,
  userId: 'user-1',
  expiresAt: null,
  waitUntil: null,
  ...result,
});

/** Plays the database: each settle call takes the next answer; the last one repeats. */
function played(answers: (SettleResult | Error)[]) {
  const { letters, deadLetterMessages } = playedDeadLetters();
  const calls = {
    settled: [] as ProviderEvent[],
    expired: [] as ExpirePaymentInput[],
    dead: letters,
  };
  const activities = {
    settlePayment: (event: ProviderEvent): Promise<SettleResult> => {
      calls.settled.push(event);
      const next = answers.length > 1 ? answers.shift()! : answers[0]!;
      return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
    },
    expirePayment: (input: ExpirePaymentInput): Promise<SettleResult> => {
      calls.expired.push(input);
      return Promise.resolve(answer({ status: 'expired', failureCode: 'expired' }));
    },
    deadLetterMessages,
  };
  return { calls, activities };
}

function begin(event: ProviderEvent) {
  return stage.environment.client.workflow.signalWithStart(WORKFLOWS.payment, {
    workflowId: workflowId.payment(event.provider, event.transactionId),
    taskQueue: TASK_QUEUES.payments,
    args: [{ provider: event.provider, transactionId: event.transactionId }],
    signal: SIGNALS.providerEvent,
    signalArgs: [event],
  });
}

describe('the payment workflow', () => {
  it('settles a success event and ends', async () => {
    const { calls, activities } = played([answer({})]);
    stage.play(activities);
    const handle = await begin(providerEvent(randomUUID(), 'success'));
    const result = (await handle.result()) as PaymentWorkflowResult;
    expect(result).toEqual({ status: 'succeeded', outcomes: ['applied'] });
    expect(calls.settled).toHaveLength(1);
    const description = await handle.describe();
    expect(keyword(description.typedSearchAttributes, 'RemitStatus')).toBe('succeeded');
    expect(keyword(description.typedSearchAttributes, 'RemitUserId')).toBe('user-1');
  });

  it('stays open on a pending event and settles the next one in the same run', async () => {
    const expiresAt = new Date((await stage.environment.currentTimeMs()) + 72 * HOUR).toISOString();
    const { calls, activities } = played([
      answer({ outcome: 'noted', status: 'pending', expiresAt }),
      answer({}),
    ]);
    stage.play(activities);
    const transactionId = randomUUID();
    const handle = await begin(providerEvent(transactionId, 'pending'));
    await stage.environment.sleep('1h');
    expect(await handle.query(QUERIES.payment)).toMatchObject({ status: 'pending', outcomes: ['noted'] });
    const again = await begin(providerEvent(transactionId, 'success'));
    expect(again.signaledRunId).toBe(handle.signaledRunId);
    expect(await handle.result()).toEqual({ status: 'succeeded', outcomes: ['noted', 'applied'] });
    expect(calls.expired).toHaveLength(0);
  });

  it('expires a payment that stays pending for three days', async () => {
    const startedAt = await stage.environment.currentTimeMs();
    const expiresAt = new Date(startedAt + 72 * HOUR).toISOString();
    const { calls, activities } = played([answer({ outcome: 'noted', status: 'pending', expiresAt })]);
    stage.play(activities);
    const handle = await begin(providerEvent(randomUUID(), 'pending'));
    expect(await handle.result()).toEqual({ status: 'expired', outcomes: ['noted', 'applied'] });
    expect(calls.expired).toMatchObject([
      { provider: 'decard', type: 'payment', amountMinor: '10000', currency: 'TRY' },
    ]);
    expect(await stage.environment.currentTimeMs()).toBeGreaterThanOrEqual(startedAt + 72 * HOUR);
  });

  it('waits for a transaction that is not known yet and then settles it', async () => {
    const waitUntil = new Date((await stage.environment.currentTimeMs()) + HOUR).toISOString();
    const unknown = answer({ outcome: 'unknown_transaction', status: null, userId: null, waitUntil });
    const { calls, activities } = played([unknown, unknown, unknown, answer({})]);
    stage.play(activities);
    const handle = await begin(providerEvent(randomUUID(), 'success'));
    expect(await handle.result()).toEqual({ status: 'succeeded', outcomes: ['applied'] });
    expect(calls.settled).toHaveLength(4);
    expect(calls.dead).toHaveLength(0);
  });

  it('dead-letters an event whose transaction never appears, with the original message', async () => {
    const waitUntil = new Date((await stage.environment.currentTimeMs()) + HOUR).toISOString();
    const { calls, activities } = played([
      answer({ outcome: 'unknown_transaction', status: null, userId: null, waitUntil }),
    ]);
    stage.play(activities);
    const event = providerEvent(randomUUID(), 'success');
    const handle = await begin(event);
    expect(await handle.result()).toEqual({ status: null, outcomes: ['unknown_transaction'] });
    expect(calls.dead).toMatchObject([{ code: 'unknown_transaction', source: event.source }]);
    expect(await stage.environment.currentTimeMs()).toBeGreaterThanOrEqual(Date.parse(waitUntil));
  });

  it.each(['amount_mismatch', 'type_mismatch', 'event_conflict'] as const)(
    'dead-letters an event that is refused as %s',
    async (outcome) => {
      const { calls, activities } = played([answer({ outcome, status: 'pending' })]);
      stage.play(activities);
      const handle = await begin(providerEvent(randomUUID(), 'success'));
      expect(await handle.result()).toMatchObject({ outcomes: [outcome] });
      expect(calls.dead).toMatchObject([{ code: outcome }]);
    },
  );

  it('keeps trying while the database is down, without failing', async () => {
    const { calls, activities } = played([
      new Error('connect ECONNREFUSED'),
      new Error('connect ECONNREFUSED'),
      answer({}),
    ]);
    stage.play(activities);
    const handle = await begin(providerEvent(randomUUID(), 'success'));
    expect(await handle.result()).toEqual({ status: 'succeeded', outcomes: ['applied'] });
    expect(calls.settled).toHaveLength(3);
  });

  it('dead-letters an event that the database refuses for good, and settles the next one', async () => {
    const refused = new DataRefusedError('22003', 'settle: out of range', {});
    const { calls, activities } = played([refused, answer({})]);
    stage.play(activities);
    const transactionId = randomUUID();
    const handle = await begin(providerEvent(transactionId, 'pending'));
    expect(await handle.result()).toMatchObject({ status: null, outcomes: [] });
    expect(calls.dead).toMatchObject([{ code: 'invalid_message' }]);
    expect(await (await begin(providerEvent(transactionId, 'success'))).result()).toMatchObject({
      outcomes: ['applied'],
    });
    expect(calls.settled).toHaveLength(2);
  });

  it('opens a short run for an event that comes after the end, and ends again', async () => {
    const { activities } = played([answer({}), answer({ outcome: 'duplicate' })]);
    stage.play(activities);
    const event = providerEvent(randomUUID(), 'success');
    await (await begin(event)).result();
    const late = await begin(event);
    expect(await late.result()).toEqual({ status: 'succeeded', outcomes: ['duplicate'] });
  });
});

describe('expiry', () => {
  it('forgets keys first, and saves how far each step came', async () => {
    const done: string[] = [];
    const step = () => ({
      expired: 1,
      position: { at: '2026-11-21T00:00:00.000Z', id: randomUUID() },
    });
    const steps = [step(), step(), step(), { expired: 0, position: null }];
    const purges = [7, 3, 0];
    stage.play({
      ...played([]).activities,
      expireOverdue: () => {
        done.push('expire');
        return Promise.resolve(steps.shift());
      },
      saveExpiryPosition: () => {
        done.push('save');
        return Promise.resolve();
      },
      purgeIdempotencyKeys: () => {
        done.push('purge');
        return Promise.resolve(purges.shift());
      },
    });
    const handle = await stage.environment.client.workflow.start(WORKFLOWS.expiry, {
      workflowId: `expiry-${randomUUID()}`,
      taskQueue: TASK_QUEUES.payments,
      args: [],
    });
    expect(await handle.result()).toEqual({ expired: 3, purgedKeys: 10 } satisfies ExpiryResult);
    const saved = ['expire', 'save'];
    expect(done).toEqual(['purge', 'purge', 'purge', ...saved, ...saved, ...saved, 'expire']);
  });
});
