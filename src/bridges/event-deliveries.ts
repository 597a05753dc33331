import { fanOutSteps, type FanOutStep } from '../domain/fan-out';
import type { EventPublisher } from '../domain/event-publisher';
import { EventRefused } from '../domain/event-refusals';
import type { DeliveryRef } from '../contracts/workflows';
import { RemitError } from '../contracts/errors';
import { EventMessage, PublishMessage } from '../contracts/events';
import { decodeJson, JsonError, parseKeeping } from '../contracts/json';
import { Coalescer } from '../platform/coalescer';
import type { Config } from '../platform/config';
import { headersToStrings } from '../platform/kafka';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { annotate } from '../platform/tracing';
import type { FirstAttempts } from '../webhooks/first-attempts';
import { parseWith, PoisonMessage, type IncomingMessage } from './message';
import { correlationId } from './message-fields';

/** Events whose first steps are read together. */
const FAN_OUT_BATCH = 100;

export interface EventDeliveryDeps {
  db: Pick<Database, 'pool'>;
  keyring: Keyring;
  /** For what comes from other producers. */
  publisher: Pick<EventPublisher, 'publish'>;
  firstAttempts: FirstAttempts;
  /** Resolves when the workflow of each delivery is there. Idempotent. */
  startDeliveries: (deliveries: readonly DeliveryRef[]) => Promise<void>;
  config: Pick<Config, 'EVENT_FANOUT_BATCH_ROWS'>;
}

/** @throws PoisonMessage invalid_json, invalid_message. */
function parseMessage({ value }: IncomingMessage): EventMessage | PublishMessage {
  if (value === null) throw new PoisonMessage('invalid_json', 'the message has no value');
  let json: unknown;
  try {
    json = parseKeeping(decodeJson(value), ['data']);
  } catch (error) {
    if (error instanceof JsonError) throw new PoisonMessage('invalid_json', `the value ${error.message}`);
    throw error;
  }
  const isStored = typeof json === 'object' && json !== null && 'id' in json;
  return isStored ? parseWith(EventMessage, json) : parseWith(PublishMessage, json);
}

/**
 * The handler of `events`: hands an event out and makes its first attempts. Resolves when each of its deliveries is recorded
 * or has its workflow, so that the offset is committed then. A repeated message finds the rows that are written, and sees
 * only to what is still pending.
 *
 * A message with an `id` is of an event that is stored: a published one, or a state change of remit's own, with its
 * deliveries. What that event says is read from the database; when it is not there, the message ends on the DLQ as
 * `unknown_event`. A message without an `id` is an event that its producer publishes: it is checked and stored like one
 * that came by HTTP, and a message with its `id` follows through the outbox, so that repetitions write and send nothing.
 */
export function eventDeliveryHandler({
  db,
  keyring,
  publisher,
  firstAttempts,
  startDeliveries,
  config,
}: EventDeliveryDeps): (message: IncomingMessage, yieldPlace?: () => void) => Promise<void> {
  const limit = config.EVENT_FANOUT_BATCH_ROWS;
  const firstSteps = new Coalescer<string, FanOutStep | undefined>({
    maxItems: FAN_OUT_BATCH,
    run: async (ids) => {
      const steps = await fanOutSteps(db, keyring, { eventIds: [...new Set(ids)], after: '', limit });
      return ids.map((id) => steps.get(id));
    },
  });
  return async (message, yieldPlace) => {
    const event = parseMessage(message);
    const correlation = correlationId(headersToStrings(message.headers));
    if (!('id' in event)) return publishMessage(publisher, event, correlation);
    const { id } = event;
    annotate(() => ({ 'remit.event_id': id, 'remit.tenant_id': event.tenantId }));
    for (let step = await firstSteps.add(id); ;) {
      if (step === undefined) throw new PoisonMessage('unknown_event', `no event ${id} is stored`);
      const { next } = step;
      // Its rows are written: a subscriber that takes long holds up no other event.
      const onWritten = next === null ? yieldPlace : undefined;
      await startDeliveries(
        await firstAttempts.makeStep(id, step, { correlationId: correlation, onWritten }),
      );
      if (next === null) return;
      step = (await fanOutSteps(db, keyring, { eventIds: [id], after: next, limit })).get(id);
    }
  };
}

/**
 * Publishes an event that its producer put on the topic. Idempotent by its client id.
 * @throws PoisonMessage when it will never be right: unknown_event_type (also of an unknown tenant), reserved_event_type,
 *   schema_mismatch, schema_too_complex, message_too_large, event_conflict.
 */
async function publishMessage(
  publisher: Pick<EventPublisher, 'publish'>,
  { tenantId, clientId, ...event }: PublishMessage,
  correlation: string,
): Promise<void> {
  try {
    await publisher.publish({ tenantId, correlationId: correlation }, [{ ...event, id: clientId }]);
  } catch (error) {
    throw poisonOf(error);
  }
}

function poisonOf(error: unknown): unknown {
  if (!(error instanceof RemitError)) return error;
  const code =
    error instanceof EventRefused
      ? error.fault
      : error.code === 'conflict'
        ? 'event_conflict'
        : error.code === 'schema_too_complex'
          ? error.code
          : undefined;
  if (code === undefined) return error;
  const mistakes = error.fields.map(({ path, message }) => `${path}: ${message}`);
  return new PoisonMessage(code, mistakes.join('; '));
}
