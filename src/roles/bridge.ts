import { startConsumer } from '../bridges/consumer';
import { chargebackHandler } from '../bridges/disputes';
import type { IncomingMessage } from '../bridges/message';
import { orderWebhookHandler } from '../bridges/order-webhooks';
import { paymentRequestHandler } from '../bridges/payment-requests';
import { providerHandler } from '../bridges/provider-events';
import { checkTemporal } from '../platform/temporal';
import { paymentWebhookTopic, readBackTopics } from '../platform/topics';
import type { RoleContext } from './context';

/**
 * Starts the bridges, Kafka to Temporal: one stream for each provider, one for payment requests, one for order webhooks
 * and one for chargebacks, each a consumer group of its own, so that a flood in one does not delay another.
 */
export async function startBridge(context: RoleContext): Promise<void> {
  const { config, kafka, lifecycle } = context;
  const [client, producer] = await Promise.all([
    context.temporalThere(),
    context.producer(),
    context.topicsThere(readBackTopics(config)),
  ]);
  lifecycle.addCheck('temporal', () => checkTemporal(client));

  const streams: { name: string; topic: string; handle: (message: IncomingMessage) => Promise<void> }[] = [
    ...config.providers.map((provider) => ({
      name: `payments.${provider.name}`,
      topic: paymentWebhookTopic(config, provider.name),
      handle: providerHandler(client, provider, config, context.log),
    })),
    {
      name: 'payment-requests',
      topic: config.TOPIC_PAYMENT_REQUEST,
      handle: paymentRequestHandler(client, config),
    },
    {
      name: 'order-webhooks',
      topic: config.TOPIC_WEBHOOKS_ORDERS,
      handle: orderWebhookHandler(client, config),
    },
    { name: 'disputes', topic: config.TOPIC_WEBHOOKS_DISPUTES, handle: chargebackHandler(client, config) },
  ];
  await Promise.all(
    streams.map(({ name, topic, handle }) =>
      startConsumer({
        kafka,
        producer,
        config,
        log: context.log.child({ stream: name }),
        lifecycle,
        topics: [topic],
        groupName: name,
        handle,
      }),
    ),
  );
}
