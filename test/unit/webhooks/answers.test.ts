import { spawn } from 'node:child_process';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createWebhookClient, type WebhookClient } from '../../../src/webhooks/client';
import { drips, rawSubscriber, says, saysAndCloses, saysAndResets, type Conduct } from './raw-subscriber';
import { clientSettings, listen, LOOPBACK, subscriber } from '../../support/subscriber';

const open: { close(): Promise<void> | void }[] = [];
const closing = <T extends { close(): Promise<void> | void }>(each: T): T => {
  open.push(each);
  return each;
};
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

const client = (changes = {}) => closing(createWebhookClient(clientSettings({ ...LOOPBACK, ...changes })));
const post = (to: WebhookClient, url: string, timeoutMs = 5_000, body = '{}') =>
  to.postWebhook({ url, headers: { 'webhook-id': 'evt_1' }, body, timeoutMs });

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n';
const HINTS = 'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.css>\r\n\r\n';
const headers = (bytes: number) => `X-Policy: ${'p'.repeat(1_000)}\r\n`.repeat(Math.ceil(bytes / 1_012));

type Row = readonly [
  what: string,
  conduct: Conduct,
  result: string,
  status: number | null,
  body: string | null,
];

describe('the final status decides', () => {
  test.each<Row>([
    ['100 Continue that nobody asked for', says(CONTINUE + OK), 'delivered', 200, 'ok'],
    ['103 Early Hints', says(HINTS + OK), 'delivered', 200, 'ok'],
    ['102 Processing', says(`HTTP/1.1 102 Processing\r\n\r\n${OK}`), ...(['delivered', 200, 'ok'] as const)],
    ['several interim answers', says(CONTINUE + HINTS.repeat(5) + CONTINUE + OK), 'delivered', 200, 'ok'],
    [
      'an interim answer in a packet of its own',
      async (socket) => {
        socket.write(CONTINUE);
        await sleep(50);
        socket.write(OK);
      },
      ...(['delivered', 200, 'ok'] as const),
    ],
    [
      'a refusal after an interim answer',
      says(CONTINUE + OK.replace('200', '500')),
      ...(['http_error', 500, 'ok'] as const),
    ],
    [
      'nothing after an interim answer',
      saysAndCloses('HTTP/1.1 103 Early Hints\r\nX-Status: HTTP/1.1 200 OK\r\n\r\n'),
      ...(['network_error', null, null] as const),
    ],
    [
      'an interim answer that breaks off before its end',
      saysAndCloses('HTTP/1.1 103 Early Hints\r\nHTTP/1.1 200 OK\r\n'),
      ...(['network_error', null, null] as const),
    ],
  ])('after %s', async (_what, conduct, result, statusCode, responseBody) => {
    const server = closing(await rawSubscriber(conduct));
    expect(await post(client(), server.url)).toMatchObject({ result, statusCode, responseBody });
    expect(server.requests).toHaveLength(1);
  });

  test.each<Row>([
    ['its headers take 20 KiB', says(OK.replace('\r\n', `\r\n${headers(20_480)}`)), 'delivered', 200, 'ok'],
    ['its headers take 200 KiB', says(OK.replace('\r\n', `\r\n${headers(204_800)}`)), 'delivered', 200, 'ok'],
    [
      'its headers take more than is read',
      says(OK.replace('\r\n', `\r\n${headers(2_097_152)}`)),
      ...(['delivered', 200, ''] as const),
    ],
    [
      'one header takes more than is read',
      says(`HTTP/1.1 503 Busy\r\nX-Long: ${'x'.repeat(524_288)}\r\n\r\n`),
      ...(['http_error', 503, ''] as const),
    ],
    ['a header has NUL', says('HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n'), 'delivered', 200, ''],
    [
      'a header has bytes of Latin-1',
      says(Buffer.from(OK.replace('\r\n', '\r\nRetry-After: \xe9\xff\r\n'), 'latin1')),
      ...(['delivered', 200, 'ok'] as const),
    ],
    ['a header is none', says('HTTP/1.1 202 Accepted\r\n: :\x01\r\n\r\n'), 'delivered', 202, ''],
    ['its length is none', says('HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n'), 'delivered', 200, ''],
    [
      'it has two lengths',
      says('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'),
      ...(['delivered', 200, ''] as const),
    ],
    ['it ends after its status line', saysAndCloses('HTTP/1.1 200 OK\r\n'), 'delivered', 200, ''],
    ['it is reset after its status line', saysAndResets('HTTP/1.1 410 Gone\r\nX-'), 'http_error', 410, ''],
    ['its body is shorter than said', saysAndCloses(OK.replace(': 2', ': 9')), 'delivered', 200, 'ok'],
    ['its body is longer than said', says(OK.replace(': 2', ': 1')), 'delivered', 200, 'o'],
    ['its body is cut by a reset', saysAndResets(OK.replace(': 2', ': 9')), 'delivered', 200, 'ok'],
    [
      'its chunks break off',
      saysAndCloses('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe'),
      ...(['delivered', 200, 'he'] as const),
    ],
    [
      'its chunks are none',
      says('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\nzz\r\n'),
      ...(['delivered', 200, 'he'] as const),
    ],
    [
      'it has trailers',
      says(
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n',
      ),
      ...(['delivered', 200, 'ok'] as const),
    ],
    [
      'its trailers take 20 KiB',
      says(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n${headers(20_480)}\r\n`),
      ...(['delivered', 200, 'ok'] as const),
    ],
    ['it has no reason phrase', says('HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n'), 'delivered', 200, ''],
    [
      'it is of HTTP/1.0 and has no length',
      saysAndCloses('HTTP/1.0 200 OK\r\n\r\nok'),
      'delivered',
      200,
      'ok',
    ],
    [
      'it closes the connection',
      saysAndCloses('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok'),
      ...(['delivered', 200, 'ok'] as const),
    ],
  ])('although %s', async (_what, conduct, result, statusCode, responseBody) => {
    const server = closing(await rawSubscriber(conduct));
    const answer = await post(client(), server.url);
    expect(answer).toMatchObject({ result, statusCode, responseBody });
    expect(answer.durationMs).toBeLessThan(4_000);
    expect(server.requests).toHaveLength(1);
  });

  test.each<Row>([
    ['101 Switching Protocols', says('HTTP/1.1 101 Switching Protocols\r\n\r\n'), 'http_error', 101, ''],
    [
      '101 with an upgrade',
      says('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\0'),
      ...(['http_error', 101, ''] as const),
    ],
    ['204 with a body', says('HTTP/1.1 204 No Content\r\n\r\n{"ok":true}'), 'delivered', 204, ''],
    [
      '204 with a length and a body',
      says('HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok'),
      ...(['delivered', 204, ''] as const),
    ],
    [
      '205 Reset Content',
      says('HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n'),
      ...(['delivered', 205, ''] as const),
    ],
    ['304 Not Modified', says('HTTP/1.1 304 Not Modified\r\n\r\n'), 'http_error', 304, ''],
    ...[407, 421, 600, 999].map((status): Row => [
      `${status}`,
      says(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`),
      ...(['http_error', status, ''] as const),
    ]),
    ['an unfinished status line', saysAndCloses('HTTP/1.1 200'), 'network_error', null, null],
    ['a status of two digits', saysAndCloses('HTTP/1.1 20 OK\r\n\r\n'), 'network_error', null, null],
    ['a status of four digits', saysAndCloses('HTTP/1.1 2000 OK\r\n\r\n'), 'network_error', null, null],
    ['HTTP/2', saysAndCloses('\0\0\x12\x04\0\0\0\0\0'), 'network_error', null, null],
    [
      'a status line of another protocol',
      saysAndCloses('SIP/2.0 200 OK\r\n\r\n'),
      'network_error',
      null,
      null,
    ],
  ])('of %s', async (_what, conduct, result, statusCode, responseBody) => {
    const server = closing(await rawSubscriber(conduct));
    expect(await post(client(), server.url)).toMatchObject({ result, statusCode, responseBody });
    expect(server.requests).toHaveLength(1);
  });

  test('of an answer that comes before the body was read', async () => {
    const server = closing(
      await listen(net.createServer((socket) => void socket.once('data', () => socket.end(OK)))),
    );
    const answer = await post(client(), server.url, 5_000, JSON.stringify('x'.repeat(262_144)));
    expect(answer).toMatchObject({ result: 'delivered', statusCode: 200 });
  });

  test('though interim answers never end, when they are too much to read', async () => {
    const server = closing(
      await rawSubscriber(async (socket) => {
        for (; !socket.destroyed; await sleep(1)) socket.write(HINTS.repeat(200));
      }),
    );
    expect(await post(client(), server.url)).toMatchObject({
      result: 'network_error',
      error: 'the answer is not HTTP/1.1: HEAD_TOO_LONG',
    });
  });
});

describe('the timeout', () => {
  const TIMEOUT_MS = 300;
  const within = async (url: string, to = client({ WEBHOOK_CONNECT_TIMEOUT_MS: 5_000 })) => {
    const startedAt = performance.now();
    const answer = await post(to, url, TIMEOUT_MS);
    const tookMs = performance.now() - startedAt;
    expect(tookMs).toBeLessThan(2_500);
    expect(answer.durationMs).toBeGreaterThanOrEqual(TIMEOUT_MS - 10);
    expect(Math.abs(answer.durationMs - tookMs)).toBeLessThan(100);
    return answer;
  };
  const timedOut = { result: 'timeout', statusCode: null, error: 'no answer within 300 ms' };

  test('holds while the host name is looked up', async () => {
    const to = closing(
      createWebhookClient(clientSettings({ WEBHOOK_CONNECT_TIMEOUT_MS: 5_000 }), {
        resolve: () => undefined,
      }),
    );
    expect(await within('http://subscriber.example/', to)).toMatchObject(timedOut);
  });

  test('holds while the connection is being made', async () => {
    // A listener that accepts nothing, its queue full: the kernel lets further connections wait.
    const script = `const server = require('node:net').createServer();
      server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
        require('node:fs').writeSync(1, String(server.address().port));
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30_000);
      });`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    closing({ close: () => void child.kill('SIGKILL') });
    const port = Number(await new Promise<Buffer>((resolve) => child.stdout.once('data', resolve)));
    const fill = Array.from({ length: 4 }, () => net.connect(port, '127.0.0.1').on('error', () => undefined));
    closing({ close: () => fill.forEach((socket) => socket.destroy()) });
    await sleep(100);
    expect(await within(`http://127.0.0.1:${port}/`)).toMatchObject(timedOut);
  });

  test('holds during the TLS handshake', async () => {
    const server = closing(await listen(net.createServer(() => undefined)));
    expect(await within(server.url.replace('http', 'https'))).toMatchObject(timedOut);
  });

  test('holds while the status line drips in', async () => {
    const server = closing(await rawSubscriber(drips('HTTP/1.1 200 OOOO', 10)));
    expect(await within(server.url)).toMatchObject(timedOut);
  });

  test('holds while interim answers drip in', async () => {
    const server = closing(
      await rawSubscriber(async (socket) => {
        for (; !socket.destroyed; await sleep(20)) socket.write(CONTINUE);
      }),
    );
    expect(await within(server.url)).toMatchObject(timedOut);
  });

  test.each([
    ['headers drip', drips('1', 10, 'HTTP/1.1 200 OK\r\nX-Drip: ')],
    ['a body never comes', says('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n')],
    ['chunks never end', says('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n')],
  ])('holds, and the status that has come decides, while %s', async (_what, conduct) => {
    const server = closing(await rawSubscriber(conduct));
    expect(await within(server.url)).toMatchObject({ result: 'delivered', statusCode: 200, error: null });
  });

  test('holds while all connections of the origin are taken', async () => {
    const server = closing(await rawSubscriber(() => undefined));
    const to = client({ WEBHOOK_CONNECTIONS_PER_ORIGIN: 1 });
    const taken = post(to, server.url, 600);
    await sleep(50);
    expect(await within(server.url, to)).toMatchObject(timedOut);
    expect((await taken).result).toBe('timeout');
    expect(server.requests).toHaveLength(1);
  });

  test('leaves no connection behind', async () => {
    const closed: Promise<void>[] = [];
    const server = net.createServer((socket) => {
      closed.push(new Promise((resolve) => socket.on('close', () => resolve())));
      socket.on('error', () => undefined).resume();
    });
    const { url } = closing(await listen(server));
    const to = client();
    await Promise.all([within(url, to), within(url.replace('http', 'https'), to)]);
    await Promise.all(closed);
    expect(closed).toHaveLength(2);
  });
});

describe('a connection that is kept open', () => {
  test('and is closed by the subscriber under the next request is no failure: that is repeated once, on a new one', async () => {
    const server = closing(
      await rawSubscriber((socket, nth) => void (nth === 1 ? socket.write(OK) : socket.destroy())),
    );
    const to = client();
    expect((await post(to, server.url)).result).toBe('delivered');
    await sleep(20);
    expect(await post(to, server.url)).toMatchObject({ result: 'delivered', statusCode: 200 });
    expect(server.connections()).toBe(2);
    expect(server.requests).toHaveLength(3);
    const bodies = server.requests.map((request) => request.split('\r\n\r\n')[1]);
    expect(new Set(bodies)).toEqual(new Set(['{}']));
  });

  test('is not repeated a second time', async () => {
    let accepted = 0;
    const server = net.createServer((socket) => {
      const first = ++accepted === 1;
      let nth = 0;
      socket.on('data', () => void (first && ++nth === 1 ? socket.write(OK) : socket.destroy()));
    });
    const { url } = closing(await listen(server));
    const to = client();
    expect((await post(to, url)).result).toBe('delivered');
    await sleep(20);
    expect(await post(to, url)).toMatchObject({ result: 'network_error', statusCode: null });
    expect(accepted).toBe(2);
  });

  test('is not repeated at all on a connection of its own, or when the time is up', async () => {
    const dropping = closing(await rawSubscriber((socket) => void socket.destroy()));
    expect((await post(client(), dropping.url)).result).toBe('network_error');
    expect(dropping.requests).toHaveLength(1);

    const silent = closing(await rawSubscriber((socket, nth) => void (nth === 1 && socket.write(OK))));
    const to = client();
    expect((await post(to, silent.url)).result).toBe('delivered');
    await sleep(20);
    expect((await post(to, silent.url, 200)).result).toBe('timeout');
    expect(silent.requests).toHaveLength(2);
  });

  test('is given up when the subscriber speaks unasked on it', async () => {
    const server = closing(
      await rawSubscriber(async (socket, nth) => {
        socket.write(`HTTP/1.1 20${nth} OK\r\nContent-Length: 0\r\n\r\n`);
        await sleep(40);
        socket.write('HTTP/1.1 299 Not asked\r\nContent-Length: 0\r\n\r\n');
      }),
    );
    const to = client();
    expect((await post(to, server.url)).statusCode).toBe(201);
    await sleep(100);
    expect((await post(to, server.url)).statusCode).toBe(201);
    expect(server.connections()).toBe(2);
  });

  test('serves deliveries one after the other, and is not kept longer than the subscriber says', async () => {
    const server = closing(
      await subscriber(
        (response) =>
          void response.writeHead(200, { connection: 'keep-alive', 'keep-alive': 'timeout=0' }).end(),
      ),
    );
    const to = client();
    await post(to, server.url);
    await sleep(20);
    await post(to, server.url);
    expect(server.connections()).toBe(2);
  });
});
