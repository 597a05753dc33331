import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Router } from 'express';
import { allRoutes, createApp } from '../../../src/api/app';
import { Readiness } from '../../../src/contracts/http';
import { metrics } from '../../../src/platform/metrics';
import { createKeyring } from '../../../src/platform/secrets';
import { startApi } from '../../../src/roles/api';
import { createTestSpace, eventually, runRoles } from '../../support/harness';
import { expectProblem, newUser, TestApi } from './support';

let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start();
});
afterAll(() => api?.stop());

/** Sends bytes as they are and returns what comes back until the connection is closed. */
async function raw(url: string, text: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = net.connect(Number(port), hostname);
  socket.write(text);
  let answer = '';
  socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
  socket.on('error', () => undefined);
  await Promise.race([once(socket, 'close'), sleep(8_000)]);
  socket.destroy();
  return answer;
}

describe('every request', () => {
  it('is answered with its correlation id, or a new one when that is not acceptable', async () => {
    const idFor = async (id?: string) =>
      (await api.call('GET', '/healthz', id === undefined ? {} : { 'x-correlation-id': id })).headers.get(
        'x-correlation-id',
      );
    expect(await idFor('abc-123:4.5_6')).toBe('abc-123:4.5_6');
    for (const bad of [undefined, '', 'a b', 'x'.repeat(129), '<script>', '"', '-a'])
      expect(await idFor(bad)).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('to nowhere is a 404 in the form of every problem, without repeating the query', async () => {
    for (const path of [
      '/nowhere',
      '/api/v1',
      '/api/v2/payments',
      '/accounts/none',
      '/__proto__',
      '/%00',
      '/a//b',
    ]) {
      const problem = expectProblem(await api.call('GET', `${path}?token=secret`), 404, 'not_found');
      expect(JSON.stringify(problem)).not.toContain('secret');
    }
  });

  it('with a method that the path has not is a 405 that names those it has', async () => {
    for (const [method, path, allow] of [
      ['PUT', '/accounts', 'POST, OPTIONS'],
      ['DELETE', '/orders', 'POST, GET, HEAD, OPTIONS'],
      ['PUT', '/api/v1/subscriptions/x', 'GET, PATCH, DELETE, HEAD, OPTIONS'],
      ['POST', '/openapi.json', 'GET, HEAD, OPTIONS'],
    ] as const) {
      const reply = await api.call(method, path);
      expectProblem(reply, 405, 'method_not_allowed');
      expect(reply.headers.get('allow')).toBe(allow);
    }
    const options = await api.call('OPTIONS', '/orders');
    expect(options.status).toBe(204);
    expect(options.headers.get('allow')).toContain('POST');
  });

  it('with a body that is not JSON is refused before it is read', async () => {
    const send = (headers: Record<string, string>, body: string) =>
      api.call('POST', '/orders', { 'x-user-id': 'user', ...headers }, body);
    expectProblem(
      await send({ 'content-type': 'text/plain' }, '{"amount":1}'),
      415,
      'unsupported_media_type',
    );
    expectProblem(
      await send({ 'content-type': 'application/x-www-form-urlencoded' }, 'amount=1'),
      415,
      'unsupported_media_type',
    );
    expectProblem(await send({ 'content-encoding': 'gzip' }, '{}'), 415, 'unsupported_media_type');
    expectProblem(
      await send({ 'content-type': 'application/json; charset=latin1' }, '{}'),
      415,
      'unsupported_media_type',
    );
    for (const text of ['{', '{"amount":}', 'nul', '\u0000', '{"amount":1}}'])
      expectProblem(await send({}, text), 400, 'invalid_json');
    expectProblem(await send({}, `{"description":"${'x'.repeat(70_000)}"}`), 413, 'body_too_large');
  });

  it('says nothing of what answers it, and everything to browsers', async () => {
    const { headers } = await api.asUser('user', 'GET', '/orders');
    expect(headers.get('x-powered-by')).toBeNull();
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('cache-control')).toBe('no-store');
  });

  it('is measured by the template of its route, never by its path', async () => {
    await api.asUser(newUser(), 'GET', '/orders/11111111-1111-4111-8111-111111111111');
    await api.call('GET', '/nowhere/at/all');
    await eventually(async () => {
      const { values } = await metrics.httpRequestSeconds.get();
      const routes = new Set(values.map(({ labels }) => labels.route));
      expect(routes).toContain('/orders/:orderId');
      expect(routes).toContain('unmatched');
      for (const route of routes) expect(String(route)).not.toContain('1111');
    });
  });

  it('that is no HTTP is answered with a problem document too', async () => {
    const answer = await raw(api.url, 'GET /healthz HTTP/1.1\r\nHost: a\r\nBad Header\r\n\r\n');
    expect(answer).toContain('HTTP/1.1 400');
    expect(answer).toContain('urn:remit:error:invalid_request');
    const long = await raw(api.url, `GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: ${'a'.repeat(20_000)}\r\n\r\n`);
    expect(long).toContain('HTTP/1.1 431');
    const notEncoded = await raw(
      api.url,
      'GET /orders/%zz HTTP/1.1\r\nHost: a\r\nX-User-Id: u\r\nConnection: close\r\n\r\n',
    );
    expect(notEncoded).toContain('HTTP/1.1 400');
  });
});

describe('time', () => {
  it('is limited for a body that does not arrive: 408', async () => {
    const space = await createTestSpace({ env: { API_REQUEST_TIMEOUT_MS: '1000' } });
    const running = await runRoles(space, startApi);
    try {
      const answer = await raw(
        running.started.url,
        'POST /orders HTTP/1.1\r\nHost: a\r\nX-User-Id: u\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"amo',
      );
      expect(answer).toContain('HTTP/1.1 408');
      expect(answer).toContain('urn:remit:error:request_timeout');
      expect(answer.toLowerCase()).toContain('connection: close');
    } finally {
      await running.stop();
    }
  });
});

describe('health', () => {
  it('names what the API depends on', async () => {
    expect((await api.call('GET', '/healthz')).body).toEqual({ alive: true });
    const ready = await api.call('GET', '/readyz');
    expect(ready.status).toBe(200);
    expect(Readiness.parse(ready.body).dependencies).toEqual({
      postgres: 'ok',
      'postgres money pool': 'ok',
      kafka: 'ok',
    });
  });
});

describe('the OpenAPI document', () => {
  interface Document {
    openapi: string;
    paths: Record<string, Record<string, { operationId: string; responses: Record<string, unknown> }>>;
  }
  interface Layer {
    route?: { path: string; stack: { method?: string }[] };
  }

  /** What Express itself will route, read from its own tables. */
  function mounted(): string[] {
    const { config, log } = api.space;
    const { context, lifecycle } = api.running;
    const producer = { send: () => Promise.reject(new Error('not used')) };
    const app = createApp({
      ...{ config, log, lifecycle, producer, kafka: context.kafka },
      temporal: () => context.temporal(),
      database: context.database(),
      keyring: createKeyring(config),
    });
    const { stack } = app.router as unknown as Router & { stack: Layer[] };
    return stack
      .flatMap(({ route }) =>
        [...new Set(route?.stack.map(({ method }) => method).filter(Boolean))].map(
          (method) => `${method} ${route?.path.replace(/:(\w+)/g, '{$1}')}`,
        ),
      )
      .sort();
  }

  it('has every route of the application, and no other', async () => {
    const { body } = await api.call('GET', '/openapi.json');
    const document = body as Document;
    expect(document.openapi).toBe('3.1.0');
    const documented = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method} ${path}`),
    );
    // The one route that is no part of the API leads people to the console.
    expect([...documented, 'get /'].sort()).toEqual(mounted());
    expect(documented).toHaveLength(allRoutes().length);
  });

  it('gives every operation an id of its own and the problems it can answer with', async () => {
    const document = (await api.call('GET', '/openapi.json')).body as Document;
    const operations = Object.values(document.paths).flatMap((path) => Object.values(path));
    expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
    expect(Object.keys(document.paths['/orders']!['post']!.responses)).toEqual(
      expect.arrayContaining(['201', '400', '401', '413', '415', '500']),
    );
    expect(Object.keys(document.paths['/webhooks/providers/{provider}']!['post']!.responses)).toEqual(
      expect.arrayContaining(['202', '400', '401', '404', '500']),
    );
  });
});

describe('stopping', () => {
  it('finishes the requests in flight, refuses new connections, and leaves no idle one open', async () => {
    const space = await createTestSpace({ topics: true });
    const running = await runRoles(space, startApi);
    const { url } = running.started;
    const agent = new http.Agent({ keepAlive: true });
    const send = (path: string, body?: string) =>
      new Promise<{ status: number; connection: string | undefined }>((resolve, reject) => {
        const request = http.request(
          `${url}${path}`,
          {
            agent,
            method: body === undefined ? 'GET' : 'POST',
            headers: {
              'x-user-id': 'user',
              ...(body === undefined
                ? {}
                : { 'content-type': 'application/json', 'content-length': body.length }),
            },
          },
          (response) => {
            response.resume();
            response.on('end', () =>
              resolve({ status: response.statusCode ?? 0, connection: response.headers.connection }),
            );
          },
        );
        request.on('error', reject);
        if (body === undefined) return void request.end();
        request.write(body.slice(0, 5));
        setTimeout(() => request.end(body.slice(5)), 500);
      });
    await send('/healthz');
    const slow = send('/orders', '{"amount":1}');
    await sleep(200);
    const stopped = running.stop();
    expect((await slow).status).toBe(201);
    await stopped;
    await expect(fetch(`${url}/healthz`)).rejects.toThrow();
    agent.destroy();
  });
});
