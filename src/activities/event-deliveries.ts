import type { DeliveryRef, EventDeliveriesInput } from '../contracts/workflows';
import { loadPendingOfEvents } from '../domain/deliveries';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import type { FirstAttempts } from '../webhooks/first-attempts';
import { withHeartbeat } from './heartbeat';

/** Deliveries that one step handles. */
const PAGE_DELIVERIES = 200;

export interface EventDeliveryDeps {
  db: Pick<Database, 'pool'>;
  keyring: Keyring;
  firstAttempts: Pick<FirstAttempts, 'make'>;
  /** Resolves when the workflow of each delivery is there. Idempotent. */
  startDeliveries: (deliveries: readonly DeliveryRef[]) => Promise<void>;
}

/** Delivers what a state change has to say to more subscriptions than its workflow could start deliveries for. */
export function createEventDeliveryActivities({
  db,
  keyring,
  firstAttempts,
  startDeliveries,
}: EventDeliveryDeps) {
  return {
    /**
     * One bounded step: makes the first attempts of an event's next pending deliveries and starts the workflow of each
     * that is not delivered by it. Repeated, it handles what is still pending.
     * @returns where the next step begins; null after the last.
     */
    deliverEvent: ({ eventId, correlationId, after }: EventDeliveriesInput): Promise<string | null> =>
      withHeartbeat<never, string | null>(async () => {
        const limit = PAGE_DELIVERIES;
        const pending = await loadPendingOfEvents(db, keyring, { eventIds: [eventId], after, limit });
        await startDeliveries(await firstAttempts.make(pending, () => correlationId));
        return pending.length < limit ? null : pending.at(-1)!.delivery.subscriptionId;
      }),
  };
}

export type EventDeliveryActivities = ReturnType<typeof createEventDeliveryActivities>;
