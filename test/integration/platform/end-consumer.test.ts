import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Consumer } from 'kafkajs';
import { GroupConsumer } from '../../../src/platform/group-consumer';
import { createKafka, endConsumer } from '../../../src/platform/kafka';
import { TopicWatch } from '../../../src/platform/topic-watch';
import { withAdmin } from '../../../src/platform/topic-reader';
import { createTestSpace, eventually } from '../../support/harness';

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

it('a member that is stopped while it learns what is committed reads nothing afterwards, and leaves no connection open', async () => {
  const space = await createTestSpace({ topics: true });
  const kafka = createKafka(space.config, space.log);
  const made = jest.spyOn(kafka, 'consumer');
  const before = sockets();
  const assigned: unknown[] = [];
  const ignore = () => undefined;
  const group = new GroupConsumer({
    kafka,
    log: space.log,
    groupId: `${space.name}.${randomUUID()}`,
    topics: [space.config.TOPIC_PURCHASES],
    sessionTimeoutMs: 10_000,
    fetch: { maxWaitTimeInMs: 50 },
    concurrency: 1,
    listener: {
      onAssigned: (assignment) => void assigned.push(assignment),
      ...{ onLogReplaced: ignore, onBatch: ignore, onRebalancing: ignore, onLost: ignore },
    },
    onFatal: ignore,
  });
  const consumer = made.mock.results[0]!.value as Consumer;
  const joined = new Promise<void>((resolve) => consumer.on(consumer.events.GROUP_JOIN, () => resolve()));
  const watch = TopicWatch.of(kafka);
  const identify = watch.identify.bind(watch);
  let asked = 0;
  // The second time, after the join, the brokers are slow.
  const slow = jest.spyOn(watch, 'identify').mockImplementation(async (topics) => {
    if (++asked === 2) await sleep(1_000);
    return identify(topics);
  });
  const starting = group.start();
  await joined;
  expect(asked).toBe(2);
  await Promise.all([Promise.allSettled([starting]), group.stop()]);
  await slow.mock.results[1]!.value;
  expect(assigned).toEqual([]);
  await eventually(() => expect(sockets()).toBe(before));
});

const sockets = () => process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap').length;
