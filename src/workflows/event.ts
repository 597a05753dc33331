import { continueAsNew, proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
import type { EventActivities } from '../activities/events';
import type { DeadLetterActivities } from '../activities/dead-letters';
import type { EventWorkflowInput, EventWorkflowResult, RefusedMessage } from '../contracts/workflows';
import { CHILDREN_A_RUN } from '../contracts/workflow-limits';
import { DEAD_LETTER_STEP, DECIDING_STEP, historyIsLong } from './durable-steps';
import { startDeliveries } from './start-deliveries';

const { fanOutEvent } = proxyLocalActivities<EventActivities>(DECIDING_STEP);
const { deadLetterMessages } = proxyActivities<DeadLetterActivities>(DEAD_LETTER_STEP);

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
      await deadLetterMessages([unpublished(input)]);
      return { outcome: 'unknown_event', started };
    }
    await startDeliveries(step.deliveries);
    started += step.deliveries.length;
    if (step.next === null) return { outcome: 'fanned_out', started };
    after = step.next;
    if (started - startedBefore >= CHILDREN_A_RUN || historyIsLong())
      return continueAsNew<typeof eventWorkflow>({ ...input, after, started });
  }
}

function unpublished({ eventId, correlationId, source }: EventWorkflowInput): RefusedMessage {
  return {
    source,
    key: eventId,
    code: 'unknown_event',
    reason: `no event ${eventId} was published through the API`,
    decided: { eventId, correlationId },
  };
}
