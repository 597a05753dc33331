import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import Connection from 'kafkajs/src/network/connection';
import { installSilenceEnd } from '../../../src/platform/kafkajs-silence';

installSilenceEnd();

const quiet: Record<string, () => unknown> = { debug: () => undefined, error: () => undefined };
quiet['namespace'] = () => quiet;

describe('a connection to a broker', () => {
  it('that is gone can be ended any number of times, and gathers no listeners', async () => {
    const broker = net.createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    await once(broker, 'listening');
    const { port } = broker.address() as AddressInfo;
    const connection = new Connection({
      ...{ host: '127.0.0.1', port, logger: quiet, connectionTimeout: 5_000, requestTimeout: 5_000 },
      socketFactory: ({ host, port, onConnect }) => net.connect({ host, port }, onConnect),
    });
    await connection.connect();
    const { socket } = connection;
    if (!socket?.destroyed) await once(socket!, 'close');
    broker.close();
    for (let n = 0; n < 20; n++) await connection.disconnect();
    expect(socket!.listenerCount('connect')).toBeLessThanOrEqual(1);
  });
});
