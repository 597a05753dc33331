import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { historyToJSON, payloadToJSON, type JSONPayload } from '@temporalio/common/lib/proto-utils';
import { z } from 'zod';
import { QUERIES, workflowId } from '../../../src/contracts/workflows';
import { createConsoleSession } from '../../../src/domain/console-sessions';
import { findTemporalCli } from '../../../src/embedded/temporal-cli';
import { mintToken } from '../../../src/operations/token';
import { connectTemporal } from '../../../src/platform/temporal';
import { signedHeaders } from '../../support/callers';
import { eventually, openTestDatabase } from '../../support/harness';
import { subscriber, type Subscriber } from '../../support/subscriber';
import { expectProblem, newUser, TestApi } from './support';

const UI = 'http://localhost:8233';
const EVIDENCE = 'Signed for by Ada Lovelace at the door';
const NOTE = 'a note that nobody else may read';
// So long that no id, time or ciphertext holds their digits by chance.
const PAID = '8675309241.77';
const ORDERED = '7590318642.53';
const digits = (amount: string) => amount.replace('.', '');

let api: TestApi;
let hooks: Subscriber;
/** As an outsider has it who can read Temporal: without the key. */
let outsider: Client;
let insider: Client;
const user = newUser();
const ids: Record<'payment' | 'order' | 'dispute' | 'delivery', string> = {
  ...{ payment: '', order: '', dispute: '', delivery: '' },
};

beforeAll(async () => {
  [api, hooks] = await Promise.all([
    TestApi.withWorkers({ WEBHOOK_SCHEDULE_MS: '0,3600000', TEMPORAL_UI_URL: `${UI}/some/where` }),
    subscriber((response) => {
      response.statusCode = 500;
      response.end(NOTE);
    }),
  ]);
  const { config } = api.space;
  const connection = await Connection.connect({ address: config.TEMPORAL_ADDRESS });
  outsider = new Client({ connection, namespace: config.TEMPORAL_NAMESPACE });
  insider = await connectTemporal(config);
  await live();
}, 240_000);
afterAll(async () => {
  await api?.stop();
  await hooks?.close();
  await outsider?.connection.close();
  await (insider?.connection as Connection | undefined)?.close();
}, 60_000);

/** One payment with a delivery that fails, one order, and its dispute with evidence: a life of each workflow. */
async function live(): Promise<void> {
  const made = await api.operator('POST', '/api/v1/subscriptions', {
    url: `${hooks.url}/hook`,
    eventTypes: ['remit.payment.succeeded'],
  });
  const subscriptionId = (made.body as { id: string }).id;
  await api.fund(user, ORDERED);

  const body = { userId: user, amount: PAID, currency: 'TRY', provider: 'decard' };
  const payment = (await api.operator('POST', '/api/v1/payments', body)).body as { id: string };
  const said = { provider: 'decard', transactionId: payment.id, status: 'success', amount: Number(PAID) };
  const told = await api.webhook(JSON.stringify({ ...said, currency: 'TRY', type: 'payment', memo: NOTE }));
  expect(told).toMatchObject({ status: 202 });
  await eventually(async () => {
    const { body: found } = await api.operator('GET', `/api/v1/payments/${payment.id}`);
    expect(found).toMatchObject({ status: 'succeeded' });
  });
  ids.payment = workflowId.payment('decard', payment.id);
  ids.delivery = await eventually(async () => {
    const rows = await openDeliveries();
    expect(rows).toHaveLength(1);
    return workflowId.delivery(rows[0]!, subscriptionId);
  });

  const order = (await api.asUser(user, 'POST', '/orders', { amount: ORDERED, description: NOTE })).body as {
    id: string;
  };
  ids.order = workflowId.order(order.id);
  await eventually(async () => {
    const { body: found } = await api.asUser(user, 'GET', `/orders/${order.id}`);
    expect(found).toMatchObject({ status: 'FINISHED' });
  });
  await chargeback(order.id);
  const disputeId = `order-${order.id}`;
  ids.dispute = workflowId.dispute(disputeId);
  await eventually(async () => {
    expect((await api.operator('GET', `/api/v1/disputes/${disputeId}`)).status).toBe(200);
  });
  const submitted = await api.operator('POST', `/api/v1/disputes/${disputeId}/evidence`, {
    text: EVIDENCE,
    documents: [],
  });
  expect(submitted).toMatchObject({ status: 200 });
}

async function openDeliveries(): Promise<string[]> {
  const db = openTestDatabase(api.space);
  try {
    const rows = await db.prisma.delivery.findMany({ where: { status: 'pending', attempts: { gt: 0 } } });
    return rows.map(({ eventId }) => eventId);
  } finally {
    await db.close();
  }
}

async function chargeback(orderId: string): Promise<void> {
  const text = JSON.stringify({
    ...{ provider_event_id: randomUUID(), order_id: orderId, status: 'opened', reason: NOTE },
    user_id: user,
  });
  const headers = signedHeaders(api.space.config.ORDER_WEBHOOK_SECRET!, text);
  const reply = await api.call('POST', '/webhooks/payments/chargebacks', headers, text);
  expect(reply.status).toBe(202);
}

/** Every text in a message of Temporal's, its bytes read as text. */
function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (value instanceof Uint8Array) return [Buffer.from(value).toString('utf8')];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => [name, ...textsIn(inner)]);
}

/** Payloads in a history's JSON, each with where it stands. */
function payloadsIn(value: unknown, at: string[] = []): { at: string; encoding: string }[] {
  if (typeof value !== 'object' || value === null) return [];
  const { metadata } = value as { metadata?: Record<string, string> };
  if (metadata?.['encoding'] !== undefined)
    return [{ at: at.join('.'), encoding: Buffer.from(metadata['encoding'], 'base64').toString() }];
  return Object.entries(value).flatMap(([name, inner]) =>
    payloadsIn(inner, Array.isArray(value) ? at : [...at, name]),
  );
}

const historyOf = async (id: string) => {
  const found = await outsider.workflow.getHandle(id).fetchHistory();
  return { texts: textsIn(found).join('\n'), json: JSON.parse(historyToJSON(found)) as unknown };
};

describe('a history, as it is in Temporal', () => {
  it.each(Object.keys(ids) as (keyof typeof ids)[])(
    'of a %s holds no user, evidence or body in clear',
    async (kind) => {
      const { texts, json } = await historyOf(ids[kind]);
      for (const secret of [user, EVIDENCE, NOTE, PAID, digits(PAID), ORDERED, digits(ORDERED), hooks.url])
        expect(texts).not.toContain(secret);
      const clear = payloadsIn(json).filter(({ encoding }) => encoding !== 'binary/encrypted');
      // Search attributes, which Temporal has to read, and the SDK's notes on local activities (their names and times).
      for (const { at } of clear)
        expect(at).toMatch(
          /searchAttributes\.indexedFields\.Remit\w+$|markerRecordedEventAttributes\.details\.(data|type)/,
        );
      expect(payloadsIn(json).length).toBeGreaterThan(clear.length);
    },
  );

  it('is listed with business ids and a status, and with nothing of a person', async () => {
    const listed = await eventually(async () => {
      const { executions } = await outsider.workflowService.listWorkflowExecutions({
        namespace: api.space.config.TEMPORAL_NAMESPACE,
      });
      const found = (executions ?? []).map(({ execution }) => execution?.workflowId);
      expect(found).toEqual(expect.arrayContaining(Object.values(ids)));
      return executions ?? [];
    });
    const texts = textsIn(listed).join('\n');
    for (const secret of [user, EVIDENCE, NOTE]) expect(texts).not.toContain(secret);
    const names = new Set(
      listed.flatMap(({ searchAttributes }) => Object.keys(searchAttributes?.indexedFields ?? {})),
    );
    for (const name of names)
      expect([
        'RemitProvider',
        'RemitStatus',
        'RemitOrderId',
        'RemitEventType',
        'RemitSubscriptionId',
        'BuildIds',
      ]).toContain(name);
    const memos = listed.flatMap(({ memo }) => Object.values(memo?.fields ?? {}));
    expect(memos.length).toBeGreaterThan(0);
    for (const memo of memos)
      expect(Buffer.from(memo.metadata!['encoding']!).toString()).toBe('binary/encrypted');
  });

  it('is told to those with the key: queries, memos and timelines', async () => {
    const handle = insider.workflow.getHandle(ids.delivery);
    expect(await handle.query(QUERIES.delivery)).toMatchObject({ attempts: 1, maxAttempts: 2 });
    const { memo } = await insider.workflow.getHandle(ids.payment).describe();
    expect(memo).toEqual({ correlationId: expect.any(String) as string });
    const id = ids.payment.split('/')[2]!;
    const { body } = await api.operator('GET', `/api/v1/timeline/${id}`);
    const { happened, notes } = body as { happened: { source: string; what: string }[]; notes: string[] };
    expect(notes).toEqual([]);
    expect(
      happened
        .filter(({ source }) => source === 'kafka')
        .map(({ what }) => what)
        .join(),
    ).toContain(`${PAID} TRY`);
  });
});

/** The first argument that the payment's workflow was signalled with, as it lies in Temporal. */
async function encryptedPayload(): Promise<JSONPayload> {
  const { events } = await outsider.workflow.getHandle(ids.payment).fetchHistory();
  const signal = events?.find((event) => event.workflowExecutionSignaledEventAttributes);
  return payloadToJSON(signal!.workflowExecutionSignaledEventAttributes!.input!.payloads![0]!);
}

const codec = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  api.call('POST', `/temporal-codec${path}`, headers, body);
const bearer = async (...scopes: string[]) => ({
  authorization: `Bearer ${await mintToken(api.space.config, { subject: 'operator', scopes, expiresInS: 300 })}`,
});
const Payloads = z.object({
  payloads: z.array(z.object({ metadata: z.record(z.string(), z.string()), data: z.string() })),
});
const opened = (body: unknown) => Buffer.from(Payloads.parse(body).payloads[0]!.data, 'base64').toString();

describe('the codec for the Temporal UI', () => {
  it('decodes for those who may see the platform, and encodes as well', async () => {
    const payload = await encryptedPayload();
    const login = { ...(await bearer('platform')), 'x-namespace': api.space.config.TEMPORAL_NAMESPACE };
    const decoded = await codec('/decode', { payloads: [payload] }, login);
    expect(decoded.status).toBe(200);
    expect(JSON.parse(opened(decoded.body))).toMatchObject({ amountMinor: digits(PAID) });
    const encoded = await codec('/encode', decoded.body, login);
    expect(
      Buffer.from(Payloads.parse(encoded.body).payloads[0]!.metadata['encoding']!, 'base64').toString(),
    ).toBe('binary/encrypted');
    expect(opened((await codec('/decode', encoded.body, login)).body)).toBe(opened(decoded.body));
  });

  it('refuses everybody else, another namespace, and what is no payload', async () => {
    const body = { payloads: [await encryptedPayload()] };
    expectProblem(await codec('/decode', body), 401, 'unauthenticated');
    expectProblem(await codec('/decode', body, await bearer('admin')), 403, 'forbidden');
    const login = await bearer('platform');
    expectProblem(await codec('/decode', body, { ...login, 'x-namespace': 'other' }), 400, 'invalid_request');
    expectProblem(await codec('/decode', { payloads: [{ data: '*' }] }, login), 400, 'invalid_request');
    const { data, ...rest } = body.payloads[0]!;
    const altered = Buffer.from(data!, 'base64');
    altered[30]! ^= 1;
    const broken = { payloads: [{ ...rest, data: altered.toString('base64') }] };
    expectProblem(await codec('/decode', broken, login), 400, 'invalid_request');
    expectProblem(await codec('/elsewhere', body, login), 404, 'not_found');
  });

  it('lets pages of the one configured UI ask, and no others', async () => {
    const preflight = (origin: string) =>
      api.call('OPTIONS', '/temporal-codec/decode', { origin, 'access-control-request-method': 'POST' });
    const allowed = await preflight(UI);
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get('access-control-allow-origin')).toBe(UI);
    expect(allowed.headers.get('access-control-allow-credentials')).toBe('true');
    expect(allowed.headers.get('access-control-allow-headers')).toContain('x-namespace');
    expect((await preflight('http://evil.example')).headers.get('access-control-allow-origin')).toBeNull();
  });

  it('takes a login to the console from a page of the UI, when it may see the platform', async () => {
    const db = openTestDatabase(api.space);
    const session = (platform: boolean) =>
      createConsoleSession(db, { tenantId: 'default', subject: 'ada', role: 'viewer', platform }, 'link', {
        idleMs: 60_000,
        maxMs: 60_000,
      });
    try {
      const body = { payloads: [await encryptedPayload()] };
      const cookie = `remit_console=${await session(true)}`;
      expect((await codec('/decode', body, { cookie, origin: UI })).status).toBe(200);
      expectProblem(
        await codec('/decode', body, { cookie, origin: 'http://evil.example' }),
        403,
        'forbidden',
      );
      expectProblem(await codec('/decode', body, { cookie }), 403, 'forbidden');
      const plain = `remit_console=${await session(false)}`;
      expectProblem(await codec('/decode', body, { cookie: plain, origin: UI }), 403, 'forbidden');
      expectProblem(
        await codec('/decode', body, { cookie: 'remit_console=x', origin: UI }),
        401,
        'unauthenticated',
      );
    } finally {
      await db.close();
    }
  });

  it('serves Temporal’s own command line', async () => {
    const { authorization } = await bearer('platform');
    const { config } = api.space;
    const { stdout } = await promisify(execFile)(
      findTemporalCli()!,
      [
        ...['workflow', 'show', '--workflow-id', ids.dispute, '--output', 'json'],
        ...['--address', config.TEMPORAL_ADDRESS, '--namespace', config.TEMPORAL_NAMESPACE],
        ...['--codec-endpoint', `${api.url}/temporal-codec`, '--codec-auth', authorization],
      ],
      { maxBuffer: 50_000_000 },
    );
    const texts = [...stdout.matchAll(/"data": ?"([^"]+)"/g)].map(([, data]) =>
      Buffer.from(data!, 'base64').toString(),
    );
    expect([stdout, ...texts].join('\n')).toContain(EVIDENCE);
  });
});
