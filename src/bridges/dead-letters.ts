import type { IHeaders } from 'kafkajs';
import type { DeadLetterCode } from '../contracts/errors';
import { HEADERS } from '../contracts/messages';
import type { SourceMessage } from '../contracts/workflows';
import type { Config } from '../platform/config';
import { headersToStrings, type MessageProducer, type OutgoingMessage } from '../platform/kafka';
import { metrics } from '../platform/metrics';
import { deadLetterTopic } from '../platform/topics';
import { fromSourceMessage, type IncomingMessage } from './message';

/** Longer explanations are cut: a header is no place for a document. */
const MAX_REASON_CHARACTERS = 1_000;

type Position = Pick<SourceMessage, 'topic' | 'partition' | 'offset'> & Pick<IncomingMessage, 'unreadable'>;

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
    [names.errorMessage]: reason.slice(0, MAX_REASON_CHARACTERS),
    [names.firstFailedAt]: before[names.firstFailedAt] ?? now.toISOString(),
    [names.attempts]: String(
      Number.isSafeInteger(attemptsBefore) && attemptsBefore > 0 ? attemptsBefore + 1 : 1,
    ),
  };
}

/** The dead letter of a message: its key, value and headers as they were, and why it is here. */
export function deadLetter(
  source: SourceMessage | IncomingMessage,
  topic: string,
  code: DeadLetterCode,
  reason: string,
): OutgoingMessage {
  const { key, value, headers } = 'valueBase64' in source ? fromSourceMessage(source) : source;
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
  source: SourceMessage | IncomingMessage,
  code: DeadLetterCode,
  reason: string,
  options: { topic?: string } = {},
): Promise<void> {
  const topic = options.topic ?? deadLetterTopic(config, source.topic);
  await producer.send(deadLetter(source, topic, code, reason));
  metrics.deadLetters.inc({ topic: source.topic, code });
}
