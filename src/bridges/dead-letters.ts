import type { IHeaders } from 'kafkajs';
import type { DeadLetterCode } from '../contracts/errors';
import { HEADERS } from '../contracts/messages';
import type { MessageRef, RefusedMessage } from '../contracts/workflows';
import type { Config } from '../platform/config';
import { headersToStrings, type MessageProducer, type OutgoingMessage } from '../platform/kafka';
import { metrics } from '../platform/metrics';
import { deadLetterTopic } from '../platform/topics';
import type { Logger } from '../platform/logging';
import type { MessageReader } from '../platform/message-reader';
import type { IncomingMessage } from './message';

/** Longer explanations are cut: a header is no place for a document. */
export const DEAD_LETTER_REASON_MAX = 1_000;

type Position = Pick<MessageRef, 'topic' | 'partition' | 'offset'> & Pick<IncomingMessage, 'unreadable'>;

/**
 * The headers that a dead letter adds to those of its message. A message that was dead-lettered and redriven before
 * keeps its first time of failure, and its attempts count on.
 */
export function deadLetterHeaders(
  source: Position & { headers: IHeaders },
  code: DeadLetterCode,
  reason: string,
  now = new Date(),
): Record<string, string> {
  const names = HEADERS.deadLetter;
  const before = headersToStrings(source.headers);
  const attemptsBefore = Number(before[names.attempts] ?? 0);
  return {
    [names.topic]: source.topic,
    [names.partition]: String(source.partition),
    [names.offset]: source.unreadable?.firstOffset ?? source.offset,
    ...(source.unreadable ? { [names.lastOffset]: source.unreadable.lastOffset } : {}),
    [names.errorCode]: code,
    [names.errorMessage]: reason.slice(0, DEAD_LETTER_REASON_MAX),
    [names.firstFailedAt]: before[names.firstFailedAt] ?? now.toISOString(),
    [names.attempts]: String(
      Number.isSafeInteger(attemptsBefore) && attemptsBefore > 0 ? attemptsBefore + 1 : 1,
    ),
  };
}

/** The dead letter of a message: its key, value and headers as they were, and why it is here. */
export function deadLetter(
  source: IncomingMessage,
  topic: string,
  code: DeadLetterCode,
  reason: string,
): OutgoingMessage {
  const { key, value, headers } = source;
  return { topic, key, value, headers: { ...headers, ...deadLetterHeaders(source, code, reason) } };
}

/**
 * Puts a message on its topic's DLQ (or on `options.topic`); resolves when all in-sync replicas have it. Not
 * idempotent: repeated after a crash it may leave a second dead letter, and redriving both changes nothing twice.
 * @throws NotQueuedError when the brokers did not acknowledge; the caller must then not pass over the message.
 */
export async function sendDeadLetter(
  producer: Pick<MessageProducer, 'send'>,
  config: Config,
  source: IncomingMessage,
  code: DeadLetterCode,
  reason: string,
  options: { topic?: string } = {},
): Promise<void> {
  const topic = options.topic ?? deadLetterTopic(config, source.topic);
  await producer.send(deadLetter(source, topic, code, reason));
  metrics.deadLetters.inc({ topic: source.topic, code });
}

/**
 * Puts a message that a workflow refuses on its topic's DLQ, byte for byte as it lies in Kafka. When it does not lie
 * there any more (its time of retention is over, the topic was created again), what was read of it goes there in its place,
 * with a header that says so: nothing that was accepted vanishes.
 * @throws when the brokers can't be read or did not acknowledge; repeating it may leave a second dead letter.
 */
export async function deadLetterRefused(
  deps: {
    reader: Pick<MessageReader, 'read'>;
    producer: Pick<MessageProducer, 'send'>;
    config: Config;
    log: Logger;
  },
  { source, code, reason, key, decided }: RefusedMessage,
): Promise<void> {
  const { reader, producer, config, log } = deps;
  const { topic, partition, offset } = source;
  const found = await reader.read(source);
  if (!('lost' in found)) return sendDeadLetter(producer, config, found, code, reason);
  log.warn(
    { topic, partition, offset, code, lost: found.lost },
    'a message to be dead-lettered is lost; what was read of it is dead-lettered in its place',
  );
  const headers = {
    ...(typeof decided['correlationId'] === 'string' && {
      [HEADERS.correlationId]: decided['correlationId'],
    }),
    ...deadLetterHeaders({ ...source, headers: {} }, code, reason),
    [HEADERS.deadLetter.lost]: found.lost,
  };
  await producer.send({
    topic: deadLetterTopic(config, topic),
    key,
    value: JSON.stringify({ ...decided, source }),
    headers,
  });
  metrics.deadLetters.inc({ topic, code });
}
