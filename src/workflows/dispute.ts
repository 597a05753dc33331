import {
  allHandlersFinished,
  ApplicationFailure,
  condition,
  continueAsNew,
  setCurrentDetails,
  setHandler,
  sleep,
} from '@temporalio/workflow';
import type { DisputeActivities } from '../activities/disputes';
import {
  QUERIES,
  SIGNALS,
  UPDATES,
  type DisputeEvent,
  type DisputeResult,
  type DisputeState,
  type DisputeWorkflowInput,
  type DisputeWorkflowResult,
  type EvidenceInput,
  type EvidenceResult,
} from '../contracts/workflows';
import { localSteps } from './described';
import { DECIDING_STEP, historyIsLong, inTurn, refuseWhenFull, type InTurn } from './durable-steps';
import { Mailbox, type Handling } from './mailbox';
import { refusalOf } from './refusals';
import { markStatus } from './search-attributes';

const { settleDispute, expireDispute, loadDispute, submitDisputeEvidence } =
  localSteps<DisputeActivities>(DECIDING_STEP);

/** Why a chargeback can't be applied, for the dead letter; outcomes that are not here are not dead-lettered. */
const REFUSALS = {
  unknown_order: 'no order with this id exists',
  order_not_paid: 'the order was not paid, so there is nothing to dispute',
  amount_mismatch: 'the amount is larger than the order or another than before, or the currency differs',
  dispute_mismatch: 'the dispute is one of another order, or of another provider',
  event_conflict: 'the provider event id was used before with another body',
} as const;

/** The clocks of Temporal and of the database, which judges, may differ a little. */
const CLOCK_PAUSE_MS = 1_000;
/** A longer wait is made of several: a date may be centuries away. */
const LONGEST_TIMER_MS = 30 * 24 * 3_600_000;

/**
 * One dispute, from its first chargeback webhook to its end: applies each event in order, waits durably for an order
 * that is not known or not paid yet, expires the dispute when its evidence was due, and takes evidence as an update.
 * The database decides every step, so that a run that is opened by a late event or an update finds what was before.
 */
export async function disputeWorkflow(input: DisputeWorkflowInput): Promise<DisputeWorkflowResult> {
  const { disputeId, resume } = input;
  const state: DisputeState = { status: null, evidenceDueAt: null, outcomes: [], waitingEvents: 0 };
  const turn = inTurn();
  const inbox = new Mailbox(handlingOf(disputeId, state, turn), resume?.carried);
  setHandler(SIGNALS.disputeEvent, (event) => inbox.receive(event));
  setHandler(QUERIES.dispute, () => ({ ...state, waitingEvents: inbox.size }));
  setHandler(UPDATES.submitEvidence, (evidence) => submit(evidence, state, turn), {
    validator: (_evidence) => {
      refuseLateEvidence(state);
      refuseWhenFull();
    },
  });
  // The first run's first event tells more; a run without one was opened by an update.
  if (resume || inbox.size === 0) adopt(state, await turn(() => loadDispute({ disputeId })));
  do {
    await run(disputeId, inbox, state, turn);
    await condition(allHandlersFinished);
  } while (inbox.size > 0 || isOpen(state));
  return { status: state.status, outcomes: state.outcomes };
}

const isOpen = ({ status }: DisputeState) => status === 'opened' || status === 'under_review';

type Inbox = Mailbox<DisputeEvent, DisputeResult>;

/** An update that is being carried out is answered before the run ends. */
const mayContinueAsNew = () => historyIsLong() && allHandlersFinished();

async function run(disputeId: string, inbox: Inbox, state: DisputeState, turn: InTurn): Promise<void> {
  for (;;) {
    await inbox.workOff();
    if (!isOpen(state)) return;
    await inbox.continueWhenLong();
    if (inbox.size > 0) continue;
    if (state.evidenceDueAt === null) {
      await condition(() => inbox.size > 0 || mayContinueAsNew());
    } else if (!(await somethingComes(inbox, state, state.evidenceDueAt))) {
      const result = await turn(() => expireDispute({ disputeId }));
      adopt(state, result);
      if (result.status === 'opened')
        await sleep(CLOCK_PAUSE_MS, { summary: 'the database’s clock is behind Temporal’s' });
    }
  }
}

/** Waits for an event, evidence, or a history that is long enough; false when the evidence is due and none came. */
async function somethingComes(inbox: Inbox, state: DisputeState, due: string): Promise<boolean> {
  const leftMs = Date.parse(due) - Date.now();
  if (leftMs <= 0) return false;
  const came = () => inbox.size > 0 || state.evidenceDueAt !== due || mayContinueAsNew();
  const arrived = await condition(came, Math.min(leftMs, LONGEST_TIMER_MS), {
    summary: 'evidence is due then',
  });
  return arrived || leftMs > LONGEST_TIMER_MS;
}

function handlingOf(
  disputeId: string,
  state: DisputeState,
  turn: InTurn,
): Handling<DisputeEvent, DisputeResult> {
  return {
    apply: (event) => turn(() => settleDispute(event)),
    judge: ({ outcome, waitUntil }) => ({ waitUntil, refusal: refusalOf(REFUSALS, outcome) }),
    conclude(_event, result) {
      state.outcomes.push(result.outcome);
      adopt(state, result);
    },
    letterOf: ({ source, ...decided }) => ({ source, key: decided.orderId, decided }),
    continueAsNew: (carried) => continueAsNew<typeof disputeWorkflow>({ disputeId, resume: { carried } }),
  };
}

function adopt(state: DisputeState, { status, userId, evidenceDueAt }: DisputeResult): void {
  if (status === null) return;
  if (status !== state.status) markStatus(status, userId);
  state.status = status;
  state.evidenceDueAt = evidenceDueAt;
  setCurrentDetails(evidenceDueAt === null ? status : `${status}: evidence is due at ${evidenceDueAt}`);
}

/** Without a trace in the history: what is certainly too late is refused before it is accepted. */
function refuseLateEvidence({ status, evidenceDueAt }: DisputeState): void {
  if (status === 'won' || status === 'lost' || status === 'expired')
    throw ApplicationFailure.nonRetryable(`the dispute is ${status}`, 'EvidenceTooLate');
  if (evidenceDueAt !== null && Date.parse(evidenceDueAt) <= Date.now())
    throw ApplicationFailure.nonRetryable(`evidence was due at ${evidenceDueAt}`, 'EvidenceTooLate');
}

async function submit(evidence: EvidenceInput, state: DisputeState, turn: InTurn): Promise<EvidenceResult> {
  const result = await turn(() => submitDisputeEvidence(evidence));
  if (result.outcome === 'ok' && state.status === 'opened') {
    markStatus(result.status);
    state.status = result.status;
    state.evidenceDueAt = null;
    setCurrentDetails('under review: evidence was submitted');
  }
  return result;
}
