import type { Config } from './config';

/** Topic of a provider's webhooks. */
export function paymentWebhookTopic(config: Config, provider: string): string {
  return config.TOPIC_PAYMENT_WEBHOOK_PREFIX + provider;
}

/** Dead-letter topic of a topic that a bridge reads. */
export function deadLetterTopic(config: Config, topic: string): string {
  return topic === config.TOPIC_PURCHASES ? config.TOPIC_PURCHASES_DLQ : `${topic}.dlq`;
}

/**
 * The bridge's consumer groups and what each reads: where they are moved back to, messages are handled once more
 * (`remit recover`).
 */
export function bridgeGroups(config: Config): { group: string; topic: string }[] {
  const named: [name: string, topic: string][] = [
    ...config.providers.map(({ name }): [string, string] => [
      `payments.${name}`,
      paymentWebhookTopic(config, name),
    ]),
    ['payment-requests', config.TOPIC_PAYMENT_REQUEST],
    ['order-webhooks', config.TOPIC_WEBHOOKS_ORDERS],
    ['events', config.TOPIC_EVENTS],
    ['disputes', config.TOPIC_WEBHOOKS_DISPUTES],
  ];
  return named.map(([name, topic]) => ({ group: `${config.KAFKA_GROUP_PREFIX}.${name}`, topic }));
}

/** Topics whose messages workflows refer to: they are read once more when one is to be dead-lettered. */
export function readBackTopics(config: Config): string[] {
  return [
    ...config.providers.map(({ name }) => paymentWebhookTopic(config, name)),
    config.TOPIC_WEBHOOKS_ORDERS,
    config.TOPIC_WEBHOOKS_DISPUTES,
    config.TOPIC_PAYMENT_REQUEST,
    config.TOPIC_EVENTS,
  ];
}

/** Every topic that `remit migrate` creates: the ones bridges read, each with its dead-letter topic, and the others. */
export function allTopics(config: Config): string[] {
  const read = [...readBackTopics(config), config.TOPIC_PURCHASES, config.TOPIC_DOMAIN_EVENTS];
  return [
    ...read.flatMap((topic) => [topic, deadLetterTopic(config, topic)]),
    config.TOPIC_PAYMENT_STATUS,
    config.TOPIC_WEBHOOK_DELIVERY_DLQ,
  ];
}
