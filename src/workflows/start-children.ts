import { ParentClosePolicy, startChild } from '@temporalio/workflow';
import { WORKFLOWS, type DeliveryRef, type ReplayInput } from '../contracts/workflows';
import { deliveryStart, replayStart, unlessThere } from '../contracts/workflows/starts';

/** The one place where workflows start others: children that outlive them (contracts/workflows/starts.ts has with what). */

const OUTLIVES = { parentClosePolicy: ParentClosePolicy.ABANDON } as const;

/** @returns false when one is running: it is left alone. */
export function startDelivery(ref: DeliveryRef): Promise<boolean> {
  return unlessThere(startChild(WORKFLOWS.delivery, { ...deliveryStart(ref), ...OUTLIVES }));
}

/** @returns false when one is running or was: it is left alone. */
export function startReplay(input: ReplayInput): Promise<boolean> {
  return unlessThere(startChild(WORKFLOWS.replay, { ...replayStart(input), ...OUTLIVES }));
}
