import net, { type AddressInfo, type Socket } from 'node:net';
import { createKafka } from '../../../src/platform/kafka';
import { TopicIdentityReader } from '../../../src/platform/topic-identity';
import { withAdmin } from '../../../src/platform/topic-reader';
import { createTestSpace, type TestSpace } from '../../support/harness';
import { TcpProxy } from '../../support/tcp-proxy';

/** Accepts connections, and never says a word: a broker whose process hangs. */
let silent: net.Server;
const sockets = new Set<Socket>();
let heard = 0;
let space: TestSpace;
beforeAll(async () => {
  space = await createTestSpace();
  silent = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', () => (heard += 1));
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
});
afterAll(() => {
  for (const socket of sockets) socket.destroy();
  silent.close();
});

describe('a broker that takes connections and does not answer', () => {
  it('is given up after the time of one request, its connection is closed, and another is asked', async () => {
    const { port } = silent.address() as AddressInfo;
    const config = {
      ...space.config,
      KAFKA_BROKERS: [`127.0.0.1:${port}`, ...space.config.KAFKA_BROKERS],
      KAFKA_REQUEST_TIMEOUT_MS: 1_500,
    };
    // Which of them is asked first is chance.
    for (let tries = 0; heard === 0 && tries < 20; tries++)
      await withAdmin(createKafka(config, space.log), (admin) => admin.listTopics());
    expect(heard).toBeGreaterThan(0);
    expect(sockets.size).toBe(0);
  }, 120_000);

  it('is not asked again which log a topic is, when it has stopped to answer', async () => {
    const [host, port] = space.config.KAFKA_BROKERS[0]!.split(':');
    const ways = [await TcpProxy.to(host!, Number(port)), await TcpProxy.to(host!, Number(port))];
    const config = {
      ...space.config,
      KAFKA_BROKERS: ways.map(({ address }) => address),
      KAFKA_REQUEST_TIMEOUT_MS: 1_500,
    };
    const reader = new TopicIdentityReader(createKafka(config, space.log));
    try {
      const read = () => reader.read(['no-such-topic']);
      await read();
      // By which way it asks is chance: that one hangs from now on.
      const failures: string[] = [];
      for (const way of ways) {
        way.stall();
        await read().catch((error: Error) => failures.push(error.message));
        if (failures.length > 0) break;
        way.resume();
      }
      expect(failures).toEqual([expect.stringContaining('timed out')]);
      expect(await read()).toEqual(new Map());
    } finally {
      await reader.close();
      for (const way of ways) way.close();
    }
  }, 60_000);
});
