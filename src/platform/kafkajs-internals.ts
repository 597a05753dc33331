import type { Kafka } from 'kafkajs';
import { version } from 'kafkajs/package.json';
import type Encoder from 'kafkajs/src/protocol/encoder';

/**
 * What remit uses of kafkajs that is no part of its published interface. 2.2.4 is its last release and pinned; another
 * version has to be compared with what is used here (and in kafkajs-src.d.ts) before it may run.
 */
const KNOWN_VERSION = '2.2.4';
if (version !== KNOWN_VERSION)
  throw new Error(
    `kafkajs ${version} is installed, and remit uses internals of ${KNOWN_VERSION}: run npm ci, or see kafkajs-internals.ts`,
  );

/** A request of Kafka's protocol. The connection writes the header up to the client id, and takes the correlation id off. */
export interface ProtocolRequest<T> {
  request: { apiKey: number; apiVersion: number; apiName: string; encode(): Promise<Encoder> };
  response: { decode(payload: Buffer): Promise<T>; parse(decoded: T): Promise<T> };
}

export interface Broker {
  /** By API key; known once connected. */
  versions: Record<number, { minVersion: number; maxVersion: number }> | null;
  /** Authenticates before the first request. */
  connectionPool: { send<T>(request: ProtocolRequest<T>): Promise<T> };
}

/** Connections to the brokers, with the client's TLS and SASL. */
export interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  brokerPool: {
    findConnectedBroker(): Promise<Broker>;
    /** Closes the connection to the broker by which the others would be found, and takes the next of those that are configured. */
    createSeedBroker(): Promise<void>;
  };
}

/** Connections of their own with the settings of this client; they are opened by `connect`. */
export function createCluster(kafka: Kafka): Cluster {
  const symbol = Object.getOwnPropertySymbols(kafka).find(
    ({ description }) => description === 'private:Kafka:createCluster',
  );
  const create =
    symbol && (kafka as unknown as Record<symbol, ((options: object) => Cluster) | undefined>)[symbol];
  if (!create) throw new Error('this is no client of kafkajs');
  return create({ allowAutoTopicCreation: false });
}
