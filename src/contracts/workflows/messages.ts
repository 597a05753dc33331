import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { DeliveryState } from './delivery';
import type { DisputeEvent, DisputeState, EvidenceInput, EvidenceResult } from './dispute';
import type { LaneState } from './lane';
import type { OrderEvent, OrderState, PaymentRequest, RefundInput, RefundResult } from './order';
import type { PaymentState, ProviderEvent } from './payment';
import type { ReplayState } from './replay';
import type { ExpiryResult, ReconciliationSummary, RecoveryInput, RetentionResult } from './scheduled-jobs';

/** What running workflows can be told and asked: defined once, for those who handle it and those who send it. */

export const SIGNALS = {
  /** payment */
  providerEvent: defineSignal<[ProviderEvent]>('providerEvent'),
  /** order */
  paymentRequest: defineSignal<[PaymentRequest]>('paymentRequest'),
  orderEvent: defineSignal<[OrderEvent]>('orderEvent'),
  /** dispute */
  disputeEvent: defineSignal<[DisputeEvent]>('disputeEvent'),
  /** delivery */
  tryNow: defineSignal('tryNow'),
  /** lane */
  wake: defineSignal('wake'),
  /** delivery, replay */
  cancel: defineSignal('cancel'),
  /** replay */
  pause: defineSignal('pause'),
  resume: defineSignal('resume'),
} as const;

/** Every workflow answers `state`, also when it has ended. */
export const QUERIES = {
  order: defineQuery<OrderState>('state'),
  payment: defineQuery<PaymentState>('state'),
  dispute: defineQuery<DisputeState>('state'),
  delivery: defineQuery<DeliveryState>('state'),
  lane: defineQuery<LaneState>('state'),
  replay: defineQuery<ReplayState>('state'),
  expiry: defineQuery<ExpiryResult>('state'),
  /** Null while it runs. */
  reconciliation: defineQuery<ReconciliationSummary | null>('state'),
  retention: defineQuery<RetentionResult>('state'),
  recovery: defineQuery<Pick<RecoveryInput, 'started'>>('state'),
} as const;

export const UPDATES = {
  /** order */
  refund: defineUpdate<RefundResult, [RefundInput]>('refund'),
  /** dispute */
  submitEvidence: defineUpdate<EvidenceResult, [EvidenceInput]>('submitEvidence'),
} as const;
