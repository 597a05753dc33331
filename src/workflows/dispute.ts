import {
  allHandlersFinished,
  ApplicationFailure,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  sleep,
  workflowInfo,
} from '@temporalio/workflow';
import type { DisputeActivities } from '../activities/disputes';
import {
  QUERIES,
  SIGNALS,
  UPDATES,
  type DisputeEvent,
  type DisputeEventOutcome,
  type DisputeResult,
  type DisputeWorkflowInput,
  type DisputeWorkflowResult,
  type EvidenceInput,
  type EvidenceResult,
} from '../contracts/workflows';
import { DEAD_LETTER_STEP, DECIDING_STEP, retryWhileEarly, unlessRefused } from './durable-steps';
import { markStatus } from './search-attributes';
import { startDeliveries } from './start-deliveries';

const { settleDispute, expireDispute, loadDispute, submitDisputeEvidence } =
  proxyLocalActivities<DisputeActivities>(DECIDING_STEP);
const { deadLetterDispute } = proxyActivities<DisputeActivities>(DEAD_LETTER_STEP);

/** Why a chargeback can't be applied, for the dead letter; outcomes that are not here are not dead-lettered. */
const REFUSALS = {
  unknown_order: 'no order with this id exists',
  order_not_paid: 'the order was not paid, so there is nothing to dispute',
  amount_mismatch: 'the amount is larger than the order or another than before, or the currency differs',
  dispute_mismatch: 'the dispute is one of another order',
  event_conflict: 'the provider event id was used before with another body',
} as const;

/** The clocks of Temporal and of the database, which judges, may differ a little. */
const CLOCK_PAUSE_MS = 1_000;
/** A longer wait is made of several: a date may be centuries away. */
const LONGEST_TIMER_MS = 30 * 24 * 3_600_000;

export interface DisputeState {
  status: DisputeWorkflowResult['status'];
  evidenceDueAt: string | null;
  outcomes: DisputeEventOutcome[];
  waitingEvents: number;
}

/**
 * One dispute, from its first chargeback webhook to its end: applies each event in order, waits durably for an order
 * that is not known or not paid yet, expires the dispute when its evidence was due, and takes evidence as an update.
 * The database decides every step, so that a run that is opened by a late event or an update finds what was before.
 */
export async function disputeWorkflow(input: DisputeWorkflowInput): Promise<DisputeWorkflowResult> {
  const inbox: DisputeEvent[] = [];
  const state: DisputeState = { status: null, evidenceDueAt: null, outcomes: [], waitingEvents: 0 };
  setHandler(defineSignal<[DisputeEvent]>(SIGNALS.disputeEvent), (event) => void inbox.push(event));
  setHandler(defineQuery<DisputeState>(QUERIES.state), () => ({ ...state, waitingEvents: inbox.length }));
  setHandler(
    defineUpdate<EvidenceResult, [EvidenceInput]>(UPDATES.submitEvidence),
    (evidence) => submit(evidence, state),
    { validator: (_evidence) => refuseLateEvidence(state) },
  );
  // The first run's first event tells more; a run without one was opened by an update or continues another.
  if (inbox.length === 0) adopt(state, await loadDispute(input));
  do {
    await run(input, inbox, state);
    await condition(allHandlersFinished);
  } while (inbox.length > 0 || isOpen(state));
  return { status: state.status, outcomes: state.outcomes };
}

const isOpen = ({ status }: DisputeState) => status === 'opened' || status === 'under_review';

/** Evidence that is being stored is answered before the run ends; so the number of updates of a run is bounded too. */
const mayContinueAsNew = () => workflowInfo().continueAsNewSuggested && allHandlersFinished();

async function run(input: DisputeWorkflowInput, inbox: DisputeEvent[], state: DisputeState): Promise<void> {
  for (;;) {
    const event = inbox.shift();
    if (event) {
      await apply(event, state);
    } else if (!isOpen(state)) {
      return;
    } else if (mayContinueAsNew()) {
      await continueAsNew<typeof disputeWorkflow>(input);
    } else if (state.evidenceDueAt === null) {
      await condition(() => inbox.length > 0 || mayContinueAsNew());
    } else if (!(await somethingComes(inbox, state, state.evidenceDueAt))) {
      const result = await expireDispute(input);
      await conclude(state, result);
      if (result.status === 'opened') await sleep(CLOCK_PAUSE_MS);
    }
  }
}

/** Waits for an event, evidence, or a history that is long enough; false when the evidence is due and none came. */
async function somethingComes(inbox: DisputeEvent[], state: DisputeState, due: string): Promise<boolean> {
  const leftMs = Date.parse(due) - Date.now();
  if (leftMs <= 0) return false;
  const came = () => inbox.length > 0 || state.evidenceDueAt !== due || mayContinueAsNew();
  const arrived = await condition(came, Math.min(leftMs, LONGEST_TIMER_MS));
  return arrived || leftMs > LONGEST_TIMER_MS;
}

async function apply(event: DisputeEvent, state: DisputeState): Promise<void> {
  const result = await unlessRefused(
    () =>
      retryWhileEarly(
        () => settleDispute(event),
        ({ outcome }) => outcome === 'unknown_order' || outcome === 'order_not_paid',
      ),
    (message) => deadLetterDispute({ event, code: 'invalid_message', message }),
  );
  if (!result) return;
  state.outcomes.push(result.outcome);
  await conclude(state, result);
  if (result.outcome in REFUSALS) {
    const code = result.outcome as keyof typeof REFUSALS;
    await deadLetterDispute({ event, code, message: REFUSALS[code] });
  }
}

function adopt(state: DisputeState, { status, userId, evidenceDueAt }: DisputeResult): void {
  if (status === null) return;
  if (status !== state.status) markStatus(status, userId);
  state.status = status;
  state.evidenceDueAt = evidenceDueAt;
}

async function conclude(state: DisputeState, result: DisputeResult): Promise<void> {
  adopt(state, result);
  await startDeliveries(result.deliveries);
}

/** Without a trace in the history: what is certainly too late is refused before it is accepted. */
function refuseLateEvidence({ status, evidenceDueAt }: DisputeState): void {
  if (status === 'won' || status === 'lost' || status === 'expired')
    throw ApplicationFailure.nonRetryable(`the dispute is ${status}`, 'EvidenceTooLate');
  if (evidenceDueAt !== null && Date.parse(evidenceDueAt) <= Date.now())
    throw ApplicationFailure.nonRetryable(`evidence was due at ${evidenceDueAt}`, 'EvidenceTooLate');
}

async function submit(evidence: EvidenceInput, state: DisputeState): Promise<EvidenceResult> {
  const result = await submitDisputeEvidence(evidence);
  if (result.outcome === 'ok' && state.status === 'opened') {
    markStatus(result.status);
    state.status = result.status;
    state.evidenceDueAt = null;
  }
  return result;
}
