import {
  allHandlersFinished,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type { PaymentActivities } from '../activities/payments';
import {
  QUERIES,
  SIGNALS,
  type PaymentWorkflowInput,
  type PaymentWorkflowResult,
  type ProviderEvent,
  type SettleOutcome,
  type SettleResult,
} from '../contracts/workflows';
import { DEAD_LETTER_STEP, DECIDING_STEP, retryWhileEarly, unlessRefused } from './durable-steps';
import { startDeliveries } from './start-deliveries';
import { markStatus } from './search-attributes';

const { settlePayment, expirePayment } = proxyLocalActivities<PaymentActivities>(DECIDING_STEP);
const { deadLetterEvent } = proxyActivities<PaymentActivities>(DEAD_LETTER_STEP);

/** Why an outcome can't be applied, for the dead letter; outcomes that are not here are not dead-lettered. */
const REFUSALS = {
  unknown_transaction: 'no payment or payout with this transactionId exists',
  amount_mismatch: 'amount or currency differ from the transaction',
  type_mismatch: 'provider or type differ from the transaction',
  event_conflict: 'the provider event id was used before with another body',
} as const;

export interface PaymentState {
  status: PaymentWorkflowResult['status'];
  outcomes: SettleOutcome[];
  waitingEvents: number;
  expiresAt: string | null;
}

/**
 * One payment or payout, from its first provider event to its end: settles each event in order, waits for the next
 * while the payment is pending, and expires it. A repeated or late event opens a short run that finds the database
 * settled already.
 */
export async function paymentWorkflow(input: PaymentWorkflowInput): Promise<PaymentWorkflowResult> {
  const { resume } = input;
  const inbox: ProviderEvent[] = [...(resume?.inbox ?? [])];
  const state: PaymentState = {
    status: resume?.status ?? null,
    outcomes: [],
    waitingEvents: 0,
    expiresAt: resume?.expiresAt ?? null,
  };
  setHandler(defineSignal<[ProviderEvent]>(SIGNALS.providerEvent), (event) => void inbox.push(event));
  setHandler(defineQuery<PaymentState>(QUERIES.state), () => ({ ...state, waitingEvents: inbox.length }));
  await run(input, inbox, state);
  await condition(allHandlersFinished);
  return { status: state.status, outcomes: state.outcomes };
}

async function run(input: PaymentWorkflowInput, inbox: ProviderEvent[], state: PaymentState): Promise<void> {
  const { provider, transactionId, resume } = input;
  let known = resume?.known ?? null;
  for (;;) {
    if (workflowInfo().continueAsNewSuggested && canBeCarried(inbox)) {
      const { status, expiresAt } = state;
      await continueAsNew<typeof paymentWorkflow>({
        provider,
        transactionId,
        resume: { inbox, status, expiresAt, known: known && withoutMessage(known) },
      });
    }
    const event = inbox.shift();
    if (event) {
      const result = await unlessRefused(
        () =>
          retryWhileEarly(
            () => settlePayment(event),
            ({ outcome }) => outcome === 'unknown_transaction',
          ),
        (message) => deadLetterEvent({ event, code: 'invalid_message', message }),
      );
      if (!result) continue;
      await conclude(state, result);
      if (result.outcome in REFUSALS) await refuse(event, result.outcome as keyof typeof REFUSALS);
      else known = event;
    } else if (state.status === 'pending' && state.expiresAt !== null && known) {
      const arrived = await condition(() => inbox.length > 0, msUntil(state.expiresAt));
      if (!arrived) {
        const { type, amountMinor, currency, correlationId } = known;
        await conclude(
          state,
          await expirePayment({ provider, transactionId, type, amountMinor, currency, correlationId }),
        );
      }
    } else {
      return;
    }
  }
}

/** Of the 2 MB that Temporal takes as a run's input; the rest of a longer inbox is worked off before the run ends. */
const CARRIED_CHARACTERS = 500_000;

function canBeCarried(inbox: readonly ProviderEvent[]): boolean {
  let characters = 0;
  return inbox.every((event) => (characters += JSON.stringify(event).length) <= CARRIED_CHARACTERS);
}

/** What an expiry needs of the last event; its message is needed for a dead letter only, and may be large. */
function withoutMessage(event: ProviderEvent): ProviderEvent {
  return { ...event, source: { ...event.source, valueBase64: '', headers: {} } };
}

/** At least a second, so that an expiry which for any reason leaves the payment pending does not spin. */
function msUntil(at: string): number {
  return Math.max(1_000, Date.parse(at) - Date.now());
}

async function conclude(state: PaymentState, result: SettleResult): Promise<void> {
  state.outcomes.push(result.outcome);
  state.status = result.status ?? state.status;
  state.expiresAt = result.expiresAt;
  // Also after a repeated activity, which finds its own work done: what counts is where the payment stands.
  if (result.status !== null && result.status !== 'pending') markStatus(result.status, result.userId);
  await startDeliveries(result.deliveries);
}

async function refuse(event: ProviderEvent, code: keyof typeof REFUSALS): Promise<void> {
  await deadLetterEvent({ event, code, message: REFUSALS[code] });
}
