import { once } from 'node:events';
import net from 'node:net';
import type { Config } from '../platform/config';

/**
 * The brokers that are configured, otherwise that of the local installation.
 * @throws Error that says what to do, when there are none.
 */
export function requireBrokers(config: Partial<Config>, local: string | undefined): string[] {
  const brokers = config.KAFKA_BROKERS ?? (local ? [local] : undefined);
  if (!brokers) throw new Error('no Kafka is known: start remit first (npm start), or set KAFKA_BROKERS');
  return brokers;
}

/** Runs what a command does at Kafka; in place of kafkajs's words, an operator reads what to do about them. */
export async function explainingKafka<T>(
  { KAFKA_BROKERS }: Pick<Config, 'KAFKA_BROKERS'>,
  run: () => Promise<T>,
): Promise<T> {
  const at = `Kafka at ${KAFKA_BROKERS.join(',')}`;
  const silent = (why: unknown): Error =>
    new Error(`${at} does not answer (${String(why)}): is it running? KAFKA_BROKERS names another`, {
      cause: why,
    });
  // kafkajs insists for a quarter of a minute where nobody listens.
  await Promise.any(KAFKA_BROKERS.map(reach)).catch((error: AggregateError) => {
    throw silent(error.errors[0]);
  });
  try {
    return await run();
  } catch (error) {
    const { name, message } = innermost(error);
    if (/does not host this topic-partition|UNKNOWN_TOPIC/i.test(message))
      throw new Error(`${at} has not all topics (${message}): run remit migrate`, { cause: error });
    if (/^KafkaJS(Connection|Broker|Request)/.test(name)) throw silent(error);
    throw error;
  }
}

const REACH_TIMEOUT_MS = 5_000;

/** Resolves when somebody listens at `host:port`. */
async function reach(broker: string): Promise<void> {
  const { hostname, port } = new URL(`kafka://${broker}`);
  const host = hostname.replace(/^\[|\]$/g, '');
  const socket = net.connect({ host, port: Number(port), timeout: REACH_TIMEOUT_MS });
  socket.once('timeout', () => socket.destroy(new Error(`no connection within ${REACH_TIMEOUT_MS} ms`)));
  try {
    await once(socket, 'connect');
  } finally {
    socket.destroy();
  }
}

/** kafkajs wraps an error in one that says how often it tried. */
function innermost(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  return error.name === 'KafkaJSNumberOfRetriesExceeded' && error.cause instanceof Error
    ? error.cause
    : error;
}
