import {
  allHandlersFinished,
  condition,
  continueAsNew,
  setCurrentDetails,
  setHandler,
} from '@temporalio/workflow';
import type { PaymentActivities } from '../activities/payments';
import {
  QUERIES,
  SIGNALS,
  type ExpirePaymentInput,
  type PaymentState,
  type PaymentWorkflowInput,
  type PaymentWorkflowResult,
  type ProviderEvent,
  type SettleResult,
} from '../contracts/workflows';
import { localSteps } from './described';
import { DECIDING_STEP } from './durable-steps';
import { Mailbox, type Handling } from './mailbox';
import { refusalOf } from './refusals';
import { markStatus } from './search-attributes';

const { settlePayment, expirePayment } = localSteps<PaymentActivities>(DECIDING_STEP);

/** Why an outcome can't be applied, for the dead letter; outcomes that are not here are not dead-lettered. */
const REFUSALS = {
  unknown_transaction: 'no payment or payout with this transactionId exists',
  amount_mismatch: 'amount or currency differ from the transaction',
  type_mismatch: 'provider or type differ from the transaction',
  event_conflict: 'the provider event id was used before with another body',
} as const;

/** What a run knows of its payment. */
interface Run extends Omit<PaymentState, 'waitingEvents'> {
  known: ExpirePaymentInput | null;
}

/**
 * One payment or payout, from its first provider event to its end: settles each event in order, waits for the next
 * while the payment is pending, and expires it. A repeated or late event opens a short run that finds the database
 * settled already.
 */
export async function paymentWorkflow(input: PaymentWorkflowInput): Promise<PaymentWorkflowResult> {
  const { resume } = input;
  const run: Run = {
    status: resume?.status ?? null,
    outcomes: [],
    expiresAt: resume?.expiresAt ?? null,
    known: resume?.known ?? null,
  };
  const inbox = new Mailbox(handlingOf(input, run), resume?.carried);
  setHandler(SIGNALS.providerEvent, (event) => inbox.receive(event));
  setHandler(QUERIES.payment, () => {
    const { status, outcomes, expiresAt } = run;
    return { status, outcomes, expiresAt, waitingEvents: inbox.size };
  });
  await untilDecided(inbox, run);
  setCurrentDetails(run.status ?? 'no payment of this id is known');
  if (!allHandlersFinished()) await condition(allHandlersFinished);
  return { status: run.status, outcomes: run.outcomes };
}

async function untilDecided(inbox: Mailbox<ProviderEvent, SettleResult>, run: Run): Promise<void> {
  for (;;) {
    await inbox.workOff();
    const { status, expiresAt, known } = run;
    if (status !== 'pending' || expiresAt === null || !known) return;
    setCurrentDetails(`pending: waits for the provider’s next event, and expires at ${expiresAt}`);
    const arrived = await condition(() => inbox.size > 0, msUntil(expiresAt), {
      summary: 'the payment expires unless a terminal event comes',
    });
    if (!arrived) conclude(run, await expirePayment(known));
  }
}

function handlingOf(
  { provider, transactionId }: PaymentWorkflowInput,
  run: Run,
): Handling<ProviderEvent, SettleResult> {
  return {
    apply: settlePayment,
    judge: ({ outcome, waitUntil }) => ({ waitUntil, refusal: refusalOf(REFUSALS, outcome) }),
    conclude({ type, amountMinor, currency, correlationId }, result) {
      if (!(result.outcome in REFUSALS))
        run.known = { provider, transactionId, type, amountMinor, currency, correlationId };
      conclude(run, result);
    },
    letterOf: ({ source, ...decided }) => ({ source, key: transactionId, decided }),
    continueAsNew: (carried) => {
      const { status, expiresAt, known } = run;
      return continueAsNew<typeof paymentWorkflow>({
        provider,
        transactionId,
        resume: { carried, status, expiresAt, known },
      });
    },
  };
}

/** At least a second, so that an expiry which for any reason leaves the payment pending does not spin. */
function msUntil(at: string): number {
  return Math.max(1_000, Date.parse(at) - Date.now());
}

function conclude(run: Run, result: SettleResult): void {
  run.outcomes.push(result.outcome);
  run.status = result.status ?? run.status;
  run.expiresAt = result.expiresAt;
  // Also after a repeated activity, which finds its own work done: what counts is where the payment stands.
  if (result.status !== null && result.status !== 'pending') markStatus(result.status, result.userId);
}
