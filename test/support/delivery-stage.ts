import { randomUUID } from 'node:crypto';
import { JsonText } from '../../src/contracts/json';
import type { DeliveryRef } from '../../src/contracts/workflows';
import { EventPublisher } from '../../src/domain/event-publisher';
import { EventSchemas } from '../../src/domain/event-schemas';
import { createSubscription } from '../../src/domain/subscriptions';
import type { Database } from '../../src/platform/postgres';
import { createKeyring } from '../../src/platform/secrets';
import { Attempts } from '../../src/webhooks/attempts';
import { createWebhookClient } from '../../src/webhooks/client';
import { FirstAttempts } from '../../src/webhooks/first-attempts';
import { subscriber, type Subscriber } from './subscriber';
import { handOut, playedPolicy } from './deliveries';
import { createTestSpace, openTestDatabase, type TestSpace } from './harness';

const TYPE = 'invoice.paid';

/** A test space with what a process that delivers has, but for Kafka and Temporal; and subscribers. */
export interface DeliveryStage {
  space: TestSpace;
  db: Database;
  /** A tenant that publishes: see createPublisher. */
  publisher: (options?: PublisherOptions) => ReturnType<typeof createPublisher>;
  /** Plays a subscriber until closeSubscribers. */
  subscriber: typeof subscriber;
  closeSubscribers: () => Promise<void>;
  close: () => Promise<void>;
}

export async function createDeliveryStage(): Promise<DeliveryStage> {
  const space = await createTestSpace();
  const db = openTestDatabase(space);
  const webhooks = createWebhookClient(space.config);
  const schemas = new EventSchemas(10);
  const open: Subscriber[] = [];
  return {
    space,
    db,
    publisher: (options) => createPublisher({ space, db, webhooks, schemas }, options),
    subscriber: async (...args) => {
      const server = await subscriber(...args);
      open.push(server);
      return server;
    },
    closeSubscribers: async () => {
      for (const each of open.splice(0)) await each.close();
    },
    close: async () => {
      await schemas.close();
      await webhooks.close();
      await db.close();
    },
  };
}

interface PublisherOptions {
  /** Of FirstAttempts. */
  writeAfterMs?: number;
}

/** A tenant that publishes, with what a process of its own has that delivers. */
async function createPublisher(
  {
    space: { config, log },
    db,
    webhooks,
    schemas,
  }: Pick<DeliveryStage, 'space' | 'db'> & {
    webhooks: ReturnType<typeof createWebhookClient>;
    schemas: EventSchemas;
  },
  options: PublisherOptions = {},
) {
  const tenantId = `tenant-${randomUUID()}`;
  const keyring = createKeyring(config);
  await db.prisma.eventType.create({ data: { tenantId, name: TYPE } });
  const events = new EventPublisher(db, schemas, config.KAFKA_MESSAGE_MAX_BYTES);
  const started: DeliveryRef[] = [];
  const dead: string[] = [];
  const woken: string[] = [];
  const attempts = new Attempts({ db, webhooks, log, config });
  const deps = {
    ...{ db, keyring, log, attempts, deliveryPolicy: playedPolicy },
    startDeliveries: (refs: readonly DeliveryRef[]) => Promise.resolve(void started.push(...refs)),
    deadLetter: ({ deliveryId }: { deliveryId: string }) => Promise.resolve(void dead.push(deliveryId)),
  };
  const wakeLanes = (ids: readonly string[]) => Promise.resolve(void woken.push(...ids));
  const first = new FirstAttempts({ ...deps, ...options, wakeLanes });
  return {
    tenantId,
    by: { tenantId, actor: 'test', correlationId: 'c' },
    deps,
    first,
    /** Deliveries whose workflows would have been started. */
    started,
    /** Deliveries that would have been dead-lettered. */
    dead,
    /** Subscriptions whose lanes would have been woken. */
    woken,
    subscribe: async (url: string, more: { ordered?: boolean; rateLimitPerSecond?: number } = {}) => {
      const { subscription } = await createSubscription(db, keyring, {
        ...{ tenantId, url, eventTypes: [TYPE], description: '', maxPerTenant: 1_000, ...more },
        allowedPrivateCidrs: config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
      });
      return subscription.id;
    },
    /** Publishes one event for each number, whose data is `{ n }`. @returns their ids. */
    publish: async (...numbers: number[]): Promise<string[]> => {
      const published = await events.publish(
        { tenantId, correlationId: 'c' },
        numbers.map((n) => ({ type: TYPE, data: JsonText.of({ n }) })),
      );
      return published.map(({ id }) => id);
    },
    /** What the consumer of `events` does with a message. */
    handOut: (...eventIds: string[]) => handOut(deps, first, eventIds),
  };
}
