import { randomUUID } from 'node:crypto';
import type { WorkflowHandleWithSignaledRunId } from '@temporalio/client';
import {
  HISTORY_EVENTS_MAX,
  WAITING_BYTES_MAX,
  WAITING_MESSAGES_MAX,
} from '../../src/contracts/workflows/limits';
import { SIGNALS, TASK_QUEUES, workflowId, WORKFLOWS } from '../../src/contracts/workflows';
import { messageRef, playedDeadLetters } from '../support/message-refs';
import { eventually } from '../support/harness';
import { playedStage } from '../support/workflow-env';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** When the pause between two tries has come to its longest, and the next one is not near. */
const LONG_EARLY = '170 minutes';
const stage = playedStage([
  ...['settlePayment', 'settleOrder', 'payOrder', 'settleDispute', 'loadDispute', 'deadLetterMessages'],
]);

/** The workflows that wait for what their messages are about, and what the database says of an early one. */
const KINDS = [
  {
    name: 'a payment',
    workflow: WORKFLOWS.payment,
    idOf: (id: string) => workflowId.payment('decard', id),
    taskQueue: TASK_QUEUES.payments,
    input: (id: string) => ({ provider: 'decard', transactionId: id }),
    signal: SIGNALS.providerEvent,
    early: 'unknown_transaction',
    unknown: { status: null, userId: null, expiresAt: null },
    final: { status: 'succeeded', userId: 'user-1', expiresAt: null },
  },
  {
    name: 'an order',
    workflow: WORKFLOWS.order,
    idOf: (id: string) => workflowId.order(id),
    taskQueue: TASK_QUEUES.orders,
    input: (id: string) => ({ orderId: id }),
    signal: SIGNALS.orderEvent,
    early: 'unknown_order',
    unknown: { status: null },
    final: { status: 'FINISHED' },
  },
  {
    name: 'a dispute',
    workflow: WORKFLOWS.dispute,
    idOf: (id: string) => workflowId.dispute(id),
    taskQueue: TASK_QUEUES.orders,
    input: (id: string) => ({ disputeId: id }),
    signal: SIGNALS.disputeEvent,
    early: 'order_not_paid',
    unknown: { status: null, userId: null, evidenceDueAt: null },
    final: { status: 'won', userId: 'user-1', evidenceDueAt: null },
  },
] as const;
type Kind = (typeof KINDS)[number];

/** One id that is not known yet, and what becomes of the events about it. */
function stageOf(kind: Kind, waitMs: number) {
  const id = randomUUID();
  const { letters, deadLetterMessages } = playedDeadLetters();
  const calls = { known: false, tries: 0, applied: [] as string[], letters };
  const startedAt = stage.environment.currentTimeMs();
  const settle = async ({ providerEventId }: { providerEventId: string }) => {
    calls.tries += 1;
    const common = { failureCode: null };
    if (!calls.known)
      return {
        ...common,
        ...kind.unknown,
        outcome: kind.early,
        waitUntil: new Date((await startedAt) + waitMs).toISOString(),
      };
    calls.applied.push(providerEventId);
    return { ...common, ...kind.final, outcome: 'applied', waitUntil: null };
  };
  stage.play({
    settlePayment: settle,
    settleOrder: settle,
    settleDispute: settle,
    loadDispute: () => Promise.resolve({ ...kind.unknown, outcome: 'unknown_dispute', waitUntil: null }),
    deadLetterMessages,
  });
  const send = (n: number, more: object = {}): Promise<WorkflowHandleWithSignaledRunId> =>
    stage.environment.client.workflow.signalWithStart(kind.workflow, {
      workflowId: kind.idOf(id),
      taskQueue: kind.taskQueue,
      args: [kind.input(id)],
      signal: kind.signal.name,
      signalArgs: [
        {
          ...{
            provider: 'decard',
            providerEventId: `event-${n}`,
            transactionId: id,
            orderId: id,
            disputeId: id,
          },
          ...{ type: 'payment', status: 'success', userId: 'user-1', amountMinor: '100', currency: 'TRY' },
          ...{ payloadHash: 'h'.repeat(64), receivedAt: '2026-11-21T00:00:00.000Z', correlationId: 'c' },
          source: messageRef('topic', { offset: String(n) }),
          ...more,
        },
      ],
    });
  const handle = stage.environment.client.workflow.getHandle(kind.idOf(id));
  /**
   * Sends the first event, and lets it wait for hours. Within the seconds of the first tries a timer could fire while the task
   * that cancels it is under way: the test server refuses such a task and never hands out another (docs/testing.md).
   */
  const sendEarly = async (): Promise<WorkflowHandleWithSignaledRunId> => {
    const first = await send(0);
    await eventually(() => expect(calls.tries).toBeGreaterThan(0));
    await stage.environment.sleep(LONG_EARLY);
    return first;
  };
  const offsets = () => calls.letters.map(({ source }) => Number(source.offset));
  return { calls, send, sendEarly, handle, offsets };
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe('a payment that is not known yet', () => {
  const [kind] = KINDS;
  it('carries a thousand events, dead-letters what is beyond at once, and applies the rest in order', async () => {
    const SENT = WAITING_MESSAGES_MAX + 150;
    const { calls, send, sendEarly, handle, offsets } = stageOf(kind, DAY);
    stage.track(await sendEarly());
    for (const n of numbers(1, SENT)) await send(n);
    // The gathering of a flood takes a moment of the server's time, which stands still while nobody waits for a result.
    await eventually(async () => {
      await stage.environment.sleep('2s');
      expect(calls.letters).toHaveLength(SENT - WAITING_MESSAGES_MAX);
    });
    expect(calls.letters.every(({ code }) => code === 'too_many_waiting')).toBe(true);
    expect(offsets()).toEqual(numbers(WAITING_MESSAGES_MAX, SENT));
    calls.known = true;
    await handle.result();
    expect(calls.applied).toEqual(numbers(0, WAITING_MESSAGES_MAX).map((n) => `event-${n}`));
    expect(calls.letters).toHaveLength(SENT - WAITING_MESSAGES_MAX);
    expect((await handle.describe()).historyLength).toBeLessThan(3 * HISTORY_EVENTS_MAX);
  }, 120_000);
});

describe.each(KINDS)('$name that is not known yet', (kind) => {
  it('carries no more bytes than it may, however large an event is', async () => {
    const LARGE = WAITING_BYTES_MAX / 4;
    const { calls, send, sendEarly, handle, offsets } = stageOf(kind, DAY);
    stage.track(await sendEarly());
    for (const n of numbers(1, 12)) await send(n, { reason: 'ü'.repeat(LARGE / 2) });
    await eventually(async () => {
      await stage.environment.sleep('2s');
      expect(calls.letters.length).toBe(8);
    });
    calls.known = true;
    await handle.result();
    // Three of them fit beside the first; two bytes each, as they travel.
    expect(calls.applied).toEqual(['event-0', 'event-1', 'event-2', 'event-3']);
    expect(offsets()).toEqual(numbers(4, 12));
  });

  it('is asked for less and less often, in 30 days by some 750 tries in several runs, and forgets nothing', async () => {
    const SENT = 100;
    const { calls, send, handle, offsets } = stageOf(kind, 30 * DAY);
    const first = stage.track(await send(0));
    for (const n of numbers(1, SENT)) await send(n);
    await handle.result();
    expect(calls.letters.every(({ code }) => code === kind.early)).toBe(true);
    expect(offsets()).toEqual(numbers(0, SENT));
    expect(calls.tries).toBeGreaterThan(700 + SENT);
    expect(calls.tries).toBeLessThan(800 + SENT);
    // Six events a try: more than one history takes, so that all that waited was handed to another run.
    expect((await handle.describe()).runId).not.toBe(first.signaledRunId);
    expect((await handle.describe()).historyLength).toBeLessThan(HISTORY_EVENTS_MAX + 100);
  });

  it('that is known by then applies large events one after the other, and ends however long its history is', async () => {
    const { calls, send, sendEarly, handle } = stageOf(kind, DAY);
    stage.track(await sendEarly());
    calls.known = true;
    for (const n of numbers(1, 7)) await send(n, { reason: 'x'.repeat(900_000) });
    await handle.result();
    expect(calls.applied.length + calls.letters.length).toBe(7);
  });

  it('that is cancelled by an operator dead-letters what waits', async () => {
    const { calls, send, sendEarly, handle } = stageOf(kind, DAY);
    stage.track(await sendEarly());
    await send(1);
    await handle.cancel();
    await expect(handle.result()).rejects.toThrow();
    expect(calls.letters.map(({ code, source }) => `${source.offset} ${code}`)).toEqual([
      '0 cancelled',
      '1 cancelled',
    ]);
  });
});
