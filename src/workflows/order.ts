import { allHandlersFinished, condition, continueAsNew, setHandler } from '@temporalio/workflow';
import type { OrderWebhookActivities } from '../activities/order-webhooks';
import type { OrderActivities } from '../activities/orders';
import {
  QUERIES,
  SIGNALS,
  UPDATES,
  type OrderEventResult,
  type OrderMessage,
  type OrderWorkflowInput,
  type OrderWorkflowResult,
  type PayOrderResult,
} from '../contracts/workflows';
import { localSteps } from './described';
import { DECIDING_STEP, inTurn, refuseWhenFull, type InTurn } from './durable-steps';
import { Mailbox, type Handling } from './mailbox';
import { refusalOf } from './refusals';
import { markStatus } from './search-attributes';

type Activities = OrderActivities & OrderWebhookActivities;
const { payOrder, settleOrder, refundOrder } = localSteps<Activities>(DECIDING_STEP);

/** Why a payment request or an order webhook can't be applied, for the dead letter. */
const REFUSALS = {
  unknown_order: 'no order with this id exists',
  user_mismatch: 'the user differs from the order’s',
  amount_mismatch: 'amount or currency differ from the order',
  payment_method_mismatch: 'the order is paid by a provider, not from the balance',
  event_conflict: 'it was reported before with another user, amount, currency or body',
} as const;

type Answer = PayOrderResult | OrderEventResult;

/**
 * Everything that happens to one order, in the order in which it comes: it is paid (exactly once: FINISHED when the money
 * is there, CANCELLED when it is not) from its user's balance or, when a provider pays it, by that provider's webhook, and
 * refunded. Each decision is one database transaction; a repeated or late message finds it made.
 */
export async function orderWorkflow(input: OrderWorkflowInput): Promise<OrderWorkflowResult> {
  const { resume } = input;
  const state: OrderWorkflowResult = resume?.result ?? { outcome: null, status: null, failureCode: null };
  const turn = inTurn();
  const inbox = new Mailbox(handlingOf(input, state, turn), resume?.carried);
  setHandler(SIGNALS.paymentRequest, (request) => inbox.receive({ request }));
  setHandler(SIGNALS.orderEvent, (event) => inbox.receive({ event }));
  setHandler(QUERIES.order, () => ({ ...state, waitingMessages: inbox.size }));
  let refunds = 0;
  // Somebody waits for a refund: it goes past what waits in the inbox, and is answered when the money is decided.
  setHandler(
    UPDATES.refund,
    async (asked) => {
      refunds += 1;
      return turn(() => refundOrder(asked));
    },
    { validator: (_asked) => refuseWhenFull() },
  );
  // What a run was started with may reach it only after its first step: without this, it would end before.
  if (!resume) await condition(() => inbox.size > 0 || refunds > 0);
  do {
    await inbox.workOff();
    await condition(allHandlersFinished);
  } while (inbox.size > 0);
  return state;
}

function handlingOf(
  { orderId }: OrderWorkflowInput,
  state: OrderWorkflowResult,
  turn: InTurn,
): Handling<OrderMessage, Answer> {
  return {
    apply: (message) =>
      turn<Answer>(() => ('request' in message ? payOrder(message.request) : settleOrder(message.event))),
    // Only a webhook overtakes the order's creation: a payment request comes out of it.
    judge: (result) => ({
      waitUntil: 'waitUntil' in result ? result.waitUntil : null,
      refusal: refusalOf(REFUSALS, result.outcome),
    }),
    conclude(_message, result) {
      const { outcome, status, failureCode } = result;
      Object.assign(state, { outcome, status, failureCode });
      // Also true after a repeated activity, which finds its own work done.
      if (status !== null && status !== 'NEW') markStatus(status, 'userId' in result ? result.userId : null);
    },
    letterOf: (message) => {
      const { source, ...decided } = 'request' in message ? message.request : message.event;
      return { source, key: orderId, decided };
    },
    continueAsNew: (carried) =>
      continueAsNew<typeof orderWorkflow>({ orderId, resume: { carried, result: state } }),
  };
}
