import type { Client, Connection } from '@temporalio/client';
import type { Kafka } from 'kafkajs';
import type { Config } from '../platform/config';
import { createKafka, MessageProducer } from '../platform/kafka';
import type { Lifecycle } from '../platform/lifecycle';
import type { Logger } from '../platform/logging';
import { openDatabase, type Database } from '../platform/postgres';
import { checkTemporal, openTemporal } from '../platform/temporal';
import { MissingTopics, whenThere } from './when-there';

/** What the roles of one process share: each client is opened on first use and closed last. */
export interface RoleContext {
  config: Config;
  log: Logger;
  lifecycle: Lifecycle;
  kafka: Kafka;
  /** The shared producer, once the brokers are there. */
  producer(): Promise<MessageProducer>;
  /** Resolves when the brokers are there, with these topics. */
  topicsThere(topics: readonly string[]): Promise<void>;
  /** The shared Temporal client, whether Temporal is there or not: its calls tell. */
  temporal(): Promise<Client>;
  /** The same, once Temporal serves the namespace. */
  temporalThere(): Promise<Client>;
  /** The shared database pools; they connect when they are used. */
  database(): Database;
}

/** Builds the shared context and registers how its clients are flushed and closed. Connects nothing yet. */
export function createRoleContext(config: Config, log: Logger, lifecycle: Lifecycle): RoleContext {
  const kafka = createKafka(config, log);
  const waiting = { lifecycle, log, config };
  let producer: Promise<MessageProducer> | undefined;
  let connected: MessageProducer | undefined;
  let temporal: Promise<Client> | undefined;
  let database: Database | undefined;

  // One that still waits for its brokers has nothing to flush, and must not hold up the stop.
  lifecycle.onStop('flush', 'kafka producer', () => connected?.stop());
  lifecycle.onStop('close', 'temporal client', async () => {
    const client = await temporal?.catch(() => undefined);
    await (client?.connection as Connection | undefined)?.close();
  });
  lifecycle.onStop('close', 'database', () => database?.close());

  const topicsThere = (topics: readonly string[]) =>
    whenThere(waiting, 'kafka', () => requireTopics(kafka, topics));
  const openClient = () => {
    if (!temporal) warnOfClearPayloads(config, log);
    return (temporal ??= openTemporal(config));
  };
  return {
    config,
    log,
    lifecycle,
    kafka,
    producer() {
      producer ??= topicsThere([]).then(async () => {
        const made = new MessageProducer(kafka, config);
        await whenThere(waiting, 'kafka', () => made.connect());
        return (connected = made);
      });
      return producer;
    },
    topicsThere,
    temporal: openClient,
    async temporalThere() {
      const client = await openClient();
      await whenThere(waiting, 'temporal', () => checkTemporal(client));
      return client;
    },
    database() {
      database ??= openDatabase(config, log);
      return database;
    },
  };
}

/** On this machine alone they are there to be looked at; elsewhere that is rarely meant. */
function warnOfClearPayloads(
  { TEMPORAL_ENCRYPT_PAYLOADS: encrypted, TEMPORAL_ADDRESS: address }: Config,
  log: Logger,
): void {
  if (!encrypted && !/^(localhost|127\.\d+\.\d+\.\d+|\[::1\]):/.test(address))
    log.warn(
      'TEMPORAL_ENCRYPT_PAYLOADS=false: whoever reads Temporal or its backups reads what workflows are given',
    );
}

/** One try, so that what is wrong is known soon: a client of kafkajs's own settings would try for half a minute. */
async function requireTopics(kafka: Kafka, topics: readonly string[]): Promise<void> {
  const admin = kafka.admin({ retry: { retries: 0 } });
  try {
    await admin.connect();
    const existing = new Set(await admin.listTopics());
    const missing = topics.filter((topic) => !existing.has(topic));
    if (missing.length > 0) throw new MissingTopics(missing);
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
}
