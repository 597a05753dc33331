import type { IHeaders } from 'kafkajs';
import type { z } from 'zod';
import type { DeadLetterCode } from '../contracts/errors';
import { decodeJson, JsonError, MAX_LEVELS, parseExactly } from '../contracts/json';
import type { MessageRef } from '../contracts/workflows';
import { messageDigest } from '../platform/message-reader';
import type { UnreadableBatch } from '../platform/record-batch';

/** A Kafka message as a stream's handler gets it: raw, so that a dead letter can repeat it byte for byte. */
export interface IncomingMessage {
  topic: string;
  partition: number;
  offset: string;
  key: Buffer | null;
  value: Buffer | null;
  headers: IHeaders;
  /** The producer's or broker's time, milliseconds since 1970. */
  timestampMs: number;
  /** Set when it stands for a batch that could not be read: `offset` is the last of it, `value` its bytes. */
  unreadable?: UnreadableBatch;
}

/** Thrown by a handler for a message that will never be right: it goes to the DLQ and the partition goes on. */
export class PoisonMessage extends Error {
  constructor(
    readonly code: DeadLetterCode,
    message: string,
  ) {
    super(message);
    this.name = 'PoisonMessage';
  }
}

/** What workflows carry of the message: where it lies, and what it is. */
export function toMessageRef(message: IncomingMessage): MessageRef {
  const { topic, partition, offset, timestampMs } = message;
  return { topic, partition, offset, timestampMs, sha256: messageDigest(message) };
}

/** Bytes that a message takes on the wire, near enough for limits. */
export function messageBytes({ key, value, headers }: IncomingMessage): number {
  let bytes = (key?.length ?? 0) + (value?.length ?? 0);
  for (const [name, given] of Object.entries(headers))
    for (const each of Array.isArray(given) ? given : [given])
      bytes += Buffer.byteLength(name) + (each === undefined ? 0 : Buffer.byteLength(each));
  return bytes;
}

/**
 * What the value says, its numbers as they were written (`parseExactly`).
 * @throws PoisonMessage invalid_json when the value is missing, not UTF-8 or not JSON.
 */
export function parseJson({ value }: IncomingMessage): unknown {
  if (value === null) throw new PoisonMessage('invalid_json', 'the message has no value');
  try {
    // An envelope puts what the API took one level deeper.
    return parseExactly(decodeJson(value), MAX_LEVELS + 1);
  } catch (error) {
    if (error instanceof JsonError) throw new PoisonMessage('invalid_json', `the value ${error.message}`);
    throw error;
  }
}

/** @throws PoisonMessage invalid_message that names every field that is wrong. */
export function parseWith<T extends z.ZodType>(schema: T, json: unknown): z.output<T> {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const mistakes = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'value'}: ${issue.message}`);
  throw new PoisonMessage('invalid_message', mistakes.join('; '));
}
