import {
  proxyActivities,
  proxyLocalActivities,
  type ActivityInterfaceFor,
  type ActivityOptions,
  type LocalActivityInterfaceFor,
  type LocalActivityOptions,
} from '@temporalio/workflow';
import type { DeadLetterActivities } from '../activities/dead-letters';
import type { DeliveryActivities } from '../activities/deliveries';
import type { DisputeActivities } from '../activities/disputes';
import type { EventActivities } from '../activities/events';
import type { LedgerActivities } from '../activities/ledger';
import type { OrderWebhookActivities } from '../activities/order-webhooks';
import type { OrderActivities } from '../activities/orders';
import type { PaymentActivities } from '../activities/payments';
import type { ReplayActivities } from '../activities/replays';

type Step = keyof (DeadLetterActivities &
  DeliveryActivities &
  DisputeActivities &
  EventActivities &
  LedgerActivities &
  OrderActivities &
  OrderWebhookActivities &
  PaymentActivities &
  ReplayActivities);

/** What each step does, as the Temporal UI shows it in a history. The same for everybody: nothing of the data is in it. */
const STEPS: Record<Step, string> = {
  settlePayment: 'apply the provider’s event to the payment and the ledger',
  expirePayment: 'expire the payment: no terminal event came in time',
  payOrder: 'pay the order from the user’s balance',
  settleOrder: 'apply the provider’s webhook to the order',
  refundOrder: 'refund the order',
  settleDispute: 'apply the chargeback webhook',
  expireDispute: 'expire the dispute: evidence was due',
  loadDispute: 'read where the dispute stands',
  submitDisputeEvidence: 'store the evidence and put the dispute under review',
  deadLetterMessages: 'put refused messages into their dead-letter topics',
  attemptDelivery: 'attempt the delivery',
  finishDelivery: 'record how the delivery ended',
  deadLetterDelivery: 'put the exhausted delivery into the dead-letter topic',
  sendLane: 'send what is due in the lane',
  stepReplay: 'put the next deliveries of the replay into their lanes, or cancel them',
  tellCancelled: 'tell workflows that their deliveries were cancelled',
  recordReplayState: 'record where the replay stands',
  strandedReplays: 'find replays that no workflow began',
  strandedDeliveries: 'find deliveries that no workflow carries on',
  wakeForgottenLanes: 'wake lanes that are silent though something is due',
  purgeEvents: 'delete events that are older than they are kept',
  reconcileLedger: 'prove the ledger against itself',
  expireOverdue: 'expire overdue payments, then orders',
  saveExpiryPosition: 'remember how far expiring has come',
  purgeIdempotencyKeys: 'delete expired idempotency keys',
};

/** Activities of these options, each with its summary. */
export function steps<A>(options: ActivityOptions): ActivityInterfaceFor<A> {
  return described((summary) => proxyActivities<A>({ ...options, ...summary }));
}

/** The same as local activities. */
export function localSteps<A>(options: LocalActivityOptions): LocalActivityInterfaceFor<A> {
  return described((summary) => proxyLocalActivities<A>({ ...options, ...summary }));
}

function described<P>(of: (summary: { summary?: string }) => P): P {
  return new Proxy({} as P & object, {
    get(_target, name) {
      const summary = STEPS[name as Step] as string | undefined;
      return of(summary === undefined ? {} : { summary })[name as keyof P];
    },
  });
}
