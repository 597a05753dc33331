import type { IncomingHttpHeaders } from 'node:http';
import type { z } from 'zod';
import type { DeadLetterCode } from '../contracts/errors';
import type { DisputeStatus, PaymentType, ProviderStatus } from '../contracts/messages';

/**
 * What a payment provider is to remit: one object, in one file of this folder, listed in `registry.ts`. Routes, topics,
 * dead letters, configuration, AsyncAPI, secrets of the embedded stack and metrics follow from the list.
 */
export interface Provider {
  /** In URLs, topics, metrics, workflow ids and clearing accounts: `a-z 0-9 -`. */
  readonly name: string;
  /** For people. */
  readonly title: string;
  /** Where its webhooks are documented. */
  readonly documentation: string;
  readonly contentType: 'application/json' | 'application/x-www-form-urlencoded';
  readonly secret: SecretFormat;
  /** The schema of a body, with an id, where it is remit's to document; otherwise `documentation` has it. */
  readonly body?: z.ZodType;

  /**
   * Checks who sent a webhook, over the raw bytes, in constant time.
   * @param secrets the current secret first, then those that are still good while one rotates; one must match.
   * @returns the id of the webhook, where the signature covers one outside of the body.
   * @throws SignatureError whose message is safe to show to the sender; BodyError.
   */
  verify(
    webhook: IncomingWebhook,
    secrets: readonly string[],
    tools: VerifyTools,
  ): Verified | Promise<Verified>;

  /**
   * Reads what a body says: one event or several, in order. What the provider says of matters that remit does not handle
   * is an event too, of kind `unhandled`. Pure: API and bridge call it on the same bytes.
   * @param webhookId what `verify` returned.
   * @throws BodyError when the body is not one of the provider's.
   */
  events(body: Buffer, webhookId?: string): ProviderEvent[];

  /** What the provider wants to read once its webhook is queued; 202 and our own body when left out. */
  readonly acknowledgement?: { status: 200 | 202; contentType: 'text/plain'; body: string };

  /** Webhooks as the provider sends them, by name, for `remit send`, the demo and the conformance tests. */
  readonly samples: Readonly<Record<string, Sample>>;

  /** Plays the provider: a body in its shape, signed as it signs. Used by samples and tests, never to accept anything. */
  sign(body: string, secret: string, nowMs: number): SignedWebhook;
}

export interface Verified {
  webhookId?: string;
}

/** A webhook as it came: nothing decoded, nothing trusted. */
export interface IncomingWebhook {
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface SignedWebhook {
  headers: Record<string, string>;
  /** With the signature in it, for providers that put it there. */
  body: string;
}

export interface SecretFormat {
  /** What an operator copies from where. */
  description: string;
  schema: z.ZodType<string, string>;
  /** A secret of the right form, for the embedded stack and tests. */
  generate(): string;
}

export interface VerifyTools {
  nowMs: number;
  /** Largest distance of a signed time to `nowMs`, in seconds, into the past and into the future. */
  toleranceS: number;
  /** Fetches a PEM document through the client that refuses private addresses; answers are cached. @throws */
  fetchPem(url: string): Promise<string>;
}

/** What a sample is about: ids and amounts of what exists in remit. */
export interface SampleSubject {
  /** Of the payment, payout or order. */
  id: string;
  userId: string;
  /** Major units, exact: "100.00". */
  amount: string;
  currency: string;
  /** A fresh id for the event; the same id again is the same event. */
  eventId: string;
}

export interface Sample {
  /** What the webhook says, in a line. */
  title: string;
  kind: ProviderEvent['kind'];
  body(subject: SampleSubject): string;
}

interface EventBase {
  /** The provider's own id of this event, or what identifies it: the same again is a duplicate. At most 256 characters. */
  eventId: string;
  /** What else must be the same for a repetition under this id to be a duplicate; left out, what decides is compared. */
  content?: Record<string, unknown>;
}

/** The provider's word on a payment or payout that was created in remit. */
export interface PaymentEvent extends EventBase {
  kind: PaymentType;
  transactionId: string;
  status: ProviderStatus;
  /** Minor units of ISO 4217, whatever the provider's are. */
  amountMinor: bigint;
  currency: string;
}

/** The provider collected the money of an order, or could not. */
export interface OrderEvent extends EventBase {
  kind: 'order';
  orderId: string;
  /** Null when the provider does not say: the order's own user is meant. */
  userId: string | null;
  status: ProviderStatus;
  amountMinor: bigint;
  currency: string;
}

/** A chargeback of an order, or news of one. */
export interface DisputeEvent extends EventBase {
  kind: 'dispute';
  orderId: string;
  /** The provider's own; 1 to 64 of `A-Z a-z 0-9 _ -`. */
  disputeId: string;
  status: DisputeStatus;
  /** Null for the whole order. */
  amountMinor: bigint | null;
  currency: string | null;
  reason: string | null;
  /** ISO 8601 */
  evidenceDueBy: string | null;
}

/** Kept and counted, and nothing is done. */
export interface UnhandledEvent extends EventBase {
  kind: 'unhandled';
  /** The provider's name for it. */
  type: string;
  reason: string;
}

export type ProviderEvent = PaymentEvent | OrderEvent | DisputeEvent | UnhandledEvent;

/** Thrown when a signature does not hold. */
export class SignatureError extends Error {
  override readonly name = 'SignatureError';
}

/** Thrown when a body is not what the provider sends; `path` names the field, `fields` every one that is wrong. */
export class BodyError extends Error {
  override readonly name = 'BodyError';

  constructor(
    readonly path: string,
    message: string,
    readonly code: Extract<
      DeadLetterCode,
      'invalid_json' | 'invalid_message' | 'amount_invalid' | 'unknown_provider'
    > = 'invalid_message',
    readonly fields: readonly { path: string; message: string }[] = [{ path, message }],
  ) {
    super(message);
  }
}

/** The key of an event's Kafka message: what is about one thing stays in order. */
export function subjectOf(event: ProviderEvent): string {
  switch (event.kind) {
    case 'payment':
    case 'payout':
      return event.transactionId;
    case 'order':
    case 'dispute':
      return event.orderId;
    case 'unhandled':
      return event.eventId;
  }
}
