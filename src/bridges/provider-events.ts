import type { Client } from '@temporalio/client';
import { disputeIdOf, HEADERS, toLine } from '../contracts/messages';
import { Timestamp } from '../contracts/times';
import type {
  DisputeEvent as DisputeSignal,
  OrderEvent as OrderSignal,
  ProviderEvent as PaymentSignal,
} from '../contracts/workflows';
import type { Config } from '../platform/config';
import { headersToStrings } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { idsOf } from '../contracts/tracing';
import { metrics } from '../platform/metrics';
import { annotate } from '../platform/tracing';
import { signalDispute, signalOrder, signalPayment } from '../platform/workflow-starts';
import { BodyError, type Provider, type ProviderEvent, type UnhandledEvent } from '../providers/provider';
import { PoisonMessage, toMessageRef, type IncomingMessage } from './message';
import { correlationId, payloadHash, providerEventId, receivedAt } from './message-fields';
import { takenByTemporal } from './temporal-start';

const REASON_MAX_CHARACTERS = 500;
const TYPE_MAX_CHARACTERS = 64;
/** Providers add types as they like, and every value of a label is a time series for good. */
const TYPES_MAX = 200;

/** An event as its workflow gets it, or what remit does nothing on. */
export type ReadEvent =
  | { to: 'payment'; event: PaymentSignal }
  | { to: 'order'; event: OrderSignal }
  | { to: 'dispute'; event: DisputeSignal }
  | { to: 'nobody'; event: UnhandledEvent };

/**
 * Reads what a message on a provider's topic says, whoever produced it: the API, one message for each event of a body, or
 * the provider's own worker, all of them in one.
 * @throws PoisonMessage invalid_json, invalid_message, unknown_provider (the event names another one than the topic),
 * amount_invalid.
 */
export function readProviderEvents(provider: Provider, message: IncomingMessage): ReadEvent[] {
  const headers = headersToStrings(message.headers);
  const events = eventsOf(provider, message, providerEventId(headers));
  const index = headers[HEADERS.eventIndex];
  const common = {
    provider: provider.name,
    receivedAt: receivedAt(message, headers),
    correlationId: correlationId(headers),
    source: toMessageRef(message),
  };
  if (index === undefined) return events.map((event) => toSignal(event, common));
  const chosen = /^\d{1,6}$/.test(index) ? events[Number(index)] : undefined;
  if (chosen === undefined)
    throw new PoisonMessage('invalid_message', `${HEADERS.eventIndex} names no event of the body`);
  return [toSignal(chosen, common)];
}

function eventsOf(
  provider: Provider,
  { value }: IncomingMessage,
  webhookId: string | undefined,
): ProviderEvent[] {
  if (value === null) throw new PoisonMessage('invalid_json', 'the message has no value');
  try {
    return provider.events(value, webhookId);
  } catch (error) {
    if (!(error instanceof BodyError)) throw error;
    const mistakes = error.fields.map(({ path, message }) => `${path || 'value'}: ${message}`);
    throw new PoisonMessage(error.code, mistakes.join('; '));
  }
}

type Common = Pick<PaymentSignal, 'provider' | 'receivedAt' | 'correlationId' | 'source'>;

function toSignal(event: ProviderEvent, common: Common): ReadEvent {
  if (event.kind === 'unhandled') return { to: 'nobody', event };
  const { kind, status, currency, eventId: id, content } = event;
  const amountMinor = event.amountMinor === null ? null : String(event.amountMinor);
  const decides = { provider: common.provider, kind, status, amountMinor, currency };
  const hash = (ids: Record<string, string>) => payloadHash(content ?? { ...decides, ...ids });
  const same = { ...common, providerEventId: id };
  switch (event.kind) {
    case 'payment':
    case 'payout': {
      const { transactionId, status, currency } = event;
      return {
        to: 'payment',
        event: {
          ...same,
          transactionId,
          type: event.kind,
          status,
          amountMinor: String(event.amountMinor),
          currency,
          payloadHash: hash({ transactionId }),
        },
      };
    }
    case 'order': {
      const { orderId, userId, status, currency } = event;
      return {
        to: 'order',
        event: {
          ...same,
          orderId,
          userId,
          status,
          amountMinor: String(event.amountMinor),
          currency,
          payloadHash: hash({ orderId }),
        },
      };
    }
    case 'dispute': {
      const { orderId, status, currency } = event;
      const disputeId = disputeIdOf(common.provider, event.disputeId);
      return {
        to: 'dispute',
        event: {
          ...same,
          orderId,
          disputeId,
          status,
          amountMinor,
          currency,
          reason: toLine(event.reason, REASON_MAX_CHARACTERS),
          evidenceDueBy: Timestamp.nullable().safeParse(event.evidenceDueBy).data ?? null,
          payloadHash: hash({ orderId, disputeId }),
        },
      };
    }
  }
}

/** The handler of a provider's topic: each event reaches the one workflow of what it is about. */
export function providerHandler(
  client: Client,
  provider: Provider,
  config: Pick<Config, 'BRIDGE_START_TIMEOUT_MS'>,
  log: Logger,
): (message: IncomingMessage) => Promise<void> {
  const typeLabel = boundedLabel();
  const hand = (signal: () => Promise<void>) =>
    takenByTemporal(client, config.BRIDGE_START_TIMEOUT_MS, signal);
  return async (message) => {
    for (const { to, event } of readProviderEvents(provider, message)) {
      annotate(() => ({ ...idsOf(event), 'remit.provider': provider.name }));
      switch (to) {
        case 'payment':
          await hand(() => signalPayment(client, event));
          break;
        case 'order':
          await hand(() => signalOrder(client, event));
          break;
        case 'dispute':
          await hand(() => signalDispute(client, event));
          break;
        case 'nobody':
          metrics.providerEventsUnhandled.inc({ provider: provider.name, type: typeLabel(event.type) });
          log.debug(
            { provider: provider.name, type: event.type, eventId: event.eventId, reason: event.reason },
            'nothing is done on a provider’s event',
          );
      }
    }
  };
}

/** A provider's words as values of a label: of known characters, short, and not without end many. */
function boundedLabel(): (type: string) => string {
  const seen = new Set<string>();
  return (type) => {
    const label = type.replaceAll(/[^A-Za-z0-9._-]/g, '_').slice(0, TYPE_MAX_CHARACTERS);
    if (seen.size < TYPES_MAX) seen.add(label);
    return seen.has(label) ? label : 'other';
  };
}
