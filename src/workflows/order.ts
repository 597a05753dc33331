import {
  allHandlersFinished,
  condition,
  defineSignal,
  defineUpdate,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
} from '@temporalio/workflow';
import type { OrderWebhookActivities } from '../activities/order-webhooks';
import type { OrderActivities } from '../activities/orders';
import {
  SIGNALS,
  UPDATES,
  type OrderEvent,
  type OrderRunInput,
  type OrderWorkflowInput,
  type OrderWorkflowResult,
  type RefundInput,
  type RefundResult,
} from '../contracts/workflows';
import { DEAD_LETTER_STEP, DECIDING_STEP, retryWhileEarly, unlessRefused } from './durable-steps';
import { markStatus } from './search-attributes';
import { startDeliveries } from './start-deliveries';

type Activities = OrderActivities & OrderWebhookActivities;
const { payOrder, settleOrder, refundOrder } = proxyLocalActivities<Activities>(DECIDING_STEP);
const { deadLetterRequest, deadLetterOrder } = proxyActivities<Activities>(DEAD_LETTER_STEP);

/** Why a payment request or an order webhook can't be applied, for the dead letter. */
const REFUSALS = {
  unknown_order: 'no order with this id exists',
  user_mismatch: 'the user differs from the order’s',
  amount_mismatch: 'amount or currency differ from the order',
  payment_method_mismatch: 'the order is paid by a provider, not from the balance',
  event_conflict: 'it was said before with another user, amount, currency or body',
} as const;

type Message = { request: OrderWorkflowInput } | { event: OrderEvent };

/**
 * Everything that happens to one order, in the order in which it comes: it is paid (exactly once: FINISHED when the money
 * is there, CANCELLED when it is not) from its user's balance or, when a provider pays it, by that provider's webhook, and
 * refunded. Each decision is one database transaction; a repeated or late message finds it made.
 *
 * Started with a payment request, as it was before there were order webhooks, it handles that request first.
 */
export async function orderWorkflow(input: OrderWorkflowInput | OrderRunInput): Promise<OrderWorkflowResult> {
  const inbox: Message[] = 'source' in input ? [{ request: input }] : [];
  const state: OrderWorkflowResult = { outcome: null, status: null, failureCode: null };
  setHandler(
    defineSignal<[OrderWorkflowInput]>(SIGNALS.paymentRequest),
    (request) => void inbox.push({ request }),
  );
  setHandler(defineSignal<[OrderEvent]>(SIGNALS.orderEvent), (event) => void inbox.push({ event }));
  let refunds = 0;
  const starting: Promise<void>[] = [];
  // Somebody waits for a refund: it goes past what waits in the inbox, and is answered when the money is decided. Its
  // deliveries are started in the same workflow task, and the run goes on until they are.
  setHandler(defineUpdate<RefundResult, [RefundInput]>(UPDATES.refund), async (asked) => {
    refunds += 1;
    const { deliveries, ...result } = await refundOrder(asked);
    starting.push(startDeliveries(deliveries));
    return result;
  });
  // What a run was started with may reach it only after its first step: without this, it would end before.
  await condition(() => inbox.length > 0 || refunds > 0);
  do {
    for (let next = inbox.shift(); next; next = inbox.shift())
      Object.assign(state, 'request' in next ? await pay(next.request) : await settle(next.event));
    await condition(allHandlersFinished);
    await Promise.all(starting.splice(0));
  } while (inbox.length > 0 || starting.length > 0 || !allHandlersFinished());
  return state;
}

/** Also true after a repeated activity, which finds its own work done. */
function isDecided(status: OrderWorkflowResult['status']): boolean {
  return status !== null && status !== 'NEW';
}

async function pay(request: OrderWorkflowInput): Promise<OrderWorkflowResult | undefined> {
  const paid = await unlessRefused(
    () => payOrder(request),
    (message) => deadLetterRequest({ request, code: 'invalid_message', message }),
  );
  if (!paid) return undefined;
  const { deliveries, ...result } = paid;
  if (isDecided(result.status)) markStatus(result.status);
  await startDeliveries(deliveries);
  const { outcome } = result;
  if (outcome !== 'applied' && outcome !== 'duplicate')
    await deadLetterRequest({ request, code: outcome, message: REFUSALS[outcome] });
  return result;
}

async function settle(event: OrderEvent): Promise<OrderWorkflowResult | undefined> {
  const settled = await unlessRefused(
    () =>
      retryWhileEarly(
        () => settleOrder(event),
        (result) => result.outcome === 'unknown_order',
      ),
    (message) => deadLetterOrder({ event, code: 'invalid_message', message }),
  );
  if (!settled) return undefined;
  const { outcome, status, failureCode, deliveries } = settled;
  if (isDecided(status)) markStatus(status, event.userId);
  await startDeliveries(deliveries);
  if (outcome in REFUSALS) {
    const code = outcome as keyof typeof REFUSALS;
    await deadLetterOrder({ event, code, message: REFUSALS[code] });
  }
  return { outcome, status, failureCode };
}
