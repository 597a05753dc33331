import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import Connection from 'kafkajs/src/network/connection';
import apiVersions from 'kafkajs/src/protocol/requests/apiVersions';
import { installSilenceEnd } from '../../../src/platform/kafkajs-silence';
import { installQuietTimers } from '../../../src/platform/kafkajs-timers';

installQuietTimers();
installSilenceEnd();

const quiet: Record<string, () => unknown> = { debug: () => undefined, error: () => undefined };
quiet['namespace'] = () => quiet;

const question = () => apiVersions.protocol({ version: 0 })();
const open: Connection[] = [];
const servers: net.Server[] = [];

afterEach(async () => {
  jest.useRealTimers();
  for (const connection of open.splice(0)) {
    connection.socket?.destroy();
    await connection.disconnect();
  }
  for (const server of servers.splice(0)) server.close();
});

async function listen(onSocket: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer(onSocket).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

function connectionTo(port: number): Connection {
  const connection = new Connection({
    ...{ host: '127.0.0.1', port, logger: quiet },
    ...{ connectionTimeout: 5_000, requestTimeout: 30_000, enforceRequestTimeout: true },
    socketFactory: ({ host, port, onConnect }) => net.connect({ host, port }, onConnect),
  });
  open.push(connection);
  return connection;
}

/** Answers ApiVersions with an empty list while `hangs` is false; a broker that is stopped takes connections all the same. */
class FakeBroker {
  hangs = false;
  asked = 0;
  onAnswered?: () => void;

  readonly onSocket = (socket: net.Socket): void => {
    socket.on('error', () => undefined);
    socket.on('data', (request: Buffer) => {
      this.asked++;
      if (this.hangs) return;
      const answer = Buffer.alloc(14);
      answer.writeInt32BE(10, 0);
      request.copy(answer, 4, 8, 12); // the correlation id
      socket.write(answer);
      this.onAnswered?.();
    });
  };
}

describe('a connection to a broker', () => {
  it('that is gone can be ended any number of times, and gathers no listeners', async () => {
    const connection = connectionTo(await listen((socket) => socket.destroy()));
    await connection.connect();
    const { socket } = connection;
    if (!socket?.destroyed) await once(socket!, 'close');
    for (let n = 0; n < 20; n++) await connection.disconnect();
    expect(socket!.listenerCount('connect')).toBeLessThanOrEqual(1);
  });

  it('that was silent fails at once until the broker has answered a question, and is tried again every two seconds', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'setTimeout', 'clearTimeout'] });
    const broker = new FakeBroker();
    const connection = connectionTo(await listen(broker.onSocket));
    await connection.connect();
    await connection.send(question());

    broker.hangs = true;
    await expect(untilLate(connection.send(question()), broker)).rejects.toThrow(/timed out/);
    const { asked } = broker;
    await expect(connection.connect()).rejects.toThrow(/does not answer/);
    expect(broker.asked).toBe(asked);

    jest.advanceTimersByTime(2_100);
    const trial = connection.connect();
    const others = connectionTo(connection.port);
    await expect(others.connect()).rejects.toThrow(/does not answer/);
    await expect(untilLate(trial, broker)).rejects.toThrow(/timed out/);

    broker.hangs = false;
    await expect(connection.connect()).rejects.toThrow(/does not answer/);
    jest.advanceTimersByTime(2_100);
    await connection.connect();
    expect(broker.asked).toBe(asked + 2);
    await others.connect();
    expect(broker.asked).toBe(asked + 2);
  });

  it('is closed when the broker was silent on another one, but not when it has answered meanwhile', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'setTimeout', 'clearTimeout'] });
    const broker = new FakeBroker();
    const port = await listen(broker.onSocket);
    const [one, other] = [connectionTo(port), connectionTo(port)];
    await Promise.all([one.connect(), other.connect()]);
    await one.send(question());

    broker.hangs = true;
    const late = one.send(question());
    while (broker.asked < 2) await new Promise(setImmediate);
    jest.advanceTimersByTime(3_000);
    broker.hangs = false;
    await other.send(question());
    await expect(untilLate(late)).rejects.toThrow(/timed out/);
    expect([one.isConnected(), other.isConnected()]).toEqual([false, true]);

    await one.connect();
    broker.hangs = true;
    jest.advanceTimersByTime(1_000);
    await expect(untilLate(one.send(question()), broker)).rejects.toThrow(/timed out/);
    expect([one.isConnected(), other.isConnected()]).toEqual([false, false]);
  });

  it('stays open when it was this process that stood still, and the answer is there', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'setTimeout', 'clearTimeout'] });
    const broker = new FakeBroker();
    const connection = connectionTo(await listen(broker.onSocket));
    await connection.connect();
    await connection.send(question());
    // The answer has come, and nothing was read since: then time-outs are looked for first, and sockets afterwards.
    broker.onAnswered = () => setImmediate(() => jest.advanceTimersByTime(7_000));
    await expect(connection.send(question())).resolves.toBeDefined();
    expect(connection.isConnected()).toBe(true);
  });

  it('to a broker that refuses connections after it was silent says so', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'setTimeout', 'clearTimeout'] });
    const broker = new FakeBroker();
    const connection = connectionTo(await listen(broker.onSocket));
    await connection.connect();
    broker.hangs = true;
    await expect(untilLate(connection.send(question()), broker)).rejects.toThrow(/timed out/);
    servers.pop()!.close();
    jest.advanceTimersByTime(2_100);
    await expect(connection.connect()).rejects.toThrow(/ECONNREFUSED/);
    await expect(connection.connect()).rejects.toThrow(/ECONNREFUSED/);
  });
});

/** Lets the time pass that a broker has for an answer, once it was asked. */
async function untilLate<T>(work: Promise<T>, broker?: FakeBroker): Promise<T> {
  const before = broker?.asked;
  work.catch(() => undefined);
  while (broker && broker.asked === before) await new Promise(setImmediate);
  jest.advanceTimersByTime(7_000);
  return await work;
}
