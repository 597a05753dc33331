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
  try {
    return await run();
  } catch (error) {
    const { name, message } = innermost(error);
    const at = `Kafka at ${KAFKA_BROKERS.join(',')}`;
    if (/does not host this topic-partition|UNKNOWN_TOPIC/i.test(message))
      throw new Error(`${at} has not all topics (${message}): run remit migrate`, { cause: error });
    if (/^KafkaJS(Connection|Broker|Request)/.test(name))
      throw new Error(`${at} does not answer (${message}): is it running? KAFKA_BROKERS names another`, {
        cause: error,
      });
    throw error;
  }
}

/** kafkajs wraps an error in one that says how often it tried. */
function innermost(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  return error.name === 'KafkaJSNumberOfRetriesExceeded' && error.cause instanceof Error
    ? error.cause
    : error;
}
