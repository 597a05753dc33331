import { readFileSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import fc from 'fast-check';
import type { ResolveAll } from '../../../src/webhooks/dns';
import { createWebhookClient, parseRetryAfter, type WebhookClient } from '../../../src/webhooks/client';
import { storableText } from '../../../src/webhooks/storable-text';
import { clientSettings, listen, LOOPBACK, subscriber } from '../../support/subscriber';

const open: { close(): Promise<void> }[] = [];
const closing = <T extends { close(): Promise<void> }>(each: T): T => {
  open.push(each);
  return each;
};
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

const client = (changes = {}) => closing(createWebhookClient(clientSettings({ ...LOOPBACK, ...changes })));
const post = (to: WebhookClient, url: string, timeoutMs = 3_000, body = '{}') =>
  to.postWebhook({ url, headers: { 'webhook-id': 'evt_1' }, body, timeoutMs });

describe('a webhook request', () => {
  test('is a POST of exactly the body, with our name, the content type and the given headers', async () => {
    const server = closing(await subscriber((response) => response.end('thanks')));
    const body = '{"a": "ä\u0000", "b":1.0}';
    const answer = await post(client(), `${server.url}/hooks/1?x=%20y#part`, 3_000, body);
    expect(answer).toEqual({
      result: 'delivered',
      statusCode: 200,
      durationMs: expect.any(Number) as number,
      error: null,
      responseBody: 'thanks',
      responseHeaders: expect.objectContaining({ connection: ['keep-alive'] }) as object,
      retryAfterMs: null,
    });
    const [received] = server.received;
    expect(received).toMatchObject({ method: 'POST', path: '/hooks/1?x=%20y', body });
    expect(received?.headers).toMatchObject({
      'webhook-id': 'evt_1',
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(body)),
      'user-agent': expect.stringMatching(/^remit\/\d+\.\d+\.\d+$/) as string,
    });
  });

  test.each([200, 201, 202, 204, 299])('is delivered when %i is answered', async (status) => {
    const server = closing(await subscriber((response) => void response.writeHead(status).end()));
    expect(await post(client(), server.url)).toMatchObject({ result: 'delivered', statusCode: status });
  });

  test.each([300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 410, 429, 500, 503])(
    'has failed when %i is answered',
    async (status) => {
      const elsewhere = closing(await subscriber((response) => response.end()));
      const server = closing(
        await subscriber((response) => void response.writeHead(status, { location: elsewhere.url }).end()),
      );
      expect(await post(client(), server.url)).toMatchObject({
        result: 'http_error',
        statusCode: status,
        error: expect.stringContaining(String(status)) as string,
      });
      expect(elsewhere.connections()).toBe(0);
    },
  );

  test('shares connections, at most as many as an origin may have', async () => {
    let busy = 0;
    let most = 0;
    const server = closing(
      await subscriber((response) => {
        most = Math.max(most, ++busy);
        setTimeout(() => {
          busy--;
          response.end();
        }, 20);
      }),
    );
    const to = client({ WEBHOOK_CONNECTIONS_PER_ORIGIN: 3 });
    await Promise.all(Array.from({ length: 12 }, () => post(to, server.url)));
    expect(server.received).toHaveLength(12);
    expect(most).toBe(3);
    expect(server.connections()).toBe(3);
  });

  test('finishes although its origin is the least recently used of too many', async () => {
    const slow = closing(await subscriber((response) => void setTimeout(() => response.end('late'), 200)));
    const other = closing(await subscriber((response) => response.end()));
    const to = client({ WEBHOOK_ORIGINS_MAX: 1 });
    const [late, fast] = await Promise.all([post(to, slow.url), post(to, other.url)]);
    expect([late.result, late.responseBody, fast.result]).toEqual(['delivered', 'late', 'delivered']);
    expect((await post(to, slow.url)).result).toBe('delivered');
  });
});

describe('a subscriber that does not answer as it should', () => {
  test('has timed out when it never answers', async () => {
    const server = closing(await subscriber(() => undefined));
    const answer = await post(client(), server.url, 300);
    expect(answer).toMatchObject({ result: 'timeout', statusCode: null, error: 'no answer within 300 ms' });
    expect(answer.durationMs).toBeGreaterThanOrEqual(290);
    expect(answer.durationMs).toBeLessThan(1_500);
  });

  test.each([
    [200, 'delivered'],
    [500, 'http_error'],
  ])('is judged by its status %i when the body never ends', async (status, result) => {
    const server = closing(
      await subscriber((response) => {
        response.writeHead(status).write('begin');
        const drip = setInterval(() => response.write('.'), 50);
        response.on('close', () => clearInterval(drip));
      }),
    );
    const answer = await post(client(), server.url, 400);
    expect(answer).toMatchObject({ result, statusCode: status });
    expect(answer.responseBody).toMatch(/^begin\.+$/);
    expect(answer.durationMs).toBeLessThan(1_500);
  });

  test('has its endless body cut and its connection dropped', async () => {
    let sent = 0;
    const server = closing(
      await subscriber((response) => {
        const chunk = Buffer.alloc(65_536, 'x');
        const pour = () => {
          while (!response.destroyed && response.write(chunk)) sent += chunk.length;
        };
        response.on('drain', pour);
        pour();
      }),
    );
    const answer = await post(client(), server.url);
    expect(answer.result).toBe('delivered');
    expect(answer.responseBody).toBe('x'.repeat(16_384));
    expect(answer.durationMs).toBeLessThan(2_500);
    expect(sent).toBeLessThan(16_777_216);
  });

  test('can not smuggle NUL and invalid UTF-8 into the database', async () => {
    const server = closing(
      await subscriber(
        (response) => void response.writeHead(500).end(Buffer.from([0x61, 0, 0xff, 0xc3, 0x28, 0x62])),
      ),
    );
    expect((await post(client(), server.url)).responseBody).toBe('a\uFFFD\uFFFD\uFFFD(b');
  });

  test('has failed when nothing listens', async () => {
    const server = await listen(net.createServer());
    await server.close();
    expect(await post(client(), server.url)).toMatchObject({
      result: 'network_error',
      error: 'the connection failed: ECONNREFUSED',
    });
  });

  test.each(['', 'SSH-2.0-OpenSSH_9.9\r\n'])('has failed when it says %j and hangs up', async (words) => {
    const server = closing(
      await listen(net.createServer((socket) => void socket.on('data', () => socket.end(words)))),
    );
    expect(await post(client(), server.url)).toMatchObject({ result: 'network_error', statusCode: null });
  });

  test('has failed when its certificate is not trusted', async () => {
    const file = (name: string) => readFileSync(path.join(__dirname, 'tls', name));
    const server = https.createServer(
      { key: file('key.pem'), cert: file('certificate.pem') },
      (_, response) => response.end(),
    );
    const { port } = closing(await listen(server));
    expect(await post(client(), `https://127.0.0.1:${port}/`)).toMatchObject({
      result: 'tls_error',
      error: 'no TLS connection: DEPTH_ZERO_SELF_SIGNED_CERT',
    });
  });

  test('has failed when it speaks no TLS on an https URL', async () => {
    const server = closing(await subscriber((response) => response.end()));
    expect((await post(client(), server.url.replace('http', 'https'))).result).toBe('tls_error');
  });

  test('has timed out when it takes the connection but never finishes the TLS handshake', async () => {
    const server = closing(await listen(net.createServer(() => undefined)));
    const to = client({ WEBHOOK_CONNECT_TIMEOUT_MS: 200 });
    expect(await post(to, server.url.replace('http', 'https'))).toMatchObject({
      result: 'timeout',
      error: 'no connection in time',
    });
  });

  test('has failed when its name does not exist', async () => {
    const resolve: ResolveAll = (_hostname, _options, callback) =>
      callback(
        Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND', syscall: 'getaddrinfo' }),
        [],
      );
    const to = closing(createWebhookClient(clientSettings(), { resolve }));
    expect(await post(to, 'http://subscriber.example/')).toMatchObject({
      result: 'dns_error',
      error: 'the host name can not be resolved: ENOTFOUND',
    });
  });

  test('has timed out when DNS never answers', async () => {
    const to = closing(createWebhookClient(clientSettings(), { resolve: () => undefined }));
    expect((await post(to, 'http://subscriber.example/', 300)).result).toBe('timeout');
  });
});

describe('what is wrong on our side', () => {
  test.each(['EMFILE', 'ENOMEM', 'EADDRNOTAVAIL'])(
    'is thrown, not blamed on the subscriber: %s',
    async (code) => {
      const resolve: ResolveAll = (_hostname, _options, callback) =>
        callback(Object.assign(new Error(code), { code }), []);
      const to = closing(createWebhookClient(clientSettings(), { resolve }));
      await expect(post(to, 'http://subscriber.example/')).rejects.toThrow(code);
    },
  );

  const refusedBy = (address: string, code = 'EADDRNOTAVAIL') =>
    Object.assign(new Error(`connect ${code} ${address}`), { code, syscall: 'connect', address });
  const together = (...errors: Error[]) =>
    Object.assign(new AggregateError(errors), { code: (errors[0] as NodeJS.ErrnoException).code });
  const failingWith = (error: Error) => {
    const resolve: ResolveAll = (_hostname, _options, callback) => callback(error, []);
    return closing(createWebhookClient(clientSettings(), { resolve }));
  };

  test.each([
    ['no local port is left', refusedBy('1.1.1.1')],
    ['no local port is left for any address', together(refusedBy('1.1.1.1'), refusedBy('1.0.0.1'))],
  ])('is thrown when %s', async (_what, error) => {
    await expect(post(failingWith(error), 'http://subscriber.example/')).rejects.toBe(error);
  });

  test.each([
    ['it has IPv6 alone and this host has none', refusedBy('2606:4700::1')],
    [
      'one of its addresses refuses us and the other is IPv6',
      together(refusedBy('2606:4700::1'), refusedBy('1.1.1.1', 'ECONNREFUSED')),
    ],
    [
      'one of its addresses refuses us, whatever we lack for the other',
      together(refusedBy('1.0.0.1'), refusedBy('1.1.1.1', 'ECONNREFUSED')),
    ],
  ])('is not what a subscriber meets when %s', async (_what, error) => {
    expect(await post(failingWith(error), 'http://subscriber.example/')).toMatchObject({
      result: 'network_error',
      error: 'the connection failed: EADDRNOTAVAIL',
    });
  });
});

describe('Retry-After', () => {
  const now = Date.parse('2026-11-21T09:00:00Z');
  const DAY = 24 * 3_600_000;

  test.each([
    ['120', 120_000],
    ['0', 0],
    ['Sat, 21 Nov 2026 09:02:00 GMT', 120_000],
    ['Saturday, 21-Nov-26 09:02:00 GMT', 120_000],
    ['Sat Nov 21 09:02:00 2026', 120_000],
    ['Sat, 21 Nov 2026 08:00:00 GMT', 0],
    ['999999999999', DAY],
    ['9'.repeat(400), DAY],
    ['Fri, 31 Dec 9999 23:59:59 GMT', DAY],
    ['-1', null],
    ['1.5', null],
    ['1e3', null],
    ['soon', null],
    ['2026-11-22', null],
    ['', null],
    [undefined, null],
  ])('%j means %j ms', (header, expected) => {
    expect(parseRetryAfter(header, now, DAY)).toBe(expected);
  });

  test('is never negative and never above its bound', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.nat().map(String),
          fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
        ),
        fc.nat(),
        (header, maxMs) => {
          const waitMs = parseRetryAfter(header, now, maxMs) ?? 0;
          expect(waitMs >= 0 && waitMs <= maxMs).toBe(true);
        },
      ),
    );
  });

  test('reaches the caller from the answer', async () => {
    const server = closing(
      await subscriber((response) => void response.writeHead(503, { 'retry-after': '90' }).end()),
    );
    expect((await post(client(), server.url)).retryAfterMs).toBe(90_000);
  });
});

describe('text for the database', () => {
  test('is valid, without NUL, and within its bytes, whatever the bytes were', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(100), (bytes, maxBytes) => {
        const text = storableText(bytes, maxBytes);
        expect(text.includes('\0')).toBe(false);
        expect(Buffer.from(text).toString()).toBe(text);
        expect(Buffer.byteLength(text)).toBeLessThanOrEqual(maxBytes);
      }),
      { numRuns: 2_000 },
    );
  });

  test('keeps valid text and cuts it between characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 50 }), fc.nat(100), (text, maxBytes) => {
        const clean = text.replaceAll('\0', '');
        const kept = storableText(Buffer.from(clean), maxBytes);
        expect(clean.startsWith(kept)).toBe(true);
        expect(
          Buffer.byteLength(clean) - Buffer.byteLength(kept) === 0 || Buffer.byteLength(kept) > maxBytes - 4,
        ).toBe(true);
      }),
    );
  });
});
