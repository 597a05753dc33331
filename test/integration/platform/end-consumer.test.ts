import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKafka, endConsumer } from '../../../src/platform/kafka';
import { withAdmin } from '../../../src/platform/topic-reader';
import { createTestSpace } from '../../support/harness';

it('a consumer that is ended while it joins is no member of its group afterwards', async () => {
  const space = await createTestSpace({ topics: true });
  const kafka = createKafka(space.config, space.log);
  const groupId = `${space.name}.${randomUUID()}`;
  const consumer = kafka.consumer({ groupId, allowAutoTopicCreation: false });
  await consumer.connect();
  await consumer.subscribe({ topic: space.config.TOPIC_PURCHASES });
  // As a visitor does that finds another one there: the moment of the join, before kafkajs says that it runs.
  const joining = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve));
  const running = consumer.run({ eachBatch: () => Promise.resolve() });
  await joining;
  await endConsumer(consumer, running);
  // One that runs on would be back by its next fetch.
  await sleep(1_500);
  const { groups } = await withAdmin(kafka, (admin) => admin.describeGroups([groupId]));
  expect(groups.flatMap(({ members }) => members)).toEqual([]);
});
