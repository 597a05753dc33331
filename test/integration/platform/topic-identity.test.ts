import { createServer, type AddressInfo, type Server } from 'node:net';
import type { Admin, Kafka } from 'kafkajs';
import { createKafka } from '../../../src/platform/kafka';
import {
  topicIdentities,
  TopicIdentityError,
  TopicIdentityReader,
} from '../../../src/platform/topic-identity';
import { createTestSpace, eventually, type TestSpace } from '../../support/harness';

let space: TestSpace;
let kafka: Kafka;
let admin: Admin;
beforeAll(async () => {
  space = await createTestSpace();
  kafka = createKafka(space.config, space.log);
  admin = kafka.admin();
  await admin.connect();
});
afterAll(() => admin?.disconnect());

const create = (topic: string) => admin.createTopics({ topics: [{ topic }] });

async function identityOf(topic: string): Promise<string> {
  return eventually(async () => {
    const identity = (await topicIdentities(kafka, [topic])).get(topic);
    if (identity === undefined) throw new Error(`${topic} is not there yet`);
    return identity;
  });
}

describe('the identity of a topic', () => {
  it('is the id of its cluster and its own, and stays while the topic does', async () => {
    const topic = `${space.name}.steady`;
    await create(topic);
    const identity = await identityOf(topic);
    const { clusterId } = await admin.describeCluster();
    expect(identity).toMatch(/^[\w-]{22}\/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(identity.startsWith(`${clusterId}/`)).toBe(true);
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
    expect(await identityOf(topic)).toBe(identity);
  });

  it('is another one when the topic is deleted and created again', async () => {
    const topic = `${space.name}.again`;
    await create(topic);
    const before = await identityOf(topic);
    await admin.deleteTopics({ topics: [topic] });
    await eventually(() => create(topic));
    await eventually(async () => expect(await identityOf(topic)).not.toBe(before));
  });

  it('is missing for a topic that does not exist, beside the others in one answer', async () => {
    const [one, two] = [`${space.name}.one`, `${space.name}.two`];
    await Promise.all([create(one), create(two)]);
    await Promise.all([identityOf(one), identityOf(two)]);
    const found = await topicIdentities(kafka, [one, `${space.name}.nowhere`, two]);
    expect([...found.keys()].sort()).toEqual([one, two]);
    expect(found.get(one)).not.toBe(found.get(two));
    // Asking has created nothing.
    expect(await admin.listTopics()).not.toContain(`${space.name}.nowhere`);
  });

  it('can be asked for again by one reader, and for no topics at all', async () => {
    const topic = `${space.name}.again`;
    await create(topic);
    const identity = await identityOf(topic);
    const reader = new TopicIdentityReader(kafka);
    try {
      expect((await reader.read([topic])).get(topic)).toBe(identity);
      expect((await reader.read([topic])).get(topic)).toBe(identity);
      expect((await reader.read([])).size).toBe(0);
    } finally {
      await reader.close();
    }
  });
});

/** Answers ApiVersions as a broker before 2.8 does, and nothing else. */
function oldBroker(): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('data', (request) => {
      const [apiKey, correlationId] = [request.readInt16BE(4), request.readInt32BE(8)];
      if (apiKey !== 18) return void socket.destroy();
      const int16 = (value: number) => [value >> 8, value & 0xff];
      const apis = [18, 0, 2, 3, 0, 9].flatMap(int16);
      const body = Buffer.from([...int16(0), 0, 0, 0, 2, ...apis, 0, 0, 0, 0]);
      const head = Buffer.alloc(8);
      head.writeInt32BE(4 + body.length);
      head.writeInt32BE(correlationId, 4);
      socket.write(Buffer.concat([head, body]));
    });
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

it('says what is missing when the brokers are too old for topic ids', async () => {
  const server = await oldBroker();
  try {
    const { port } = server.address() as AddressInfo;
    const old = createKafka({ ...space.config, KAFKA_BROKERS: [`127.0.0.1:${port}`] }, space.log);
    const refused = topicIdentities(old, ['any']);
    await expect(refused).rejects.toThrow(TopicIdentityError);
    await expect(refused).rejects.toThrow(/Kafka 2\.8 or newer/);
  } finally {
    server.close();
  }
});
