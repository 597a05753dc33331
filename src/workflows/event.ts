import { continueAsNew, proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
import type { EventActivities } from '../activities/events';
import type { EventWorkflowInput, EventWorkflowResult } from '../contracts/workflows';
import { DEAD_LETTER_STEP, DECIDING_STEP } from './durable-steps';
import { startDeliveries } from './start-deliveries';

const { fanOutEvent } = proxyLocalActivities<EventActivities>(DECIDING_STEP);
const { deadLetterPublication } = proxyActivities<EventActivities>(DEAD_LETTER_STEP);

/** Children of one run; a history that starts more goes on in another. Each batch is bounded by EVENT_FANOUT_BATCH_ROWS. */
const CHILDREN_A_RUN = 500;

/**
 * Hands a published event out: writes the delivery rows of all matching subscriptions, in steps, and starts a delivery
 * workflow for each, which outlives this one. A repeated run finds the rows written and starts only what is pending.
 */
export async function eventWorkflow(input: EventWorkflowInput): Promise<EventWorkflowResult> {
  const { eventId, correlationId } = input;
  const startedBefore = input.started ?? 0;
  let after = input.after ?? '';
  let started = startedBefore;
  for (;;) {
    const step = await fanOutEvent({ eventId, after, correlationId });
    if (step === null) {
      await deadLetterPublication(input);
      return { outcome: 'unknown_event', started };
    }
    await startDeliveries(step.deliveries);
    started += step.deliveries.length;
    if (step.next === null) return { outcome: 'fanned_out', started };
    after = step.next;
    if (started - startedBefore >= CHILDREN_A_RUN)
      return continueAsNew<typeof eventWorkflow>({ ...input, after, started });
  }
}
