import { createHash, randomUUID } from 'node:crypto';
import type { Client } from '@temporalio/client';
import { defineSearchAttributeKey, TypedSearchAttributes } from '@temporalio/common';
import stringify from 'safe-stable-stringify';
import { CORRELATION_ID } from '../contracts/http';
import { DecardEvent, HEADERS } from '../contracts/messages';
import { AmountError, parseMajorAmount } from '../contracts/money';
import {
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type PaymentWorkflowInput,
  type ProviderEvent,
} from '../contracts/workflows';
import type { Config } from '../platform/config';
import { headersToStrings } from '../platform/kafka';
import type { Provider } from '../platform/topics';
import { parseJson, parseWith, PoisonMessage, toMessageRef, type IncomingMessage } from './message';
import { takenByTemporal } from './temporal-start';

/** What each provider's events look like; a new provider is a line here. */
const EVENT = { decard: DecardEvent } as const satisfies Record<Provider, unknown>;

/** Ids that providers send are stored and indexed: anything longer or unprintable is no id. */
const PROVIDER_EVENT_ID = /^[\x21-\x7e]{1,256}$/;
const RemitProvider = defineSearchAttributeKey('RemitProvider', 'KEYWORD');

/**
 * Reads an event from a provider's topic, whoever produced it: the API or the provider's own worker.
 * @throws PoisonMessage invalid_json, invalid_message, unknown_provider (the event names another one than the topic),
 * amount_invalid.
 */
export function parseProviderEvent(provider: Provider, message: IncomingMessage): ProviderEvent {
  const json = parseJson(message);
  const named = (json as { provider?: unknown } | null)?.provider;
  if (typeof named === 'string' && named !== provider)
    throw new PoisonMessage(
      'unknown_provider',
      `the event is of ${named.slice(0, 100)}, the topic of ${provider}`,
    );
  const event = parseWith(EVENT[provider], json);
  const amountMinor = exactAmount(event.amount, event.currency);
  const headers = headersToStrings(message.headers);
  const given = eventId(headers);
  const { transactionId, type, status, currency } = event;
  return {
    provider,
    providerEventId: given ?? `${transactionId}:${type}:${status}`,
    transactionId,
    type,
    status,
    amountMinor,
    currency,
    // Without an id of the provider's, a repetition may carry other extras (a time, a count of attempts): what it says
    // of the transaction is what counts.
    payloadHash: payloadHash({
      ...(given === undefined ? { provider, transactionId, type, status, currency } : event),
      amount: amountMinor,
    }),
    receivedAt: receivedAt(message, headers),
    correlationId: correlationId(headers),
    source: toMessageRef(message),
  };
}

/** @throws PoisonMessage amount_invalid. @returns minor units as a decimal string. */
export function exactAmount(amount: number | string, currency: string): string {
  try {
    return parseMajorAmount(amount, currency).toString();
  } catch (error) {
    if (error instanceof AmountError) throw new PoisonMessage('amount_invalid', error.message);
    throw error;
  }
}

/** The caller's correlation id, or a new one where there is none that we accept. */
export function correlationId(headers: Record<string, string>): string {
  const given = headers[HEADERS.correlationId];
  return given !== undefined && CORRELATION_ID.test(given) ? given : randomUUID();
}

/** @throws PoisonMessage when there is an id that can't be one: ignoring it could let a duplicate through. */
function eventId(headers: Record<string, string>): string | undefined {
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

/**
 * The handler of a provider's topic: every event of a payment reaches that payment's one workflow. An id may be used
 * again after its workflow closed, so that a late or repeated event opens a short run; whether it changes anything is
 * the database's to judge. Repeating it (a redelivery after a crash) signals once more and is a duplicate there.
 */
export function paymentHandler(
  client: Client,
  provider: Provider,
  config: Pick<Config, 'BRIDGE_START_TIMEOUT_MS'>,
): (message: IncomingMessage) => Promise<void> {
  return async (message) => {
    const event = parseProviderEvent(provider, message);
    const { transactionId } = event;
    const input: PaymentWorkflowInput = { provider, transactionId };
    await takenByTemporal(client, config.BRIDGE_START_TIMEOUT_MS, () =>
      client.workflow.signalWithStart(WORKFLOWS.payment, {
        workflowId: workflowId.payment(provider, transactionId),
        taskQueue: TASK_QUEUES.payments,
        args: [input],
        signal: SIGNALS.providerEvent,
        signalArgs: [event],
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        typedSearchAttributes: new TypedSearchAttributes([{ key: RemitProvider, value: provider }]),
        memo: { correlationId: event.correlationId },
      }),
    );
  };
}
