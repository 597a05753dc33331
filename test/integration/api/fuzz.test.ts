import http from 'node:http';
import fc from 'fast-check';
import { allRoutes } from '../../../src/api/app';
import { problemCodes } from '../../../src/api/openapi';
import type { RawRoute, Route } from '../../../src/api/routes/route';
import { PROBLEM_STATUS } from '../../../src/contracts/errors';
import { migrateClickHouse } from '../../../src/platform/clickhouse-migrations';
import { mintToken } from '../../../src/operations/token';
import { expectProblem, TestApi, type Reply } from './support';

let api: TestApi;
let token: string;
beforeAll(async () => {
  api = await TestApi.start();
  token = await mintToken(api.space.config, {
    subject: 'fuzz',
    scopes: ['admin', 'platform'],
    expiresInS: 3_600,
  });
  await migrateClickHouse(api.space.config, api.space.log);
  await api.fund('fuzz', '1000.00');
  const made = await send(
    'POST',
    '/api/v1/event-types',
    JSON_AS_ADMIN(),
    JSON.stringify({ name: 'fuzz.known' }),
  );
  expect(made.status).toBe(201);
  const labelled = { url: 'https://example.com/hook', eventTypes: ['*'], labels: ['fuzz'] };
  const subscribed = await send('POST', '/api/v1/subscriptions', JSON_AS_ADMIN(), JSON.stringify(labelled));
  expect(subscribed.status).toBe(201);
});
afterAll(() => api?.stop());

const RUNS = 150;
const JSON_AS_ADMIN = () => ({ authorization: `Bearer ${token}`, 'content-type': 'application/json' });

/** Values that have broken servers before, among ordinary ones. */
const nasty = fc.oneof(
  fc.constantFrom<unknown>(
    ...[
      '\u0000',
      'a\u0000b',
      '\ud800',
      '\u202e',
      '💥'.repeat(50),
      '',
      ' ',
      '__proto__',
      'constructor',
      'NaN',
    ],
    ...[
      '-0',
      '1e999',
      '9'.repeat(400),
      "'; DROP TABLE orders; --",
      '{{7*7}}',
      '../../etc/passwd',
      '2'.repeat(5_000),
    ],
    ...[
      '9999999999999.99',
      '0.01',
      'http://[::1',
      'https://例え.jp/',
      'http://2130706433/',
      '*',
      'JPY',
      'XXX',
    ],
    ...[1e308, -1, 0, 0.1, 1e-9, 9007199254740993, null, true, [], {}, [[]], { toString: 1 }, { $ne: null }],
  ),
  fc.jsonValue(),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.double(),
);

const money = { amount: '1.00', currency: 'TRY' };
const transaction = { ...money, userId: 'fuzz', provider: 'decard' };
/** A body that each route accepts; one part of it at a time is replaced below. */
const ACCEPTED: Record<string, Record<string, unknown>> = {
  '/accounts': { currency: 'EUR' },
  '/accounts/topup': money,
  '/orders': { ...money, description: 'x' },
  '/api/v1/payments': transaction,
  '/api/v1/payouts': { ...transaction, reserve: true },
  '/api/v1/subscriptions': { url: 'https://example.com/hook', eventTypes: ['*'], description: '' },
  '/api/v1/portal-links': { label: 'fuzz', brand: { name: 'x', color: '#0b6e4f' } },
  '/api/v1/event-types': { name: 'fuzz.made', description: '' },
  '/api/v1/event-types/:name': { description: 'x' },
  '/api/v1/event-configs': { eventType: 'fuzz.known', enabled: true },
  '/api/v1/event-configs/:eventType': { enabled: true },
  '/api/v1/events': { type: 'fuzz.known', data: { a: 1 } },
  '/api/v1/events/batch': { events: [{ type: 'fuzz.known', data: {} }] },
  '/api/v1/replays': { subscriptionId: 'sub_nobody', kind: 'all', since: '2026-01-01T00:00:00Z' },
  '/api/v1/deliveries/retry': { dryRun: true },
  '/api/v1/deliveries/cancel': { dryRun: true },
  '/api/v1/subscriptions/:id': { description: 'x' },
  '/api/v1/orders/:id/refunds': { reason: 'x' },
  '/api/v1/corrections': {
    ...{ accountId: '6f9619ff-8b86-4011-b42d-00c04fc964ff', direction: 'credit' },
    ...{ amount: '1.00', reason: 'x' },
  },
  '/api/v1/subscriptions/:id/filter-test': { filter: [] },
  '/api/v1/corrections/:id/approve': { comment: 'x' },
  '/api/v1/corrections/:id/reject': { comment: 'x' },
  '/api/v1/dead-letters/:topic/redrive': { limit: 1 },
  '/api/v1/dead-letters/:topic/purge': { done: true },
  '/api/v1/outbox/refused/retry': { ids: ['1'] },
  '/api/v1/outbox/refused/discard': { ids: ['1'] },
  '/api/v1/disputes/:id/evidence': { text: 'delivered on time', documents: [] },
  '/webhooks/payments/orders': {
    ...{ ...money, status: 'success', user_id: 'fuzz', provider_event_id: 'evt_1' },
    order_id: '6f9619ff-8b86-4011-b42d-00c04fc964ff',
  },
  '/webhooks/payments/chargebacks': {
    ...{ ...money, status: 'opened', provider_event_id: 'evt_1' },
    order_id: '6f9619ff-8b86-4011-b42d-00c04fc964ff',
  },
  '/webhooks/providers/:provider': {
    ...{ ...money, provider: 'decard', status: 'success', type: 'payment' },
    transactionId: '6f9619ff-8b86-4011-b42d-00c04fc964ff',
  },
};

function bodyFor(path: string) {
  const accepted = ACCEPTED[path] ?? {};
  const field = fc.constantFrom(...Object.keys(accepted), '__proto__', 'constructor', 'extra');
  const changed = fc
    .tuple(field, nasty)
    .map(([name, value]) =>
      JSON.stringify(accepted).replace(/\}$/, `,${JSON.stringify(name)}:${JSON.stringify(value) ?? null}}`),
    );
  return fc.oneof(
    { arbitrary: fc.constant(JSON.stringify(accepted)), weight: 2 },
    { arbitrary: changed, weight: 6 },
    { arbitrary: nasty.map((value) => JSON.stringify(value) ?? ''), weight: 1 },
    { arbitrary: fc.string({ unit: 'binary' }), weight: 1 },
  );
}

const anySegment = fc.oneof(
  fc.constantFrom('%00', '%ff', '%', '%zz', '%2f', '..', '__proto__', '%F0%9F%92%A5', 'x'.repeat(3_000)),
  fc.uuid(),
  fc
    .string({ unit: 'binary', minLength: 1, maxLength: 20 })
    .map((text) => encodeURIComponent(Buffer.from(text).toString())),
);
const segmentFor = (path: string) =>
  path.endsWith(':provider')
    ? fc.oneof({ arbitrary: fc.constant('decard'), weight: 9 }, { arbitrary: anySegment, weight: 1 })
    : anySegment;

const cursor = fc
  .tuple(fc.date({ noInvalidDate: true }), fc.oneof(fc.uuid(), fc.stringMatching(/^[\w-]{1,64}$/)))
  .map(([at, id]) => Buffer.from(JSON.stringify([at.toISOString(), id])).toString('base64url'));
const anyValue = fc.oneof(
  fc.constantFrom('', '%00', '%', '%ff', '1', '-1', '1e9', 'TRY', 'pending', 'fuzz', '%ED%A0%80', '*'),
  cursor,
  fc
    .string({ unit: 'grapheme', maxLength: 30 })
    .map((text) => encodeURIComponent(Buffer.from(text).toString())),
);
function queryFor(route: Route | RawRoute) {
  const known = Object.keys(route.query?.shape ?? {});
  const name = fc.constantFrom(...known, ...known, ...known, '__proto__', 'a[b]');
  return fc.oneof(fc.constant({}), fc.dictionary(name, anyValue, { maxKeys: 2 }));
}

const HEADERS = [
  ...[
    'x-correlation-id',
    'x-user-id',
    'authorization',
    'webhook-id',
    'webhook-timestamp',
    'webhook-signature',
  ],
  ...['content-type', 'content-encoding', 'accept', 'if-none-match', 'range', 'expect-ct', 'x-forwarded-for'],
];
const latin1 = fc
  .integer({ min: 0x20, max: 0xff })
  .filter((code) => code !== 0x7f)
  .map((code) => String.fromCharCode(code));
const oddHeaders = fc.oneof(
  { arbitrary: fc.constant({}), weight: 3 },
  {
    arbitrary: fc.dictionary(fc.constantFrom(...HEADERS), fc.string({ unit: latin1, maxLength: 60 }), {
      maxKeys: 1,
    }),
    weight: 1,
  },
);

const isJson = ({ headers, statusCode }: http.IncomingMessage) =>
  statusCode !== 204 && /json/.test(headers['content-type'] ?? '');

/** node:http, which sends paths and headers as they are; fetch would repair them first. */
function send(method: string, path: string, headers: Record<string, string>, text?: string): Promise<Reply> {
  const { hostname, port } = new URL(api.url);
  return new Promise((resolve, reject) => {
    const request = http.request({ hostname, port, method, path, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const answer = Buffer.concat(chunks).toString();
        resolve({
          status: response.statusCode ?? 0,
          headers: new Headers(response.headers as Record<string, string>),
          body: isJson(response) ? (JSON.parse(answer) as unknown) : undefined,
        });
      });
    });
    request.on('error', reject);
    request.end(text);
  });
}

function expectDocumented(reply: Reply, route: Route | RawRoute): void {
  expect(reply.status).toBeLessThan(500);
  if (reply.status < 400) {
    expect(Object.keys(route.responses)).toContain(String(reply.status));
    route.responses[reply.status]?.schema?.parse(reply.body);
    return;
  }
  expect(problemCodes(route).map((code) => PROBLEM_STATUS[code])).toContain(reply.status);
  const { code } = reply.body as { code: string };
  expectProblem(reply, reply.status, code);
  expect(JSON.stringify(reply.body)).not.toMatch(/\bat .*\.[tj]s:\d+|prisma|SQLSTATE|node_modules/i);
}

function signed(template: string, text: string): Record<string, string> {
  const { PROVIDER_SECRET_DECARD: decard, ORDER_WEBHOOK_SECRET: payments } = api.space.config;
  const secret = template.startsWith('/webhooks/payments') ? payments! : decard!;
  return api.sign(text, undefined, undefined, secret);
}

describe('whatever a client sends', () => {
  // An answer without an end is tried elsewhere.
  const routes = allRoutes().filter(({ path }) => path !== '/api/v1/stream');
  it.each(routes.map((route) => [route.method.toUpperCase(), route.path, route] as const))(
    'to %s %s, it never gets a 5xx, and the answer is one that the OpenAPI document names',
    async (method, template, route) => {
      const seen = new Set<number>();
      const input = fc.tuple(segmentFor(template), queryFor(route), oddHeaders, bodyFor(template));
      await fc.assert(
        fc.asyncProperty(input, async ([part, parameters, odd, text]) => {
          const search = Object.entries(parameters)
            .map(([name, value]) => `${name}=${value}`)
            .join('&');
          const path = template.replace(/:\w+/, part) + (search ? `?${search}` : '');
          const reply = await send(
            method,
            path,
            {
              'x-user-id': 'fuzz',
              ...(route.access === 'token' ? { authorization: `Bearer ${token}` } : {}),
              ...(route.body ? { 'content-type': 'application/json' } : {}),
              ...('ifMatch' in route && route.ifMatch ? { 'if-match': '*' } : {}),
              ...(template.startsWith('/webhooks') ? signed(template, text) : {}),
              ...odd,
            },
            route.body ? text : undefined,
          );
          expectDocumented(reply, route);
          seen.add(reply.status);
        }),
        { numRuns: RUNS, endOnFailure: true },
      );
      // A fuzzer that every first check turns away tests nothing: what lies behind must have been reached.
      // Routes of one thing can't know an id that exists; replays name a subscription that does not.
      const namesNothing =
        (template.includes('/:') && !template.endsWith(':provider')) ||
        ['POST/api/v1/replays', 'POST/api/v1/corrections'].includes(method + template);
      const successes = Object.keys(route.responses).map(Number);
      expect([...seen].some((status) => (namesNothing ? status === 404 : successes.includes(status)))).toBe(
        true,
      );
    },
  );
});
