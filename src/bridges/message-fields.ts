import { createHash, randomUUID } from 'node:crypto';
import stringify from 'safe-stable-stringify';
import { CORRELATION_ID } from '../contracts/http';
import { HEADERS } from '../contracts/messages';
import { AmountError, parseMajorAmount } from '../contracts/money';
import { PoisonMessage, type IncomingMessage } from './message';

/** What every bridge reads of a message in the same way: its amount, its headers, its identity. */

/** Ids that providers send are stored and indexed: anything longer or unprintable is no id. */
const PROVIDER_EVENT_ID = /^[\x21-\x7e]{1,256}$/;

/** @throws PoisonMessage amount_invalid. @returns minor units as a decimal string. */
export function exactAmount(amount: number | string, currency: string): string {
  try {
    return parseMajorAmount(amount, currency).toString();
  } catch (error) {
    if (error instanceof AmountError) throw new PoisonMessage('amount_invalid', error.message);
    throw error;
  }
}

/** The caller's correlation id; undefined where there is none that we accept. */
export function givenCorrelationId(headers: Record<string, string>): string | undefined {
  const given = headers[HEADERS.correlationId];
  return given !== undefined && CORRELATION_ID.test(given) ? given : undefined;
}

/** The same, or a new one. */
export function correlationId(headers: Record<string, string>): string {
  return givenCorrelationId(headers) ?? randomUUID();
}

/** @throws PoisonMessage when there is an id that can't be one: ignoring it could let a duplicate through. */
export function providerEventId(headers: Record<string, string>): string | undefined {
  const given = headers[HEADERS.providerEventId];
  if (given === undefined || PROVIDER_EVENT_ID.test(given)) return given;
  throw new PoisonMessage(
    'invalid_message',
    `${HEADERS.providerEventId} must be 1 to 256 printable ASCII characters`,
  );
}

/**
 * When remit first had the event: the API says so in a header; otherwise it is the time of the Kafka message. Never in
 * the future: how long an event waits for its transaction counts from here.
 */
export function receivedAt({ timestampMs }: IncomingMessage, headers: Record<string, string>): string {
  const givenMs = Date.parse(headers[HEADERS.receivedAt] ?? '');
  const atMs = Number.isNaN(givenMs) ? timestampMs : givenMs;
  const nowMs = Date.now();
  return new Date(atMs >= 0 && atMs < nowMs ? atMs : nowMs).toISOString();
}

/**
 * SHA-256, hex, of the event in canonical JSON (sorted keys), its amount in minor units: the same event written
 * otherwise (100, "100.00", other white space) is a duplicate, one that says something else a conflict.
 */
export function payloadHash(event: Record<string, unknown>): string {
  return createHash('sha256')
    .update(stringify(event) ?? '')
    .digest('hex');
}
