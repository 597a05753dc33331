import { randomBytes } from 'node:crypto';
import type { KafkaMessage } from 'kafkajs';
import { createKafka } from '../../src/platform/kafka';
import { eventually, type TestSpace } from './harness';

/** Reads a topic from its beginning until a message is found that fits, and returns those that do. */
export async function readTopic(
  space: TestSpace,
  topic: string,
  fits: (message: KafkaMessage) => boolean,
): Promise<KafkaMessage[]> {
  const consumer = createKafka(space.config, space.log).consumer({
    groupId: `${space.name}.reader.${randomBytes(4).toString('hex')}`,
    maxWaitTimeInMs: 100,
  });
  const found: KafkaMessage[] = [];
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  try {
    await consumer.run({
      eachMessage: ({ message }) => {
        if (fits(message)) found.push(message);
        return Promise.resolve();
      },
    });
    await eventually(() => {
      if (found.length === 0) throw new Error(`nothing on ${topic} fits`);
    });
    return found;
  } finally {
    await consumer.disconnect();
  }
}
