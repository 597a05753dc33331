import { randomBytes } from 'node:crypto';
import type { IHeaders } from 'kafkajs';
import { ensureTopics } from '../../../src/platform/kafka';
import { messageDigest, MessageReader, type MessagePlace } from '../../../src/platform/message-reader';
import { rangesOf, withAdmin } from '../../../src/platform/topic-reader';
import { eventually } from '../../support/harness';
import { StreamBench } from './streams';

let bench: StreamBench;
let reader: MessageReader;
beforeAll(async () => {
  bench = await StreamBench.open();
  reader = new MessageReader(bench.kafka, bench.space.config.KAFKA_GROUP_PREFIX);
});
afterAll(async () => {
  await reader.stop();
  await bench.close();
});

const ODD = Buffer.from([0xff, 0x00, 0xfe]);

interface Sent {
  key: Buffer;
  value: Buffer;
  headers: IHeaders;
}

/** A topic with so many messages on one partition, and where each of them lies. */
async function filled(count: number, bytes = 100) {
  const { topic } = await bench.stream(1);
  const sent = Array.from({ length: count }, (_, n): Sent => ({
    key: Buffer.from(`key-${n}`),
    value: randomBytes(bytes),
    headers: { n: Buffer.from(String(n)), odd: ODD, repeated: [Buffer.from('1'), Buffer.from('2')] },
  }));
  await produce(topic, sent);
  const place = (n: number, offset = n): MessagePlace => ({
    ...{ topic, partition: 0, offset: String(offset) },
    sha256: messageDigest(sent[n]!),
  });
  return { topic, sent, place };
}

async function produce(topic: string, messages: Sent[]): Promise<void> {
  for (let at = 0; at < messages.length; at += 50)
    await Promise.all(messages.slice(at, at + 50).map((each) => bench.producer.send({ topic, ...each })));
}

it('reads single messages, small and large, near and far, with key, value and headers as they were', async () => {
  const { sent, place } = await filled(600, 2_000);
  for (const n of [0, 1, 599, 300, 301, 2, 598, 0])
    expect(await reader.read(place(n))).toMatchObject({ offset: String(n), ...sent[n]! });
  const together = await Promise.all([5, 550, 6, 200].map((n) => reader.read(place(n))));
  expect(together).toMatchObject([5, 550, 6, 200].map((n) => sent[n]!));
  const large = await filled(3, 900_000);
  for (const n of [2, 0, 1]) expect(await reader.read(large.place(n))).toMatchObject(large.sent[n]!);
});

it('knows a message that is deleted, or not there yet, for lost', async () => {
  const { topic, place } = await filled(20);
  expect(await reader.read(place(3))).toMatchObject({ offset: '3' });
  expect(await reader.read(place(0, 20))).toEqual({
    lost: 'partition 0 holds the offsets from 0 up to 20 alone',
  });
  expect(await reader.read({ ...place(0), partition: 9 })).toMatchObject({
    lost: expect.any(String) as string,
  });
  await withAdmin(bench.kafka, async (admin) => {
    await admin.fetchTopicOffsets(topic);
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '10' }] });
  });
  const fresh = new MessageReader(bench.kafka, bench.space.config.KAFKA_GROUP_PREFIX);
  expect(await fresh.read(place(3))).toEqual({
    lost: 'partition 0 holds the offsets from 10 up to 20 alone',
  });
  expect(await fresh.read(place(15))).toMatchObject({ offset: '15' });
  await fresh.stop();
});

it('takes no message of a topic that was created again for the one that lay there, and reads the new ones', async () => {
  const { topic, place } = await filled(5);
  const { kafka, space } = bench;
  expect(await reader.read(place(4))).toMatchObject({ offset: '4' });
  const fresh = new MessageReader(kafka, space.config.KAFKA_GROUP_PREFIX);
  await withAdmin(kafka, (admin) => admin.deleteTopics({ topics: [topic] }));
  await eventually(async () =>
    expect(await fresh.read(place(4))).toEqual({ lost: `there is no topic ${topic} any more` }),
  );
  const again: Sent[] = [0, 1].map((n) => ({
    key: Buffer.from('k'),
    value: Buffer.from(`new ${n}`),
    headers: {},
  }));
  await eventually(() => ensureTopics(kafka, [topic], { ...space.config, KAFKA_TOPIC_PARTITIONS: 1 }));
  await eventually(() => produce(topic, again));
  await eventually(async () =>
    expect((await withAdmin(kafka, (admin) => rangesOf(admin, topic)))[0]?.high).toBeGreaterThanOrEqual(2n),
  );
  expect(await fresh.read(place(1))).toEqual({
    lost: 'another message lies at offset 1 of partition 0: the topic was created again',
  });
  const newPlace = { topic, partition: 0, offset: '1', sha256: messageDigest(again[1]!) };
  for (const each of [fresh, reader])
    expect(await each.read(newPlace)).toMatchObject({ value: again[1]!.value });
  await fresh.stop();
}, 60_000);

it('leaves no consumer group behind', async () => {
  const { place } = await filled(2);
  const own = new MessageReader(bench.kafka, `${bench.space.name}.left`);
  await own.read(place(1));
  await own.stop();
  await eventually(async () => {
    const { groups } = await withAdmin(bench.kafka, (admin) => admin.listGroups());
    expect(groups.filter(({ groupId }) => groupId.startsWith(`${bench.space.name}.left`))).toEqual([]);
  });
});
