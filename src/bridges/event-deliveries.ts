import { loadPendingOfEvents, type PendingDelivery } from '../domain/deliveries';
import { fanOutEvent, fanOutEvents } from '../domain/events';
import type { DeliveryRef } from '../contracts/workflows';
import { EventMessage } from '../contracts/events';
import { Coalescer } from '../platform/coalescer';
import type { Config } from '../platform/config';
import { headersToStrings } from '../platform/kafka';
import type { Database } from '../platform/postgres';
import { isDatabaseUnavailable } from '../platform/postgres-errors';
import type { Keyring } from '../platform/secrets';
import type { FirstAttempts } from '../webhooks/first-attempts';
import { parseJson, parseWith, PoisonMessage, type IncomingMessage } from './message';
import { correlationId } from './message-fields';

/** Events that are handed out by one pair of statements, and such pairs at a time. */
const FAN_OUT_BATCH = 100;
const FAN_OUT_CALLS = 2;

export interface EventDeliveryDeps {
  db: Pick<Database, 'pool'>;
  keyring: Keyring;
  firstAttempts: FirstAttempts;
  /** Resolves when the workflow of each delivery is there. Idempotent. */
  startDeliveries: (deliveries: readonly DeliveryRef[]) => Promise<void>;
  config: Pick<Config, 'EVENT_FANOUT_BATCH_ROWS'>;
}

interface Step {
  pending: PendingDelivery[];
  next: string | null;
}

/** @throws PoisonMessage invalid_json, invalid_message. */
export function parseEventMessage(message: IncomingMessage): EventMessage {
  return parseWith(EventMessage, parseJson(message));
}

/**
 * The handler of `events`: hands a published event out and makes its first attempts. Resolves when each of its deliveries
 * is recorded or has its workflow, so that the offset is committed then. A repeated message finds the rows written and
 * sees only to what is still pending. What the event says is read from the database: a message that nobody published
 * through the API ends on the DLQ as `unknown_event`.
 */
export function eventDeliveryHandler({
  db,
  keyring,
  firstAttempts,
  startDeliveries,
  config,
}: EventDeliveryDeps): (message: IncomingMessage) => Promise<void> {
  const limit = config.EVENT_FANOUT_BATCH_ROWS;
  const firstSteps = new Coalescer<string, Step | undefined>({
    maxItems: FAN_OUT_BATCH,
    maxCalls: FAN_OUT_CALLS,
    mayBeOneItems: (error) => !isDatabaseUnavailable(error),
    run: async (ids) => {
      const eventIds = [...new Set(ids)];
      const next = await fanOutEvents(db, { eventIds, limit });
      const byEvent = new Map<string, PendingDelivery[]>();
      for (const each of await loadPendingOfEvents(db, keyring, { eventIds, limit })) {
        const { eventId } = each.delivery;
        byEvent.set(eventId, [...(byEvent.get(eventId) ?? []), each]);
      }
      return ids.map((id) =>
        next.has(id) ? { next: next.get(id) ?? null, pending: byEvent.get(id) ?? [] } : undefined,
      );
    },
  });
  const nextStep = async (eventId: string, after: string): Promise<Step | undefined> => {
    const step = await fanOutEvent(db, { eventId, after, limit });
    return (
      step && {
        next: step.next,
        pending: await loadPendingOfEvents(db, keyring, { eventIds: [eventId], after, limit }),
      }
    );
  };
  return async (message) => {
    const { id } = parseEventMessage(message);
    const correlation = correlationId(headersToStrings(message.headers));
    for (let step = await firstSteps.add(id); ;) {
      if (step === undefined)
        throw new PoisonMessage('unknown_event', `no event ${id} was published through the API`);
      await startDeliveries(await firstAttempts.make(step.pending, () => correlation));
      if (step.next === null) return;
      step = await nextStep(id, step.next);
    }
  };
}
