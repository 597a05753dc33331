import { randomBytes } from 'node:crypto';
import { topicIdentities } from '../../../src/platform/topic-identity';
import { eventually } from '../../support/harness';
import { StreamBench, type Stream } from './streams';

let bench: StreamBench;
beforeAll(async () => {
  bench = await StreamBench.open();
});
afterAll(() => bench?.close());

const messages = (name: string, count: number) =>
  Array.from({ length: count }, (_, n) => ({ key: `k${n % 50}`, value: `${name} ${n}` }));

/** A handler that notes what it was given. */
function noting(): {
  seen: Map<string, number>;
  handle: (message: { value: Buffer | null }) => Promise<void>;
} {
  const seen = new Map<string, number>();
  return {
    seen,
    handle: ({ value }) => {
      const text = String(value);
      seen.set(text, (seen.get(text) ?? 0) + 1);
      return Promise.resolve();
    },
  };
}

const countOf = (seen: Map<string, number>, name: string) =>
  [...seen.keys()].filter((value) => value.startsWith(`${name} `)).length;

async function makeAnew({ topic }: Stream): Promise<void> {
  const before = (await topicIdentities(bench.kafka, [topic])).get(topic);
  await bench.admin(async (admin) => {
    await admin.deleteTopics({ topics: [topic] });
    await eventually(() => admin.createTopics({ topics: [{ topic, numPartitions: 1 }] }));
    await eventually(async () => {
      const now = (await topicIdentities(bench.kafka, [topic])).get(topic);
      if (now === undefined || now === before) throw new Error('the brokers still know the former topic');
      await admin.fetchTopicOffsets(topic);
    });
  });
}

async function committedMetadata({ group, topic }: Stream): Promise<string> {
  return bench.admin(async (admin) => {
    const [answer] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
    return answer?.partitions[0]?.metadata ?? '';
  });
}

describe('a topic that is deleted and created again', () => {
  it.each([
    ['more messages than before', 100],
    ['as many as before', 3_000],
  ])('while a bridge reads it is read from its beginning: 3,000 of 3,000, %s', async (_case, before) => {
    const stream = await bench.stream(1);
    const { seen, handle } = noting();
    const member = await stream.member(handle);
    await stream.send(messages('old', before));
    await eventually(async () => expect(await bench.committed(stream)).toEqual([before]));
    await makeAnew(stream);
    await stream.send(messages('new', 3_000));
    await eventually(() => expect(countOf(seen, 'new')).toBe(3_000));
    await eventually(async () => expect(await bench.committed(stream)).toEqual([3_000]));
    expect(countOf(seen, 'old')).toBe(before);
    const identity = (await topicIdentities(bench.kafka, [stream.topic])).get(stream.topic);
    expect(await committedMetadata(stream)).toBe(`${identity}|`);
    await expect(member.check()).resolves.toBeUndefined();
  });

  it('while no bridge runs is read from its beginning by the next', async () => {
    const stream = await bench.stream(1);
    const first = noting();
    const member = await stream.member(first.handle);
    await stream.send(messages('old', 50));
    await eventually(async () => expect(await bench.committed(stream)).toEqual([50]));
    await member.stop();
    await makeAnew(stream);
    await stream.send(messages('new', 3_000));
    const { seen, handle } = noting();
    await stream.member(handle);
    await eventually(() => expect(countOf(seen, 'new')).toBe(3_000));
  });

  it('is missing for a while: the bridge is not ready and says why, and goes on by itself when it is there', async () => {
    const stream = await bench.stream(1);
    const { seen, handle } = noting();
    const member = await stream.member(handle);
    await stream.send(messages('old', 10));
    await eventually(async () => expect(await bench.committed(stream)).toEqual([10]));
    await bench.admin((admin) => admin.deleteTopics({ topics: [stream.topic] }));
    await eventually(() =>
      expect(member.check()).rejects.toThrow(/has not joined the group .*topic-partition/),
    );
    await bench.admin((admin) => eventually(() => admin.createTopics({ topics: [{ topic: stream.topic }] })));
    await eventually(() => stream.send(messages('new', 3_000)));
    await eventually(() => expect(countOf(seen, 'new')).toBe(3_000));
    await expect(member.check()).resolves.toBeUndefined();
  });
});

it('an offset that was committed of another log of this name is not believed', async () => {
  const stream = await bench.stream(1);
  await stream.send(messages('here', 20));
  // As a restored or copied cluster has it: the group's offsets are those of the log that was.
  const consumer = bench.kafka.consumer({ groupId: stream.group });
  await consumer.connect();
  await consumer.subscribe({ topic: stream.topic });
  await consumer.run({ autoCommit: false, eachMessage: () => Promise.resolve() });
  const log = `${randomBytes(16).toString('base64url')}/00000000-0000-4000-8000-000000000001`;
  await eventually(() =>
    consumer.commitOffsets([{ topic: stream.topic, partition: 0, offset: '15', metadata: `${log}|` }]),
  );
  await consumer.disconnect();
  const { seen, handle } = noting();
  await stream.member(handle);
  await eventually(() => expect(countOf(seen, 'here')).toBe(20));
});

it('an offset that an operator set is where reading begins', async () => {
  const stream = await bench.stream(1);
  await stream.send(messages('here', 20));
  await bench.admin((admin) =>
    admin.setOffsets({
      groupId: stream.group,
      topic: stream.topic,
      partitions: [{ partition: 0, offset: '15' }],
    }),
  );
  const { seen, handle } = noting();
  await stream.member(handle);
  await eventually(async () => expect(await bench.committed(stream)).toEqual([20]));
  expect(countOf(seen, 'here')).toBe(5);
});

it('partitions that are added to a topic are read without a restart', async () => {
  const stream = await bench.stream(1);
  const { seen, handle } = noting();
  await stream.member(handle);
  await stream.send(messages('before', 10));
  await eventually(() => expect(countOf(seen, 'before')).toBe(10));
  await bench.admin((admin) =>
    admin.createPartitions({ topicPartitions: [{ topic: stream.topic, count: 3 }] }),
  );
  const producer = bench.kafka.producer();
  await producer.connect();
  await eventually(() =>
    producer.send({ topic: stream.topic, messages: [{ partition: 2, value: 'after 0' }] }),
  );
  await producer.disconnect();
  await eventually(() => expect(countOf(seen, 'after')).toBe(1));
});

it('a bridge that the brokers refuse waits and says so, and joins when they let it', async () => {
  const stream = await bench.stream(1);
  // A member that speaks another protocol: the group refuses ours for good (INCONSISTENT_GROUP_PROTOCOL).
  const other = bench.kafka.consumer({
    groupId: stream.group,
    partitionAssigners: [
      () => ({
        name: 'another',
        version: 1,
        assign: () => Promise.resolve([]),
        protocol: () => ({ name: 'another', metadata: Buffer.alloc(0) }),
      }),
    ],
  });
  await other.connect();
  await other.subscribe({ topic: stream.topic });
  const joined = new Promise((resolve) => other.on(other.events.GROUP_JOIN, resolve));
  void other.run({ eachMessage: () => Promise.resolve() }).catch(() => undefined);
  await Promise.race([joined, new Promise((resolve) => setTimeout(resolve, 5_000))]);
  const { seen, handle } = noting();
  const member = await stream.member(handle);
  await eventually(() => expect(member.check()).rejects.toThrow(/has not joined .*protocol/));
  await other.disconnect();
  await stream.send(messages('here', 5));
  await eventually(() => expect(countOf(seen, 'here')).toBe(5));
  await expect(member.check()).resolves.toBeUndefined();
});
