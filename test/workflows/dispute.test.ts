import { randomUUID } from 'node:crypto';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import {
  FAILURES,
  QUERIES,
  SIGNALS,
  TASK_QUEUES,
  UPDATES,
  workflowId,
  WORKFLOWS,
  type DisputeEvent,
  type DisputeResult,
  type DisputeState,
  type DisputeWorkflowResult,
  type EvidenceInput,
  type EvidenceResult,
  type RefusedMessage,
} from '../../src/contracts/workflows';
import { DataRefusedError } from '../../src/domain/conflicts';
import { messageRef } from '../support/message-refs';
import { keyword, playedStage } from '../support/workflow-env';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const stage = playedStage([
  'settleDispute',
  'expireDispute',
  'loadDispute',
  'submitDisputeEvidence',
  'deadLetterMessages',
]);

const answer = (result: Partial<DisputeResult>): DisputeResult => ({
  outcome: 'applied',
  status: 'opened',
  userId: 'user-1',
  evidenceDueAt: null,
  waitUntil: null,
  ...result,
});
const UNKNOWN = answer({ outcome: 'unknown_dispute', status: null, userId: null });

function event(disputeId: string, status: DisputeEvent['status']): DisputeEvent {
  const orderId = randomUUID();
  return {
    provider: 'payments',
    providerEventId: randomUUID(),
    orderId,
    disputeId,
    status,
    amountMinor: null,
    currency: null,
    reason: null,
    evidenceDueBy: null,
    payloadHash: 'hash',
    receivedAt: new Date().toISOString(),
    correlationId: 'correlation',
    source: messageRef('webhooks.disputes'),
  };
}

const evidenceOf = (disputeId: string): EvidenceInput => ({
  disputeId,
  hash: 'hash',
  evidence: { text: 'They got it.' },
  actor: 'token:operator',
  correlationId: 'correlation',
});

interface Database {
  /** Answers to each event in turn; the last one repeats. */
  settle?: (DisputeResult | Error)[];
  expire?: DisputeResult[];
  load?: DisputeResult;
  evidence?: EvidenceResult;
}

/** Plays the database; counts what it was asked, with the time of the test server. */
function played({ settle = [], expire = [], load = UNKNOWN, evidence }: Database) {
  const calls = { settled: [] as string[], expiredAt: [] as number[], submitted: 0, dead: [] as string[] };
  const next = <T>(answers: T[]): T => (answers.length > 1 ? answers.shift()! : answers[0]!);
  stage.play({
    settleDispute: ({ status }: DisputeEvent) => {
      calls.settled.push(status);
      const result = next(settle);
      return result instanceof Error ? Promise.reject(result) : Promise.resolve(result);
    },
    expireDispute: async () => {
      calls.expiredAt.push(await stage.environment.currentTimeMs());
      return next(expire);
    },
    loadDispute: () => Promise.resolve(load),
    submitDisputeEvidence: () => {
      calls.submitted += 1;
      return Promise.resolve(evidence);
    },
    deadLetterMessages: (messages: RefusedMessage[]) => {
      calls.dead.push(...messages.map(({ code }) => code));
      return Promise.resolve();
    },
  });
  return calls;
}

const newId = () => `dp_${randomUUID()}`.slice(0, 40);

function start(disputeId: string, first: DisputeEvent['status'] = 'opened') {
  return stage.environment.client.workflow.signalWithStart<
    (input: object) => Promise<DisputeWorkflowResult>,
    [DisputeEvent]
  >(WORKFLOWS.dispute, {
    workflowId: workflowId.dispute(disputeId),
    taskQueue: TASK_QUEUES.orders,
    args: [{ disputeId }],
    signal: SIGNALS.disputeEvent,
    signalArgs: [event(disputeId, first)],
  });
}

type Handle = Awaited<ReturnType<typeof start>>;
const stateOf = (handle: Handle) => handle.query<DisputeState>(QUERIES.dispute);

/** Time stands still while one waits for anything but a result: this waits for the workflow, not for its timers. */
async function until(handle: Handle, reached: (state: DisputeState) => boolean): Promise<DisputeState> {
  for (;;) {
    const state = await stateOf(handle);
    if (reached(state)) return state;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('the dispute workflow', () => {
  it('expires a dispute when its evidence was due, after days', async () => {
    const nowMs = await stage.environment.currentTimeMs();
    const due = nowMs + 7 * DAY;
    const calls = played({
      settle: [answer({ evidenceDueAt: new Date(due).toISOString() })],
      expire: [answer({ status: 'expired' })],
    });
    const handle = await start(newId());
    expect(await handle.result()).toEqual({ status: 'expired', outcomes: ['applied'] });
    expect(calls.expiredAt).toHaveLength(1);
    expect(calls.expiredAt[0]! - due).toBeGreaterThanOrEqual(0);
    expect(calls.expiredAt[0]! - due).toBeLessThan(HOUR);
    const { typedSearchAttributes } = await handle.describe();
    expect(keyword(typedSearchAttributes, 'RemitStatus')).toBe('expired');
    expect(keyword(typedSearchAttributes, 'RemitUserId')).toBe('user-1');
  });

  it('waits for evidence that is due in months by several timers', async () => {
    const due = (await stage.environment.currentTimeMs()) + 100 * DAY;
    const calls = played({
      settle: [answer({ evidenceDueAt: new Date(due).toISOString() })],
      expire: [answer({ status: 'expired' })],
    });
    await (await start(newId())).result();
    expect(calls.expiredAt).toHaveLength(1);
    expect(calls.expiredAt[0]).toBeGreaterThanOrEqual(due);
  });

  it('asks again when the database’s clock says that it is not due yet', async () => {
    const due = new Date(await stage.environment.currentTimeMs()).toISOString();
    const calls = played({
      settle: [answer({ evidenceDueAt: due })],
      expire: [answer({ outcome: 'noted', evidenceDueAt: due }), answer({ status: 'expired' })],
    });
    expect(await (await start(newId())).result()).toMatchObject({ status: 'expired' });
    expect(calls.expiredAt).toHaveLength(2);
  });

  it('takes evidence as an update, and then waits for the verdict instead of the time', async () => {
    const due = (await stage.environment.currentTimeMs()) + 7 * DAY;
    const calls = played({
      settle: [answer({ evidenceDueAt: new Date(due).toISOString() }), answer({ status: 'won' })],
      evidence: { outcome: 'ok', status: 'under_review' },
    });
    const id = newId();
    const handle = await start(id);
    await until(handle, ({ status }) => status === 'opened');
    expect(await handle.executeUpdate(UPDATES.submitEvidence, { args: [evidenceOf(id)] })).toEqual({
      outcome: 'ok',
      status: 'under_review',
    });
    await stage.environment.sleep('30 days');
    expect(await stateOf(handle)).toMatchObject({ status: 'under_review', evidenceDueAt: null });
    await handle.signal(SIGNALS.disputeEvent, event(id, 'won'));
    expect(await handle.result()).toEqual({ status: 'won', outcomes: ['applied', 'applied'] });
    expect(calls.expiredAt).toEqual([]);
  });

  it('answers the same update id once', async () => {
    const due = (await stage.environment.currentTimeMs()) + DAY;
    const calls = played({
      settle: [answer({ evidenceDueAt: new Date(due).toISOString() }), answer({ status: 'lost' })],
      evidence: { outcome: 'ok', status: 'under_review' },
    });
    const id = newId();
    const handle = await start(id);
    await until(handle, ({ status }) => status === 'opened');
    const submit = () =>
      handle.executeUpdate(UPDATES.submitEvidence, { args: [evidenceOf(id)], updateId: 'hash' });
    expect(await Promise.all([submit(), submit()])).toHaveLength(2);
    expect(calls.submitted).toBe(1);
    await handle.signal(SIGNALS.disputeEvent, event(id, 'lost'));
    expect(await handle.result()).toMatchObject({ status: 'lost' });
  });

  it('refuses evidence before it accepts it when it is certainly too late', async () => {
    const due = new Date((await stage.environment.currentTimeMs()) - HOUR).toISOString();
    const calls = played({
      settle: [answer({ evidenceDueAt: due }), answer({ status: 'lost' })],
      // The database does not find it due, so that the workflow stays open.
      expire: [answer({ outcome: 'noted', evidenceDueAt: due })],
      evidence: { outcome: 'ok', status: 'under_review' },
    });
    const id = newId();
    const handle = await start(id);
    await until(handle, ({ status }) => status === 'opened');
    await expect(handle.executeUpdate(UPDATES.submitEvidence, { args: [evidenceOf(id)] })).rejects.toThrow(
      WorkflowUpdateFailedError,
    );
    expect(calls.submitted).toBe(0);
    await handle.signal(SIGNALS.disputeEvent, event(id, 'lost'));
    expect(await handle.result()).toMatchObject({ status: 'lost' });
  });

  it('applies events in the order in which they come', async () => {
    const calls = played({
      settle: [
        answer({ evidenceDueAt: new Date((await stage.environment.currentTimeMs()) + DAY).toISOString() }),
        answer({ status: 'under_review' }),
        answer({ status: 'lost' }),
      ],
    });
    const id = newId();
    const handle = await start(id);
    await handle.signal(SIGNALS.disputeEvent, event(id, 'under_review'));
    await handle.signal(SIGNALS.disputeEvent, event(id, 'lost'));
    expect(await handle.result()).toEqual({ status: 'lost', outcomes: ['applied', 'applied', 'applied'] });
    expect(calls.settled).toEqual(['opened', 'under_review', 'lost']);
  });

  it('finds everything done in a run that a late event opens', async () => {
    played({
      settle: [answer({ outcome: 'contradiction', status: 'won' })],
      load: answer({ status: 'won' }),
    });
    expect(await (await start(newId(), 'lost')).result()).toEqual({
      status: 'won',
      outcomes: ['contradiction'],
    });
  });

  it('goes on where a dispute stands when an update opens the run', async () => {
    const due = (await stage.environment.currentTimeMs()) + 3 * DAY;
    const calls = played({
      load: answer({ outcome: 'noted', evidenceDueAt: new Date(due).toISOString() }),
      expire: [answer({ status: 'expired' })],
    });
    const disputeId = newId();
    const handle = await stage.environment.client.workflow.start(WORKFLOWS.dispute, {
      workflowId: workflowId.dispute(disputeId),
      taskQueue: TASK_QUEUES.orders,
      args: [{ disputeId }],
    });
    expect(await handle.result()).toEqual({ status: 'expired', outcomes: [] });
    expect(calls.expiredAt[0]).toBeGreaterThanOrEqual(due);
  });

  it.each(['unknown_order', 'order_not_paid'] as const)(
    'keeps a chargeback that is told %s, and applies it when the order is there',
    async (outcome) => {
      const waitUntil = new Date((await stage.environment.currentTimeMs()) + 10 * 60_000).toISOString();
      const waiting = answer({ outcome, status: null, waitUntil });
      const calls = played({ settle: [waiting, waiting, waiting, answer({ status: 'lost' })] });
      expect(await (await start(newId())).result()).toEqual({ status: 'lost', outcomes: ['applied'] });
      expect(calls.settled).toHaveLength(4);
      expect(calls.dead).toEqual([]);
    },
  );

  it.each(['unknown_order', 'order_not_paid'] as const)(
    'dead-letters it as %s when the order never comes',
    async (outcome) => {
      const waitUntil = new Date((await stage.environment.currentTimeMs()) + 10 * 60_000).toISOString();
      const calls = played({ settle: [answer({ outcome, status: null, waitUntil })] });
      expect(await (await start(newId())).result()).toEqual({ status: null, outcomes: [outcome] });
      expect(calls.dead).toEqual([outcome]);
    },
  );

  it.each(['amount_mismatch', 'dispute_mismatch', 'event_conflict'] as const)(
    'dead-letters a chargeback that is refused as %s',
    async (outcome) => {
      const calls = played({ settle: [answer({ outcome, status: null })] });
      expect(await (await start(newId())).result()).toEqual({ status: null, outcomes: [outcome] });
      expect(calls.dead).toEqual([outcome]);
    },
  );

  it('dead-letters a chargeback that the database refuses for good, and applies the next one', async () => {
    const refused = new DataRefusedError('22008', 'settle: out of range', {});
    const due = new Date((await stage.environment.currentTimeMs()) + DAY).toISOString();
    const calls = played({
      settle: [refused, answer({ status: 'lost' })],
      load: answer({ outcome: 'noted', evidenceDueAt: due }),
    });
    const id = newId();
    const handle = await start(id);
    await handle.signal(SIGNALS.disputeEvent, event(id, 'lost'));
    expect(await handle.result()).toEqual({ status: 'lost', outcomes: ['applied'] });
    expect(calls.dead).toEqual(['invalid_message']);
    expect(calls.settled).toHaveLength(2);
  });

  it('whose history is long finishes storing evidence, and then goes on in a new run', async () => {
    const reviewed = answer({ outcome: 'noted', status: 'under_review' });
    let stored: (result: EvidenceResult) => void = () => undefined;
    const storing = new Promise<EvidenceResult>((resolve) => (stored = resolve));
    let submitted = false;
    const settled: string[] = [];
    stage.play({
      loadDispute: () => Promise.resolve(reviewed),
      settleDispute: ({ status }: DisputeEvent) => {
        settled.push(status);
        return Promise.resolve(status === 'won' ? answer({ status: 'won' }) : reviewed);
      },
      submitDisputeEvidence: () => {
        submitted = true;
        return storing;
      },
    });
    const id = newId();
    const handle = stage.track(await start(id, 'under_review'));
    await until(handle, ({ status }) => status === 'under_review');
    const update = handle.executeUpdate(UPDATES.submitEvidence, { args: [evidenceOf(id)] });
    while (!submitted) await new Promise((resolve) => setTimeout(resolve, 20));
    // Signals that nobody handles make a history long, and nothing else.
    for (let i = 0; i < 5; i++) await handle.signal('noise', 'x'.repeat(900_000));
    // What comes meanwhile waits for the evidence to be stored: one step at a time.
    await handle.signal(SIGNALS.disputeEvent, { ...event(id, 'opened'), reason: 'waits' });
    await until(handle, ({ outcomes }) => outcomes.length === 1);
    expect((await handle.describe()).runId).toBe(handle.signaledRunId);
    // More evidence is better asked of the next run.
    const more = handle.executeUpdate(UPDATES.submitEvidence, { args: [{ ...evidenceOf(id), hash: '2' }] });
    await expect(more).rejects.toMatchObject({ cause: { type: FAILURES.runIsFull } });
    stored({ outcome: 'ok', status: 'under_review' });
    expect(await update).toEqual({ outcome: 'ok', status: 'under_review' });
    await handle.signal(SIGNALS.disputeEvent, event(id, 'won'));
    expect(await handle.result()).toMatchObject({ status: 'won' });
    expect((await handle.describe()).runId).not.toBe(handle.signaledRunId);
    expect(settled).toEqual(['under_review', 'opened', 'won']);
  });

  it('keeps trying while the database is down', async () => {
    const calls = played({ settle: [new Error('connect ECONNREFUSED'), answer({ status: 'lost' })] });
    expect(await (await start(newId())).result()).toMatchObject({ status: 'lost' });
    expect(calls.settled).toHaveLength(2);
  });
});
