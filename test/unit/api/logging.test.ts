import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import pino from 'pino';
import { createApp } from '../../../src/api/app';
import { loadConfig } from '../../../src/platform/config';
import { createKafka, NotQueuedError } from '../../../src/platform/kafka';
import { Lifecycle } from '../../../src/platform/lifecycle';
import { openDatabase } from '../../../src/platform/postgres';
import { createKeyring } from '../../../src/platform/secrets';

interface Line extends Record<string, unknown> {
  level: number;
  msg: string;
}

const DEBUG = 20;
const INFO = 30;
const ERROR = 50;
const SECRET = 'secret-of-the-tests';

/** The application without anything behind it: nothing that these requests ask for is reached. */
const config = loadConfig(
  {
    DATABASE_URL: `postgresql://user:${SECRET}@127.0.0.1:9/none`,
    ENCRYPTION_KEY: Buffer.alloc(32, 1).toString('base64'),
    PROVIDER_SIGNATURES_REQUIRED: 'false',
    TRUST_USER_ID_HEADER: 'true',
  },
  [],
);
const lines: Line[] = [];
const sink = new Writable({
  write(chunk: Buffer, _encoding, done) {
    lines.push(JSON.parse(chunk.toString()) as Line);
    done();
  },
});
const log = pino({ level: 'debug' }, sink);
const app = createApp({
  config,
  log,
  database: openDatabase(config, log),
  producer: { send: () => Promise.reject(new NotQueuedError('broker 10.1.2.3 is away')) },
  kafka: createKafka(config, log),
  temporal: () => Promise.reject(new Error('not used')),
  keyring: createKeyring(config),
  lifecycle: new Lifecycle(log, 1_000),
});

let server: http.Server;
beforeAll(async () => {
  server = http.createServer(app);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => new Promise((resolve) => server.close(resolve)));
beforeEach(() => void lines.splice(0));

async function call(path: string, init: RequestInit = {}): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`, {
    ...init,
    headers: { 'x-correlation-id': 'c-1', 'x-user-id': 'u', connection: 'close', ...init.headers },
  });
  await response.text();
  await new Promise((resolve) => setTimeout(resolve, 20)); // the line is written when the response is closed
  return response.status;
}

describe('the log of requests', () => {
  it('has one line a request, at debug when it went well', async () => {
    await call('/healthz');
    expect(lines).toMatchObject([
      { level: DEBUG, correlationId: 'c-1', method: 'GET', path: '/healthz', route: '/healthz', status: 200 },
    ]);
  });

  it('has refusals at info, without query and without credentials', async () => {
    await call(`/nowhere?token=${SECRET}`, { headers: { authorization: `Bearer ${SECRET}` } });
    expect(lines).toMatchObject([{ level: INFO, route: 'unmatched', path: '/nowhere', status: 404 }]);
    expect(JSON.stringify(lines)).not.toContain(SECRET);
  });

  it('has outages at error with their cause, under the correlation id of the request', async () => {
    const status = await call('/orders', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"amount":1}',
    });
    expect(status).toBe(503);
    expect(lines).toMatchObject([
      { level: ERROR, msg: 'request failed', correlationId: 'c-1', route: '/orders', err: {} },
      { level: INFO, status: 503 },
    ]);
    expect(JSON.stringify(lines)).not.toContain(SECRET);
  });

  it('has webhooks that could not be queued at error', async () => {
    const event = {
      ...{ provider: 'decard', transactionId: '6f9619ff-8b86-4011-b42d-00c04fc964ff', status: 'success' },
      ...{ amount: 1, currency: 'TRY', type: 'payment' },
    };
    const status = await call('/webhooks/providers/decard', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(event),
    });
    expect(status).toBe(500);
    expect(lines[0]).toMatchObject({
      level: ERROR,
      correlationId: 'c-1',
      err: { message: 'broker 10.1.2.3 is away' },
    });
  });
});
