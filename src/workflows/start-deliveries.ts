import type { ActivityOptions } from '@temporalio/workflow';
import type { DeliveryActivities } from '../activities/deliveries';
import type { EventDeliveryActivities } from '../activities/event-deliveries';
import { TASK_QUEUES, type DeliveryRef, type ToDeliver } from '../contracts/workflows';
import { steps } from './described';
import { startDelivery } from './start-children';

/** First attempts that one activity makes. */
const AT_ONCE = 200;

const FIRST_ATTEMPTS: ActivityOptions = {
  taskQueue: TASK_QUEUES.deliveries,
  // The longest wait for a place, for the subscriber, and for the database to store what came of it.
  startToCloseTimeout: '2m',
  // An attempt of a worker that was killed is repeated after this.
  heartbeatTimeout: '15s',
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
};
const { makeFirstAttempts, deliverEvent } = steps<DeliveryActivities & EventDeliveryActivities>(
  FIRST_ATTEMPTS,
);

/**
 * Delivers what a state change wrote: makes the first attempt of each in one activity, and starts a delivery workflow, as
 * a child that outlives this workflow, for each that is not delivered by it. Repeating it after a crash starts none alongside
 * one that runs, and the delivery row is the judge of what an ended one has left: the id may be used again, or a row that
 * a restored database has back would stay pending forever.
 */
export async function startDeliveries(deliveries: readonly DeliveryRef[]): Promise<void> {
  for (let from = 0; from < deliveries.length; from += AT_ONCE) {
    const left = await makeFirstAttempts(deliveries.slice(from, from + AT_ONCE));
    await Promise.all(left.map(startDelivery));
  }
}

/**
 * Delivers what a step has written, however much: what is too many for a workflow's history is delivered by activities a
 * page at a time, which start the delivery workflows themselves.
 */
export async function deliverAll({ deliveries, deliveriesOf = [] }: ToDeliver): Promise<void> {
  await startDeliveries(deliveries);
  for (const event of deliveriesOf)
    for (let after: string | null = ''; after !== null;) after = await deliverEvent({ ...event, after });
}
