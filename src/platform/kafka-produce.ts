import { setTimeout as sleep } from 'node:timers/promises';
import type { Kafka, Producer, ProducerBatch, ProducerConfig } from 'kafkajs';
import { Partitioners } from 'kafkajs';
import { backoffMs } from './backoff';

const RETRY_BASE_MS = 100;
const RETRY_CAP_MS = 2_000;

/**
 * A producer that tries each request once: the one way to make one here, and `sendWhole` repeats.
 *
 * kafkajs must not repeat by itself. Of messages that went to several brokers it sends again what went to those that failed,
 * by who leads each partition *then*, and passes over every broker that has answered. Where a partition's leadership has moved
 * to one of those, as it does whenever a broker is lost, its messages are not sent to anybody, and the call resolves as if
 * all were stored. Nor may it be idempotent, for which kafkajs demands that it repeats.
 */
export function createProducer(
  kafka: Kafka,
  config: Pick<ProducerConfig, 'maxInFlightRequests'> = {},
): Producer {
  // eslint-disable-next-line no-restricted-syntax -- here it is
  return kafka.producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    allowAutoTopicCreation: false,
    ...config,
    retry: { retries: 0 },
  });
}

/**
 * Sends a batch again as a whole until all of it was acknowledged in one try: what brokers stored before one of them failed is
 * stored twice.
 * @param tryForMs after this long no further try begins.
 * @throws what kafkajs says of the last try, or of one that no repetition mends. Each message may be stored all the same.
 */
export async function sendWhole(
  producer: Pick<Producer, 'sendBatch'>,
  batch: ProducerBatch,
  tryForMs: number,
): Promise<void> {
  const until = performance.now() + tryForMs;
  for (let failures = 1; ; failures++) {
    try {
      await producer.sendBatch(batch);
      return;
    } catch (error) {
      // So kafkajs calls what it would have repeated.
      const passing = error instanceof Error && error.name === 'KafkaJSNumberOfRetriesExceeded';
      const pauseMs = backoffMs(failures, RETRY_BASE_MS, RETRY_CAP_MS);
      if (!passing || performance.now() + pauseMs > until) throw error;
      await sleep(pauseMs);
    }
  }
}
