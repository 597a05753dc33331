import type { RefusedMessage } from '../contracts/workflows';
import type { ActivityDeps } from './deps';
import { withHeartbeat } from './heartbeat';

/** Durable steps of every workflow that has messages to refuse. */
export function createDeadLetterActivities({ deadLetter }: Pick<ActivityDeps, 'deadLetter'>) {
  return {
    /**
     * Puts messages on the DLQs of their topics, with key, value and headers as they lie in Kafka. A further try goes on
     * where the one before it came to; it may repeat one dead letter.
     */
    deadLetterMessages: (messages: RefusedMessage[]): Promise<void> =>
      withHeartbeat<number, void>(async (handover) => {
        for (let done = handover.left ?? 0; done < messages.length; done++) {
          handover.left = done;
          const message = messages[done];
          if (message) await deadLetter(message);
        }
      }),
  };
}

export type DeadLetterActivities = ReturnType<typeof createDeadLetterActivities>;
