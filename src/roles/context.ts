import type { Client, Connection } from '@temporalio/client';
import type { Kafka } from 'kafkajs';
import type { Config } from '../platform/config';
import { createKafka, MessageProducer } from '../platform/kafka';
import type { Lifecycle } from '../platform/lifecycle';
import type { Logger } from '../platform/logging';
import { openDatabase, type Database } from '../platform/postgres';
import { connectTemporal } from '../platform/temporal';

/** What the roles of one process share: each client is opened on first use and closed last. */
export interface RoleContext {
  config: Config;
  log: Logger;
  lifecycle: Lifecycle;
  kafka: Kafka;
  /** The shared, connected producer. */
  producer(): Promise<MessageProducer>;
  /** The shared Temporal client. */
  temporal(): Promise<Client>;
  /** The shared database pools. */
  database(): Database;
}

/** Builds the shared context and registers how its clients are flushed and closed. Connects nothing yet. */
export function createRoleContext(config: Config, log: Logger, lifecycle: Lifecycle): RoleContext {
  const kafka = createKafka(config, log);
  let producer: Promise<MessageProducer> | undefined;
  let temporal: Promise<Client> | undefined;
  let database: Database | undefined;

  lifecycle.onStop('flush', 'kafka producer', async () => (await producer?.catch(() => undefined))?.stop());
  lifecycle.onStop('close', 'temporal client', async () => {
    const client = await temporal?.catch(() => undefined);
    await (client?.connection as Connection | undefined)?.close();
  });
  lifecycle.onStop('close', 'database', () => database?.close());

  return {
    config,
    log,
    lifecycle,
    kafka,
    producer() {
      producer ??= connectedProducer(kafka, config).catch((error: unknown) => {
        producer = undefined;
        throw error;
      });
      return producer;
    },
    temporal() {
      // A connection that failed is not kept: the next request may find Temporal again.
      temporal ??= connectTemporal(config).catch((error: unknown) => {
        temporal = undefined;
        throw error;
      });
      return temporal;
    },
    database() {
      database ??= openDatabase(config, log);
      return database;
    },
  };
}

async function connectedProducer(kafka: Kafka, config: Config): Promise<MessageProducer> {
  const producer = new MessageProducer(kafka, config);
  await producer.connect();
  return producer;
}
