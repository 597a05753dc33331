import { createHash, randomUUID } from 'node:crypto';
import type { Client } from '@temporalio/client';
import { defineSearchAttributeKey, TypedSearchAttributes } from '@temporalio/common';
import stringify from 'safe-stable-stringify';
import { CORRELATION_ID } from '../contracts/http';
import { HEADERS } from '../contracts/messages';
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
import { PoisonMessage, type IncomingMessage } from './message';
import { takenByTemporal } from './temporal-start';

/** Ids that providers send are stored and indexed: anything longer or unprintable is no id. */
const PROVIDER_EVENT_ID = /^[\x21-\x7e]{1,256}$/;
const RemitProvider = defineSearchAttributeKey('RemitProvider', 'KEYWORD');

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

/**
 * Hands a provider's event to the payment's one workflow. An id may be used again after its workflow closed, so that a late
 * or repeated event opens a short run; whether it changes anything is the database's to judge. Repeating it (a redelivery
 * after a crash) signals once more and is a duplicate there.
 */
export async function signalPayment(
  client: Client,
  config: Pick<Config, 'BRIDGE_START_TIMEOUT_MS'>,
  event: ProviderEvent,
): Promise<void> {
  const { provider, transactionId } = event;
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
}
