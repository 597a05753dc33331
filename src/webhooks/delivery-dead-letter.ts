import { HEADERS } from '../contracts/messages';
import { DeliveryDeadLetter } from '../contracts/webhooks';
import { loadDeadLetter } from '../domain/delivery-ends';
import type { Config } from '../platform/config';
import type { OutgoingMessage } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';

export interface DeadLetterDeps {
  db: Pick<Database, 'pool' | 'prisma'>;
  /** Resolves when all in-sync replicas have the message. */
  producer: { send(message: OutgoingMessage): Promise<void> };
  config: Pick<Config, 'TOPIC_WEBHOOK_DELIVERY_DLQ'>;
  log: Logger;
}

/** Puts an exhausted delivery on the DLQ, keyed by subscription. Repeating it may repeat the dead letter. */
export async function writeDeadLetter(
  deps: DeadLetterDeps,
  input: { deliveryId: string; correlationId: string },
): Promise<void> {
  const letter = await loadDeadLetter(deps.db, input.deliveryId);
  if (!letter) {
    deps.log.warn(input, 'an exhausted delivery is no longer kept and gets no dead letter');
    return;
  }
  await deps.producer.send(deadLetterMessage(deps, letter, input.correlationId));
  metrics.deadLetters.inc({ topic: deps.config.TOPIC_WEBHOOK_DELIVERY_DLQ, code: 'delivery_exhausted' });
}

function deadLetterMessage(
  { config }: DeadLetterDeps,
  letter: DeliveryDeadLetter,
  correlationId: string,
): OutgoingMessage {
  const { delivery, lastAttempt } = letter;
  return {
    topic: config.TOPIC_WEBHOOK_DELIVERY_DLQ,
    key: delivery.subscriptionId,
    value: JSON.stringify(DeliveryDeadLetter.parse(letter)),
    headers: {
      [HEADERS.correlationId]: correlationId,
      [HEADERS.deadLetter.errorCode]: 'delivery_exhausted',
      [HEADERS.deadLetter.errorMessage]: (lastAttempt?.error ?? 'no attempt was made').slice(0, 500),
      [HEADERS.deadLetter.firstFailedAt]: delivery.createdAt,
      [HEADERS.deadLetter.attempts]: String(delivery.attempts),
    },
  };
}
