import { z } from 'zod';
import { DEAD_LETTER_CODES } from './errors';
import { EventMessage, PublishMessage } from './events';
import {
  ChargebackWebhook,
  DomainEvent,
  Envelope,
  HEADERS,
  OrderWebhook,
  PaymentRequestEvent,
  PaymentStatusEvent,
} from './messages';
import { Purchase } from './purchases';
import { DeliveryDeadLetter, TEST_EVENT_TYPE, WEBHOOK_EVENT_TYPES, WebhookBody } from './webhooks';

/** A topic as AsyncAPI describes it. */
interface Channel {
  /** Stable name in the document; topics can be renamed by configuration. */
  name: string;
  description: string;
  key: string;
  /** By message name; undefined for dead letters, whose value is whatever came. */
  messages: Record<string, z.ZodType | undefined>;
  /** What remit does with it. `receive`: reads it. */
  actions: readonly ('send' | 'receive')[];
}

/** Topic names of a configuration, by the names that the channels have here. */
export interface TopicNames {
  /** By provider; `body` is left out where the provider's own documentation has it. */
  payments: Record<string, { topic: string; title: string; documentation: string; body?: z.ZodType }>;
  orderWebhooks: string;
  disputeWebhooks: string;
  paymentRequest: string;
  paymentStatus: string;
  events: string;
  domainEvents: string;
  deliveryDeadLetters: string;
  purchases: string;
  /** The dead-letter topic of a topic. */
  deadLettersOf: (topic: string) => string;
}

const COMPONENTS = '#/components/schemas/';

/** The named schemas (zod's `id`) as JSON Schema, with every named schema that they refer to. */
function componentsOf(names: readonly string[]): Record<string, unknown> {
  const { schemas } = z.toJSONSchema(z.globalRegistry, {
    target: 'draft-7',
    io: 'input',
    unrepresentable: 'any',
    uri: (id) => COMPONENTS + id,
  });
  const components: Record<string, unknown> = {};
  const add = (name: string): void => {
    if (name in components) return;
    const { $schema: _schema, $id: _uri, id: _id, ...schema } = schemas[name] as Record<string, unknown>;
    components[name] = schema;
    for (const [, other] of JSON.stringify(schema).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g))
      if (other !== undefined) add(other);
  };
  names.forEach(add);
  return components;
}

const text = (description: string) => ({ type: 'string', description });
const COMMON_HEADERS = {
  [HEADERS.correlationId]: text('correlation id; a new one is made when it is missing'),
  [HEADERS.traceparent]: text(
    'W3C traceparent of the span that sent it, where that was traced; what the message causes goes on in its trace',
  ),
};
const DEAD_LETTER_HEADERS = {
  type: 'object',
  required: [HEADERS.deadLetter.errorCode],
  properties: {
    [HEADERS.deadLetter.topic]: text('topic that the message was read from'),
    [HEADERS.deadLetter.partition]: text('its partition'),
    [HEADERS.deadLetter.offset]: text('its offset'),
    [HEADERS.deadLetter.lastOffset]: text(
      'only of `unreadable_batch`: the last offset that could not be read',
    ),
    [HEADERS.deadLetter.errorCode]: { ...text('why it was refused'), enum: [...DEAD_LETTER_CODES] },
    [HEADERS.deadLetter.errorMessage]: text('the same in words'),
    [HEADERS.deadLetter.firstFailedAt]: text('ISO 8601'),
    [HEADERS.deadLetter.attempts]: text('how often it was tried'),
    [HEADERS.deadLetter.lost]: text(
      'only when the message could not be read any more: why. The value is then what remit had read of it',
    ),
    ...COMMON_HEADERS,
  },
};

// Made once: zod refuses a second schema under an id.
function envelopeOf(id: string, type: 'order.webhook' | 'dispute.webhook', payload: z.ZodType): z.ZodType {
  return Envelope.extend({ type: z.literal(type), payload }).meta({ id });
}
const OrderEnvelope = envelopeOf('OrderEnvelope', 'order.webhook', OrderWebhook);
const DisputeEnvelope = envelopeOf('DisputeEnvelope', 'dispute.webhook', ChargebackWebhook);

function channels(topics: TopicNames): (Channel & { topic: string })[] {
  const read: (Channel & { topic: string })[] = [
    ...Object.entries(topics.payments).map(([provider, { topic, title, documentation, body }]) => ({
      topic,
      name: `paymentWebhooks_${provider}`,
      description: `Webhooks of ${title}, as they came: from the API, or from the provider's own worker. See ${documentation}. Where a body holds several events, each has a message, and the header remit-event-index says which it is.`,
      key: 'id of the payment, payout or order',
      messages: { [body?.meta()?.id ?? `${provider}Webhook`]: body },
      actions: ['send', 'receive'] as const,
    })),
    {
      topic: topics.orderWebhooks,
      name: 'orderWebhooks',
      description: 'Order webhooks in an envelope; its payload is an OrderWebhook.',
      key: 'order_id',
      messages: { OrderEnvelope },
      actions: ['send', 'receive'],
    },
    {
      topic: topics.disputeWebhooks,
      name: 'disputeWebhooks',
      description: 'Chargeback webhooks in an envelope; its payload is a ChargebackWebhook.',
      key: 'order_id',
      messages: { DisputeEnvelope },
      actions: ['send', 'receive'],
    },
    {
      topic: topics.paymentRequest,
      name: 'paymentRequests',
      description: 'Orders that ask to be paid from their user’s balance.',
      key: 'orderId',
      messages: { PaymentRequestEvent },
      actions: ['send', 'receive'],
    },
    {
      topic: topics.events,
      name: 'events',
      description:
        'Events to be delivered. EventMessage comes from remit: the event is stored, and read from the database when it is delivered. PublishMessage comes from any producer that may write here: it is checked, stored and delivered as if it came by POST /api/v1/events, once for each clientId of a tenant. Whoever may write here publishes as any tenant.',
      key: 'event id; of a PublishMessage whatever its producer likes: messages of one key are stored in their order',
      messages: { EventMessage, PublishMessage },
      actions: ['send', 'receive'],
    },
    {
      topic: topics.purchases,
      name: 'purchases',
      description: 'Purchases for ClickHouse.',
      key: 'purchase id',
      messages: { Purchase },
      actions: ['receive'],
    },
    {
      topic: topics.domainEvents,
      name: 'domainEvents',
      description: 'Every state change, for analytics and other systems.',
      key: 'aggregate id',
      messages: { DomainEvent },
      actions: ['send', 'receive'],
    },
  ];
  return [
    ...read.flatMap((channel) => [
      channel,
      {
        topic: topics.deadLettersOf(channel.topic),
        name: `${channel.name}DeadLetters`,
        description: `Messages of ${channel.topic} that can't be handled: key, value and headers as they came, with the reason in headers.`,
        key: 'as it came',
        messages: { [`${channel.name}DeadLetter`]: undefined },
        actions: ['send'] as const,
      },
    ]),
    {
      topic: topics.paymentStatus,
      name: 'paymentStatus',
      description: 'What became of payment requests.',
      key: 'orderId',
      messages: { PaymentStatusEvent },
      actions: ['send'],
    },
    {
      topic: topics.deliveryDeadLetters,
      name: 'deliveryDeadLetters',
      description: 'Webhook deliveries that were given up.',
      key: 'subscription id',
      messages: { DeliveryDeadLetter },
      actions: ['send'],
    },
  ];
}

/** Webhooks to subscribers, as well as the topics: the same document tells a subscriber what comes. */
function webhookChannel() {
  return {
    address: null,
    title: 'Webhooks to subscribers',
    description: `POST to the URL of a subscription, signed to the Standard Webhooks specification. Types of remit itself: ${[...WEBHOOK_EVENT_TYPES, TEST_EVENT_TYPE].join(', ')}; others are published by tenants.`,
    servers: [{ $ref: '#/servers/subscriber' }],
    messages: {
      Webhook: {
        name: 'Webhook',
        contentType: 'application/json',
        headers: {
          type: 'object',
          required: ['webhook-id', 'webhook-timestamp', 'webhook-signature'],
          properties: {
            'webhook-id': text('id of the event, the same in every attempt'),
            'webhook-timestamp': text('seconds since 1970, of this attempt'),
            'webhook-signature': text(
              'v1,<base64>; two of them, separated by a space, while a secret is being rotated',
            ),
            traceparent: text('W3C traceparent of this attempt, where remit traces; not signed'),
          },
        },
        payload: { $ref: `${COMPONENTS}${WebhookBody.meta()?.id ?? ''}` },
      },
    },
  };
}

/** The AsyncAPI 3.0 document of every topic, generated from the schemas that bridges and producers check with. */
export function asyncApiDocument(topics: TopicNames): Record<string, unknown> {
  const all = channels(topics);
  const named = all.flatMap(({ messages }) => Object.keys(messages).filter((name) => messages[name]));
  const schemas = componentsOf([...named, WebhookBody.meta()?.id ?? '']);
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'remit events',
      version: '1.0.0',
      description:
        'Kafka topics of remit, by their default names (each is configurable), and the webhooks to subscribers. Generated from the code: npm run generate.',
      license: { name: 'Apache-2.0' },
    },
    defaultContentType: 'application/json',
    servers: {
      kafka: { host: 'localhost:9092', protocol: 'kafka', description: 'KAFKA_BROKERS' },
      subscriber: { host: 'subscriber.example', protocol: 'https', description: 'the URL of a subscription' },
    },
    channels: Object.fromEntries([
      ...all.map((channel) => [channel.name, channelOf(channel)] as const),
      ['webhooks', webhookChannel()],
    ]),
    operations: Object.fromEntries([
      ...all.flatMap(({ name, messages, actions }) =>
        actions.map((action) => [
          `${action}_${name}`,
          {
            action,
            channel: { $ref: `#/channels/${name}` },
            messages: Object.keys(messages).map((message) => ({
              $ref: `#/channels/${name}/messages/${message}`,
            })),
          },
        ]),
      ),
      [
        'send_webhooks',
        {
          action: 'send',
          channel: { $ref: '#/channels/webhooks' },
          messages: [{ $ref: '#/channels/webhooks/messages/Webhook' }],
        },
      ],
    ]),
    components: { schemas },
  };
}

function channelOf({ topic, description, key, messages }: Channel & { topic: string }) {
  return {
    address: topic,
    description,
    servers: [{ $ref: '#/servers/kafka' }],
    messages: Object.fromEntries(
      Object.entries(messages).map(([name, schema]) => [
        name,
        {
          name,
          contentType: 'application/json',
          headers: schema ? { type: 'object', properties: COMMON_HEADERS } : DEAD_LETTER_HEADERS,
          // A dead letter's value is whatever came.
          payload: schema ? { $ref: COMPONENTS + name } : {},
          bindings: { kafka: { key: { type: 'string', description: key } } },
        },
      ]),
    ),
  };
}
