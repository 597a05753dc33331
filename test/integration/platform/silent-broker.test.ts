import net, { type AddressInfo, type Socket } from 'node:net';
import { createKafka } from '../../../src/platform/kafka';
import { withAdmin } from '../../../src/platform/topic-reader';
import { createTestSpace, type TestSpace } from '../../support/harness';

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
});
