import { WithStartWorkflowOperation, type Client } from '@temporalio/client';
import {
  SIGNALS,
  UPDATES,
  WORKFLOWS,
  type DeliveryRef,
  type DisputeEvent,
  type EvidenceInput,
  type EvidenceResult,
  type OrderEvent,
  type PaymentRequest,
  type ProviderEvent,
  type RefundInput,
  type RefundResult,
  type ReplayInput,
} from '../contracts/workflows';
import { encryptionOf } from './payload-encryption';
import {
  deliveryStart,
  disputeStart,
  laneStart,
  orderStart,
  paymentStart,
  replayStart,
  unlessThere,
} from '../contracts/workflows/starts';

/**
 * The one place where clients start workflows: each message goes to the one workflow of what it is about, which is
 * started when none is running. What each is started with stands in contracts/workflows/starts.ts. How long a call may
 * take, and what becomes of its failure, is the caller's (`client.withDeadline`). Doing it again is safe: workflows
 * recognise what they have had.
 */

/** Search attributes are never encrypted: where everything else is, they name no users either. */
const encryptsPayloads = (client: Client): boolean => encryptionOf(client)?.encrypts ?? false;

/** Hands a provider's event to the workflow of its payment. */
export async function signalPayment(client: Client, event: ProviderEvent): Promise<void> {
  await client.workflow.signalWithStart(WORKFLOWS.payment, {
    ...paymentStart(event),
    signal: SIGNALS.providerEvent,
    signalArgs: [event],
  });
}

/** Hands a payment request to the workflow of its order. */
export async function signalPaymentRequest(client: Client, request: PaymentRequest): Promise<void> {
  await client.workflow.signalWithStart(WORKFLOWS.order, {
    ...orderStart(encryptsPayloads(client) ? { ...request, userId: undefined } : request),
    signal: SIGNALS.paymentRequest,
    signalArgs: [request],
  });
}

/** Hands what a provider says of an order to the order's workflow. */
export async function signalOrder(client: Client, event: OrderEvent): Promise<void> {
  const { orderId, correlationId } = event;
  await client.workflow.signalWithStart(WORKFLOWS.order, {
    ...orderStart({ orderId, correlationId }),
    signal: SIGNALS.orderEvent,
    signalArgs: [event],
  });
}

/** Hands what a provider says of a dispute to the dispute's workflow. */
export async function signalDispute(client: Client, event: DisputeEvent): Promise<void> {
  await client.workflow.signalWithStart(WORKFLOWS.dispute, {
    ...disputeStart(event),
    signal: SIGNALS.disputeEvent,
    signalArgs: [event],
  });
}

/** Has a delivery's workflow attempt it now. */
export async function signalTryNow(client: Client, ref: DeliveryRef): Promise<void> {
  await client.workflow.signalWithStart(WORKFLOWS.delivery, {
    ...deliveryStart(ref),
    signal: SIGNALS.tryNow,
  });
}

/** Has a subscription's lane look at what waits. */
export async function signalLane(client: Client, subscriptionId: string): Promise<void> {
  await client.workflow.signalWithStart(WORKFLOWS.lane, {
    ...laneStart({ subscriptionId }),
    signal: SIGNALS.wake,
  });
}

/** Starts the workflow of a lane. @returns false when one is running: it is left alone. */
export function startLane(client: Client, subscriptionId: string): Promise<boolean> {
  return unlessThere(client.workflow.start(WORKFLOWS.lane, laneStart({ subscriptionId })));
}

/** An update of a workflow, and what that workflow is started with when none is running. */
interface UpdateCall<Input> {
  /** The same id again is the same update. */
  updateId: string;
  input: Input;
}

/** Has an order's workflow refund it, and waits for what came of it. */
export function updateRefund(
  client: Client,
  { updateId, input }: UpdateCall<RefundInput>,
): Promise<RefundResult> {
  return client.workflow.executeUpdateWithStart(UPDATES.refund, {
    args: [input],
    updateId,
    startWorkflowOperation: new WithStartWorkflowOperation(WORKFLOWS.order, {
      ...orderStart({ orderId: input.orderId }),
      workflowIdConflictPolicy: 'USE_EXISTING',
    }),
  });
}

/** Has a dispute's workflow take evidence, and waits for what came of it. */
export function updateEvidence(
  client: Client,
  dispute: { orderId: string; provider: string },
  { updateId, input }: UpdateCall<EvidenceInput>,
): Promise<EvidenceResult> {
  return client.workflow.executeUpdateWithStart(UPDATES.submitEvidence, {
    args: [input],
    updateId,
    startWorkflowOperation: new WithStartWorkflowOperation(WORKFLOWS.dispute, {
      ...disputeStart({ ...dispute, disputeId: input.disputeId }),
      workflowIdConflictPolicy: 'USE_EXISTING',
    }),
  });
}

/** Starts the workflow of a delivery. @returns false when one is running: it is left alone. */
export function startDelivery(client: Client, ref: DeliveryRef): Promise<boolean> {
  return unlessThere(client.workflow.start(WORKFLOWS.delivery, deliveryStart(ref)));
}

/** Starts the workflow of a dispute. @returns false when one is running: it is left alone. */
export function startDispute(client: Client, dispute: Parameters<typeof disputeStart>[0]): Promise<boolean> {
  return unlessThere(client.workflow.start(WORKFLOWS.dispute, disputeStart(dispute)));
}

/**
 * Starts the workflow of a replay.
 * @param again also when one has ended under its id: it knows less than the database, which was restored.
 * @returns false when one is running, or, unless it may begin again, was: it is left alone.
 */
export function startReplay(client: Client, input: ReplayInput, again = false): Promise<boolean> {
  return unlessThere(
    client.workflow.start(WORKFLOWS.replay, {
      ...replayStart(input),
      ...(again && { workflowIdReusePolicy: 'ALLOW_DUPLICATE' }),
    }),
  );
}
