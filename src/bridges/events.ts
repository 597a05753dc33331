import type { Client } from '@temporalio/client';
import { defineSearchAttributeKey, TypedSearchAttributes } from '@temporalio/common';
import { EventMessage } from '../contracts/events';
import { TASK_QUEUES, workflowId, WORKFLOWS, type EventWorkflowInput } from '../contracts/workflows';
import type { Config } from '../platform/config';
import { headersToStrings } from '../platform/kafka';
import { parseJson, parseWith, toMessageRef, type IncomingMessage } from './message';
import { correlationId } from './payments';
import { takenByTemporal } from './temporal-start';

const RemitEventType = defineSearchAttributeKey('RemitEventType', 'KEYWORD');

/** @throws PoisonMessage invalid_json, invalid_message. */
export function parseEventMessage(message: IncomingMessage): EventMessage {
  return parseWith(EventMessage, parseJson(message));
}

/**
 * The handler of `events`: starts the event's workflow, which writes the deliveries and starts theirs. While it runs, a
 * repeated message joins it; later it runs again, finds everything written, and changes nothing. What the event says is
 * read from the database: a message that nobody published through the API ends on the DLQ as `unknown_event`.
 */
export function eventHandler(
  client: Client,
  config: Pick<Config, 'BRIDGE_START_TIMEOUT_MS'>,
): (message: IncomingMessage) => Promise<void> {
  return async (message) => {
    const { id, type } = parseEventMessage(message);
    const input: EventWorkflowInput = {
      eventId: id,
      correlationId: correlationId(headersToStrings(message.headers)),
      source: toMessageRef(message),
    };
    await takenByTemporal(client, config.BRIDGE_START_TIMEOUT_MS, () =>
      client.workflow.start(WORKFLOWS.event, {
        workflowId: workflowId.event(id),
        taskQueue: TASK_QUEUES.events,
        args: [input],
        workflowIdConflictPolicy: 'USE_EXISTING',
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        typedSearchAttributes: new TypedSearchAttributes([{ key: RemitEventType, value: type }]),
        memo: { correlationId: input.correlationId },
      }),
    );
  };
}
