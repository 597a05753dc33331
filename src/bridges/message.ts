import { isUtf8 } from 'node:buffer';
import type { IHeaders } from 'kafkajs';
import type { z } from 'zod';
import type { DeadLetterCode } from '../contracts/errors';
import type { SourceMessage } from '../contracts/workflows';
import { headersToStrings } from '../platform/kafka';
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

/**
 * The message in the form that workflows carry: JSON. Bytes that text would lose are there in base64 too, so that a
 * dead letter has key, value and headers as they were.
 */
export function toSourceMessage(message: IncomingMessage): SourceMessage {
  const { topic, partition, offset, key } = message;
  return {
    topic,
    partition,
    offset,
    key: key?.toString('utf8') ?? null,
    ...(key === null || isText(key) ? {} : { keyBase64: key.toString('base64') }),
    valueBase64: message.value?.toString('base64') ?? '',
    headers: headersToStrings(message.headers),
    ...(Object.values(message.headers).every(isText)
      ? {}
      : { headersBase64: headersToBase64(message.headers) }),
  };
}

/** Whether a key or header is one value that is the same after it was text. */
function isText(value: IHeaders[string]): boolean {
  return typeof value === 'string' || (Buffer.isBuffer(value) && isUtf8(value));
}

/** Every value of every header, a repeated one once for each. */
export function headersToBase64(headers: IHeaders): [name: string, valueBase64: string][] {
  return Object.entries(headers).flatMap(([name, given]) =>
    [given ?? []].flat().map((value): [string, string] => [name, Buffer.from(value).toString('base64')]),
  );
}

/** The headers, key and value of a message that a workflow carried, as bytes. */
export function fromSourceMessage(source: SourceMessage): Pick<IncomingMessage, 'key' | 'value' | 'headers'> {
  const { key, keyBase64, headers, headersBase64 } = source;
  const bytes = (base64: string) => Buffer.from(base64, 'base64');
  const repeated = new Map<string, Buffer[]>();
  for (const [name, value] of headersBase64 ?? [])
    repeated.set(name, [...(repeated.get(name) ?? []), bytes(value)]);
  return {
    key: keyBase64 === undefined ? (key === null ? null : Buffer.from(key)) : bytes(keyBase64),
    value: bytes(source.valueBase64),
    headers: headersBase64 ? Object.fromEntries(repeated) : headers,
  };
}

/** Bytes that a message takes on the wire, near enough for limits. */
export function messageBytes({ key, value, headers }: IncomingMessage): number {
  let bytes = (key?.length ?? 0) + (value?.length ?? 0);
  for (const [name, given] of Object.entries(headers))
    for (const each of Array.isArray(given) ? given : [given])
      bytes += Buffer.byteLength(name) + (each === undefined ? 0 : Buffer.byteLength(each));
  return bytes;
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** @throws PoisonMessage invalid_json when the value is missing, not UTF-8 or not JSON. */
export function parseJson({ value }: IncomingMessage): { text: string; json: unknown } {
  if (value === null) throw new PoisonMessage('invalid_json', 'the message has no value');
  try {
    const text = utf8.decode(value);
    return { text, json: JSON.parse(text) as unknown };
  } catch (error) {
    throw new PoisonMessage('invalid_json', error instanceof Error ? error.message : String(error));
  }
}

/** @throws PoisonMessage invalid_message that names every field that is wrong. */
export function parseWith<T extends z.ZodType>(schema: T, json: unknown): z.output<T> {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const mistakes = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'value'}: ${issue.message}`);
  throw new PoisonMessage('invalid_message', mistakes.join('; '));
}
