import net from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { eventually } from '../../support/harness';
import { expectProblem, TestApi } from './support';

const IN_FLIGHT_MAX = 100;
const DELAY_MAX_MS = 200;

let api: TestApi;
const held: net.Socket[] = [];
beforeAll(async () => {
  api = await TestApi.start({
    API_REQUESTS_IN_FLIGHT_MAX: String(IN_FLIGHT_MAX),
    API_EVENT_LOOP_DELAY_MAX_MS: String(DELAY_MAX_MS),
  });
});
afterAll(async () => {
  for (const socket of held) socket.destroy();
  await api?.stop();
});

/** What is not shed is nothing: 404. */
const ask = () => api.call('GET', '/nothing');
const expectTaken = async () => expect((await ask()).status).toBe(404);

async function expectShed(): Promise<void> {
  const reply = await ask();
  expectProblem(reply, 503, 'unavailable');
  expect(Number(reply.headers.get('retry-after'))).toBeGreaterThan(0);
}

/** A request whose body never comes. */
function holdRequest(): Promise<net.Socket> {
  const { hostname, port } = new URL(api.url);
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(port), hostname, () => {
      socket.write(
        'POST /webhooks/providers/decard HTTP/1.1\r\nHost: remit\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n',
      );
      resolve(socket);
    });
    socket.on('error', reject);
    held.push(socket);
  });
}

describe('an API with more to do than it can', () => {
  it('refuses with 503 what comes beyond its limit of requests at work, answers to health, and takes more when some are done', async () => {
    await eventually(expectTaken);
    await Promise.all(Array.from({ length: IN_FLIGHT_MAX }, holdRequest));
    await eventually(expectShed, 20_000);
    expect((await api.call('GET', '/healthz')).body).toEqual({ alive: true });
    expect((await api.call('GET', '/readyz')).body).toMatchObject({ dependencies: { postgres: 'ok' } });
    for (const socket of held.splice(0, 10)) socket.destroy();
    await eventually(expectTaken, 20_000);
    for (const socket of held.splice(0)) socket.destroy();
  });

  it('refuses new requests while its event loop is late for a while, answers to health, and recovers', async () => {
    // Turns of the loop that take longer than it may be late.
    const stall = () => {
      const until = performance.now() + 2 * DELAY_MAX_MS;
      while (performance.now() < until);
    };
    const late = async (check: () => Promise<void>) => {
      let done = false;
      const checked = eventually(check, 60_000).finally(() => (done = true));
      while (!done) {
        stall();
        await nextTurn();
      }
      await checked;
    };
    await late(expectShed);
    await late(async () => expect((await api.call('GET', '/healthz')).status).toBe(200));
    await eventually(expectTaken, 20_000);
  });
});
