import { randomUUID } from 'node:crypto';
import type { Client, Connection } from '@temporalio/client';
import { Webhook } from 'standardwebhooks';
import fc from 'fast-check';
import { EventDetail, EventPage, PublishedBatch, PublishedEvent } from '../../../src/contracts/events';
import { parseKeeping, type JsonText } from '../../../src/contracts/json';
import { TEST_EVENT_TYPE } from '../../../src/contracts/webhooks';
import { SubscriptionCreated } from '../../../src/contracts/subscriptions';
import { listen } from '../../../src/operations/listen';
import { deadLetterTopic } from '../../../src/platform/topics';
import { connectTemporal } from '../../../src/platform/temporal';
import { startApi } from '../../../src/roles/api';
import { startBridge } from '../../../src/roles/bridge';
import { startRelay } from '../../../src/roles/relay';
import { mintToken } from '../../../src/operations/token';
import { startWorker } from '../../../src/roles/worker';
import {
  createTestSpace,
  eventually,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { jsonObjectText } from '../../support/json-texts';
import { withDatabase } from '../../support/shared-stack';
import { subscriber, type Subscriber } from '../../support/subscriber';

let space: TestSpace;
let running: RunningRoles<{ url: string }>;
let temporal: Client;

beforeAll(async () => {
  space = await createTestSpace({
    topics: true,
    temporal: true,
    env: { EVENT_FANOUT_BATCH_ROWS: '2', API_BODY_LIMIT_BYTES: '262144' },
  });
  running = await runRoles(space, async (context) => {
    const api = await startApi(context);
    await Promise.all([startBridge(context), startWorker(context), startRelay(context)]);
    return api;
  });
  temporal = await connectTemporal(space.config);
});
afterAll(async () => {
  await running?.stop();
  await (temporal?.connection as Connection | undefined)?.close();
});

const open: Subscriber[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});
const answering = async (status = 204) => {
  const server = await subscriber((response) => void response.writeHead(status).end());
  open.push(server);
  return server;
};

let tenants = 0;
const newTenant = () => `publisher-${(tenants += 1)}`;

async function call(tenant: string, method: string, path: string, body?: unknown) {
  const token = await mintToken(space.config, { subject: 'app', tenant, scopes: ['admin'], expiresInS: 300 });
  const response = await fetch(`${running.started.url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: await response.json() };
}
/** Sends a body as it is. */
async function post(tenant: string, path: string, body: string) {
  const token = await mintToken(space.config, { subject: 'app', tenant, scopes: ['admin'], expiresInS: 300 });
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const response = await fetch(`${running.started.url}/api/v1${path}`, { method: 'POST', headers, body });
  return { status: response.status, body: await response.json() };
}
const ok = async (tenant: string, method: string, path: string, body?: unknown) => {
  const reply = await call(tenant, method, path, body);
  expect({ ...reply, ok: reply.status < 300 }).toMatchObject({ ok: true });
  return reply.body;
};
const defineType = (tenant: string, name: string) => ok(tenant, 'POST', '/event-types', { name });
const subscribe = async (tenant: string, url: string, options: object = {}) =>
  SubscriptionCreated.parse(
    await ok(tenant, 'POST', '/subscriptions', { url, eventTypes: ['invoice.*'], ...options }),
  );
const publish = async (tenant: string, event: object) =>
  PublishedEvent.parse(await ok(tenant, 'POST', '/events', event));
const read = async (tenant: string, id: string) =>
  EventDetail.parse(await ok(tenant, 'GET', `/events/${id}`));
/** The event when its fan-out is complete and nothing is pending any more. */
const settled = (tenant: string, id: string) =>
  eventually(async () => {
    const event = await read(tenant, id);
    if (event.fannedOutAt === null || event.deliveryCounts.pending > 0) throw new Error('not yet');
    return event;
  });

/** The workflows of an event's deliveries: of those alone that did not succeed at once. */
async function deliveryWorkflows(eventId: string): Promise<string[]> {
  const ids: string[] = [];
  const prefix = `delivery/${eventId}/`;
  for await (const each of temporal.workflow.list({ query: `WorkflowId STARTS_WITH "${prefix}"` }))
    ids.push(each.workflowId);
  return ids;
}

/** Resolves when the group of `events` has committed everything that is on the topic. */
const everythingIsRead = () =>
  eventually(async () => {
    const admin = running.context.kafka.admin();
    await admin.connect();
    try {
      const topic = space.config.TOPIC_EVENTS;
      const groupId = `${space.config.KAFKA_GROUP_PREFIX}.events`;
      const [committed] = await admin.fetchOffsets({ groupId, topics: [topic] });
      const ends = new Map((await admin.fetchTopicOffsets(topic)).map((each) => [each.partition, each.high]));
      for (const { partition, offset } of committed!.partitions)
        if (ends.get(partition) !== '0') expect(offset).toBe(ends.get(partition));
    } finally {
      await admin.disconnect();
    }
  });

describe('an event published through the API', () => {
  it('reaches every subscription that matches, signed, with its data, and is read back with its deliveries', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const server = await answering();
    const { id, secret } = await subscribe(tenant, server.url, { headers: { 'X-Team': 'billing' } });
    await subscribe(tenant, server.url, { eventTypes: ['receipt.*'] });
    const published = await publish(tenant, { id: 'in-1', type: 'invoice.paid', data: { total: '10.50' } });
    const event = await settled(tenant, published.id);
    expect(event).toMatchObject({ clientId: 'in-1', source: 'api', data: { total: '10.50' } });
    expect(event.deliveries).toMatchObject([{ subscriptionId: id, status: 'delivered', attempts: 1 }]);
    expect(server.received).toHaveLength(1);
    const [{ body, headers }] = server.received as [(typeof server.received)[number]];
    expect(headers['webhook-id']).toBe(published.id);
    expect(headers['x-team']).toBe('billing');
    expect(new Webhook(secret).verify(body, headers as Record<string, string>)).toMatchObject({
      type: 'invoice.paid',
      data: { total: '10.50' },
    });
  });

  it('is delivered once however often it is published under its id', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const server = await answering();
    await subscribe(tenant, server.url);
    const event = { id: 'same', type: 'invoice.paid', data: { n: 1 } };
    const answers = await Promise.all(Array.from({ length: 8 }, () => publish(tenant, event)));
    expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
    expect(answers.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
    await settled(tenant, answers[0]!.id);
    expect(server.received).toHaveLength(1);
    const other = await call(tenant, 'POST', '/events', { ...event, data: { n: 2 } });
    expect(other).toMatchObject({ status: 409, body: { code: 'conflict', errors: [{ path: 'id' }] } });
  });

  it('goes to subscriptions in several steps when there are many, each exactly once', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const server = await answering();
    for (let n = 0; n < 5; n += 1) await subscribe(tenant, server.url);
    const { id } = await publish(tenant, { type: 'invoice.paid', data: {} });
    const event = await settled(tenant, id);
    expect(event.deliveryCounts.delivered).toBe(5);
    expect(server.received).toHaveLength(5);
    expect(await deliveryWorkflows(id)).toEqual([]);
  });

  it('goes only to subscriptions whose filter holds', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const server = await answering();
    const large = await subscribe(tenant, server.url, {
      filter: [
        { path: 'total', op: 'gte', value: 100 },
        { path: 'customer.country', op: 'in', value: ['DE', 'TR'] },
      ],
    });
    const publishOne = (total: string, country: string) =>
      publish(tenant, { type: 'invoice.paid', data: { total, customer: { country } } });
    const [small, elsewhere, right] = [
      await publishOne('99.99', 'DE'),
      await publishOne('500.00', 'FR'),
      await publishOne('500.00', 'TR'),
    ];
    expect((await settled(tenant, right.id)).deliveries).toMatchObject([{ subscriptionId: large.id }]);
    for (const { id } of [small, elsewhere]) expect((await settled(tenant, id)).deliveries).toEqual([]);
  });

  it('is kept and delivered to nobody while its type is not enabled', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    await ok(tenant, 'POST', '/event-configs', { eventType: 'invoice.paid', enabled: false });
    const server = await answering();
    await subscribe(tenant, server.url);
    const { id } = await publish(tenant, { type: 'invoice.paid', data: {} });
    expect((await settled(tenant, id)).deliveries).toEqual([]);
    expect(server.received).toEqual([]);
  });

  it('is retried on the schedule of its type', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    await ok(tenant, 'POST', '/event-configs', {
      eventType: 'invoice.paid',
      scheduleMs: [0, 50],
      timeoutMs: 1_000,
    });
    const server = await answering(500);
    await subscribe(tenant, server.url);
    const { id } = await publish(tenant, { type: 'invoice.paid', data: {} });
    expect((await settled(tenant, id)).deliveries).toMatchObject([{ status: 'exhausted', attempts: 2 }]);
    expect(server.received).toHaveLength(2);
  });

  it('comes in a batch, all of it or nothing', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const server = await answering();
    await subscribe(tenant, server.url);
    const one = { type: 'invoice.paid', data: { n: 1 } };
    const refused = await call(tenant, 'POST', '/events/batch', {
      events: [one, { ...one, type: 'invoice.unknown' }],
    });
    expect(refused).toMatchObject({ status: 422, body: { errors: [{ path: 'events.1.type' }] } });
    const { items } = PublishedBatch.parse(
      await ok(tenant, 'POST', '/events/batch', { events: [one, { ...one, id: 'b' }, { ...one, id: 'b' }] }),
    );
    expect(items.map(({ duplicate }) => duplicate)).toEqual([false, false, true]);
    expect(items[1]!.id).toBe(items[2]!.id);
    for (const { id } of items) await settled(tenant, id);
    expect(new Set(server.received.map(({ headers }) => headers['webhook-id'])).size).toBe(2);
    expect(server.received).toHaveLength(2);
  });

  it('is refused when the message that carries it would be dead-lettered', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    // Within the limit of a body, but not with what a message has around it.
    const start = '{"type":"invoice.paid","data":{"a":"';
    const event = `${start}${'x'.repeat(space.config.API_BODY_LIMIT_BYTES - start.length - 3)}"}}`;
    expect(Buffer.byteLength(event)).toBe(space.config.API_BODY_LIMIT_BYTES);
    expect(await post(tenant, '/events', event)).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'data', message: expect.stringContaining('262144') as string }] },
    });
  });

  it('is sent again to nobody when its message comes again', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const server = await answering();
    await subscribe(tenant, server.url);
    const { id } = await publish(tenant, { type: 'invoice.paid', data: {} });
    await settled(tenant, id);
    await subscribe(tenant, server.url);
    const producer = await running.context.producer();
    const value = JSON.stringify({
      ...{ id, tenantId: tenant, clientId: null, type: 'invoice.paid', data: {} },
      timestamp: new Date().toISOString(),
    });
    await producer.send({ topic: space.config.TOPIC_EVENTS, key: id, value, headers: {} });
    await everythingIsRead();
    expect((await read(tenant, id)).deliveries).toHaveLength(1);
    expect(server.received).toHaveLength(1);
  });
});

describe('an event that another producer puts on the topic', () => {
  const letters: { key: string; code: string; reason: string }[] = [];
  let stop: () => Promise<void>;
  beforeAll(async () => {
    const consumer = running.context.kafka.consumer({ groupId: `${space.name}-dlq` });
    await consumer.connect();
    await consumer.subscribe({
      topic: deadLetterTopic(space.config, space.config.TOPIC_EVENTS),
      fromBeginning: true,
    });
    await consumer.run({
      eachMessage: ({ message }) => {
        letters.push({
          key: String(message.key),
          code: String(message.headers?.['remit-error-code']),
          reason: String(message.headers?.['remit-error-message']),
        });
        return Promise.resolve();
      },
    });
    stop = () => consumer.disconnect();
  });
  afterAll(() => stop());
  const produce = async (key: string, value: string) =>
    (await running.context.producer()).send({ topic: space.config.TOPIC_EVENTS, key, value, headers: {} });
  const eventsOf = async (tenant: string) =>
    EventPage.parse(await ok(tenant, 'GET', '/events')).items.map(({ id, clientId, source }) => ({
      ...{ id, clientId, source },
    }));

  it('is checked, stored and delivered byte for byte, once for its client id, beside the API', async () => {
    const tenant = newTenant();
    await ok(tenant, 'POST', '/event-types', {
      name: 'invoice.paid',
      schema: { type: 'object', required: ['n'], properties: { n: { type: 'number' } } },
    });
    const server = await answering();
    await subscribe(tenant, server.url);
    const data = '{ "n": 9007199254740993, "b":1.10, "a":"\\u0041" }';
    const value = `{"tenantId":"${tenant}","clientId":"k-1","type":"invoice.paid","data":${data}}`;
    for (let n = 0; n < 3; n += 1) await produce(`key ${n}`, value);
    const id = await eventually(async () => {
      const [event] = await eventsOf(tenant);
      if (!event) throw new Error('not yet');
      return event.id;
    });
    await settled(tenant, id);
    await everythingIsRead();
    expect(await eventsOf(tenant)).toEqual([{ id, clientId: 'k-1', source: 'api' }]);
    expect(server.received.map(({ body, headers }) => [headers['webhook-id'], body])).toEqual([
      [id, expect.stringMatching(/^\{"type":"invoice.paid","timestamp":"[^"]+","data":/) as string],
    ]);
    expect(server.received[0]!.body.endsWith(`"data":${data}}`)).toBe(true);
    expect(await post(tenant, '/events', `{"id":"k-1","type":"invoice.paid","data":${data}}`)).toMatchObject({
      status: 202,
      body: { id, duplicate: true },
    });
  });

  it('ends on the DLQ with the reason when it is not right, and those behind it go on', async () => {
    const tenant = newTenant();
    await ok(tenant, 'POST', '/event-types', {
      name: 'invoice.paid',
      schema: { type: 'object', required: ['n'] },
    });
    const event = (fields: object = {}) =>
      JSON.stringify({ tenantId: tenant, clientId: 'c', type: 'invoice.paid', data: { n: 1 }, ...fields });
    const run = randomUUID();
    const cases: [code: string, value: string][] = [
      ['unknown_event', event({ id: `evt_${run.replaceAll('-', '')}`, timestamp: new Date().toISOString() })],
      ['invalid_json', '{"tenantId"'],
      ['invalid_json', event().replace('{', '{"type":"a.b",')],
      ['invalid_message', event({ clientId: null })],
      ['invalid_message', event({ more: 1 })],
      ['invalid_message', event({ data: [1] })],
      ['invalid_message', event({ data: 'x' }).replace('"x"', '{"n":1e9999}')],
      ['unknown_event_type', event({ tenantId: `${tenant}-unknown` })],
      ['unknown_event_type', event({ type: 'invoice.unknown' })],
      ['reserved_event_type', event({ type: TEST_EVENT_TYPE })],
      ['schema_mismatch', event({ data: {} })],
      [
        'message_too_large',
        event({ data: { n: 1, x: 'x'.repeat(space.config.KAFKA_MESSAGE_MAX_BYTES - 300) } }),
      ],
    ];
    const padded = cases.at(-1)!;
    const room = space.config.KAFKA_MESSAGE_MAX_BYTES - Buffer.byteLength(padded[1]) - 60;
    padded[1] = padded[1].replace('"x":"', `"x":"${'x'.repeat(room)}`);
    for (const [n, [, value]] of cases.entries()) await produce(`${run}-${n}`, value);
    await produce(run, event());
    await eventually(
      () =>
        expect(
          new Map(letters.filter(({ key }) => key.startsWith(run)).map(({ key, code }) => [key, code])),
        ).toEqual(new Map(cases.map(([code], n) => [`${run}-${n}`, code]))),
      30_000,
    );
    expect(letters.find(({ key }) => key === `${run}-10`)?.reason).toMatch(/^data: .*'n'/);
    await eventually(async () => expect(await eventsOf(tenant)).toMatchObject([{ clientId: 'c' }]));
    await produce(`${run}-conflict`, event({ data: { n: 2 } }));
    await eventually(() =>
      expect(letters.find(({ key }) => key === `${run}-conflict`)?.code).toBe('event_conflict'),
    );
    expect(await eventsOf(tenant)).toHaveLength(1);
  });
});

describe('the data of an event', () => {
  const dataOf = (body: string) => (parseKeeping(body, ['data']) as { data: JsonText }).data.text;
  /** Of each webhook-id, the data of every request that came. */
  const arrived = (server: Subscriber) => {
    const all = new Map<string, string[]>();
    for (const { headers, body } of server.received) {
      const id = String(headers['webhook-id']);
      all.set(id, [...(all.get(id) ?? []), dataOf(body)]);
    }
    return all;
  };

  it('arrives byte for byte as it was published: sent, sent again, replayed, listened to, stored, read', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const [server, forwarded] = [await answering(), await answering()];
    const { id: subscription } = await subscribe(tenant, server.url);
    const texts = fc.sample(jsonObjectText, { numRuns: 30, seed: 1209 });
    texts.push('{ "b":1.10,\n"a":9007199254740993, "n":12345678901234567890,"\\u0041":"\\/\\u0000\\ud800" }');

    const listening = new AbortController();
    const listener = listen({
      api: running.started.url,
      token: () => mintToken(space.config, { subject: 'app', tenant, scopes: ['admin'], expiresInS: 300 }),
      ...{
        events: ['invoice.*'],
        forward: forwarded.url,
        port: 0,
        say: () => undefined,
        signal: listening.signal,
      },
    });
    await eventually(async () => {
      const { items } = (await ok(tenant, 'GET', '/subscriptions')) as { items: unknown[] };
      expect(items).toHaveLength(2);
    });
    const since = new Date(Date.now() - 60_000).toISOString();
    const wanted = new Map<string, string>();
    const half = Math.ceil(texts.length / 2);
    for (const text of texts.slice(0, half)) {
      const answer = await post(tenant, '/events', `{"type":"invoice.paid", "data" : ${text} }`);
      wanted.set(PublishedEvent.parse(answer.body).id, text);
    }
    const events = texts.slice(half).map((text) => `{"data":${text},"type":"invoice.paid"}`);
    const batch = await post(tenant, '/events/batch', `{"events":[${events.join(' , ')}]}`);
    PublishedBatch.parse(batch.body).items.forEach(({ id }, n) => wanted.set(id, texts[half + n]!));

    for (const id of wanted.keys()) await settled(tenant, id);
    const each = (times: number) =>
      new Map([...wanted].map(([id, text]) => [id, Array.from({ length: times }, () => text)]));
    expect(arrived(server)).toEqual(each(1));
    expect(arrived(forwarded)).toEqual(each(1));
    listening.abort();
    await listener;
    await withDatabase(space.env['DATABASE_URL']!, async (client) => {
      const { rows } = await client.query<{ id: string; body: string }>(
        'SELECT id, body FROM webhook_events WHERE tenant_id = $1',
        [tenant],
      );
      expect(new Map(rows.map(({ id, body }) => [id, dataOf(body)]))).toEqual(wanted);
    });
    const token = await mintToken(space.config, {
      subject: 'app',
      tenant,
      scopes: ['admin'],
      expiresInS: 300,
    });
    for (const [id, text] of wanted) {
      const answer = await fetch(`${running.started.url}/api/v1/events/${id}`, {
        headers: { authorization: `Bearer ${token}` },
      });
      expect(dataOf(await answer.text())).toBe(text);
    }

    const { items } = (await ok(tenant, 'GET', `/deliveries?subscriptionId=${subscription}&limit=50`)) as {
      items: { id: string }[];
    };
    for (const { id } of items) await ok(tenant, 'POST', `/deliveries/${id}/resend`);
    await eventually(() => expect(arrived(server)).toEqual(each(2)));
    for (const id of wanted.keys()) await settled(tenant, id);
    await ok(tenant, 'POST', '/replays', { subscriptionId: subscription, kind: 'all', since });
    await eventually(() => expect(arrived(server)).toEqual(each(3)), 60_000);
  });

  it('is the same under a client id when it says the same, never when only doubles say so', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const again = (data: string, more = '') =>
      post(tenant, '/events', `{"id":"n-1","type":"invoice.paid","data":${data}${more}}`);
    const first = await again('{"n":9007199254740993,"a":1.10}');
    expect(first).toMatchObject({ status: 202, body: { duplicate: false } });
    for (const same of ['{"n":9007199254740993,"a":1.10}', '{ "a":1.1, "n":9007199254740993 }'])
      expect(await again(same)).toMatchObject({ status: 202, body: { duplicate: true } });
    for (const other of [
      '{"n":9007199254740992,"a":1.10}',
      '{"n":9007199254740993,"a":1.10000000000000000001}',
    ])
      expect(await again(other)).toMatchObject({ status: 409, body: { errors: [{ path: 'id' }] } });
    expect(
      await again('{"n":9007199254740993,"a":1.10}', ',"timestamp":"2026-01-01T00:00:00Z"'),
    ).toMatchObject({ status: 409 });
    const inOne = (one: string, other: string) =>
      post(
        tenant,
        '/events/batch',
        `{"events":[${[one, other].map((data) => `{"id":"n-2","type":"invoice.paid","data":${data}}`).join(',')}]}`,
      );
    expect(await inOne('{"n":9007199254740993}', '{"n":9007199254740992}')).toMatchObject({ status: 409 });
    expect(await inOne('{"n":1.0}', '{"n":1}')).toMatchObject({ status: 202 });
  });

  it('is judged by filters exactly, and whatever is in it', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const server = await answering();
    await subscribe(tenant, server.url, {
      filter: [
        { path: 'n', op: 'gt', value: '9007199254740992' },
        { path: 'who', op: 'eq', value: '😀\\u0000' },
      ],
    });
    const send = async (n: string, who: string) =>
      PublishedEvent.parse(
        (await post(tenant, '/events', `{"type":"invoice.paid","data":{"n":${n},"who":${who}}}`)).body,
      ).id;
    const ids = [
      await send('9007199254740992', '"😀\\\\u0000"'),
      await send('9007199254740993', '"\\ud83d\\ude00\\\\u0000"'),
      // What no filter can hold is left out for it.
      await send('9007199254740992.0000000000000000001', '"\\ud83d\\ude00\\\\u0000\\u0000\\ud83d"'),
    ];
    for (const id of ids) await settled(tenant, id);
    expect([...arrived(server).keys()].sort()).toEqual(ids.slice(1).sort());
  });
});

describe('the type of an event', () => {
  it('may be called as remit’s own without their prefix, and is not taken for one of them', async () => {
    const tenant = newTenant();
    const [own, remits] = [await answering(), await answering()];
    await subscribe(tenant, own.url, { eventTypes: ['order.*', '*.Paid-in_Full'] });
    await subscribe(tenant, remits.url, { eventTypes: ['remit.*'] });
    for (const name of ['order.created', 'Invoice.Paid-in_Full', 'invoice.paid.Paid-in_Full'])
      await defineType(tenant, name);
    const ids: string[] = [];
    for (const type of ['order.created', 'Invoice.Paid-in_Full', 'invoice.paid.Paid-in_Full'])
      ids.push((await publish(tenant, { type, data: {} })).id);
    for (const id of ids) await settled(tenant, id);
    expect(own.received.map(({ headers }) => headers['webhook-id']).sort()).toEqual(ids.slice(0, 2).sort());
    expect(remits.received).toEqual([]);
    for (const name of ['remit.order.finished', 'REMIT.mine', 'remit'])
      expect(await call(tenant, 'POST', '/event-types', { name })).toMatchObject({ status: 422 });
  });

  it('holds as it is at the moment, also when another process has just changed or deleted it', async () => {
    const tenant = newTenant();
    await defineType(tenant, 'invoice.paid');
    const event = { type: 'invoice.paid', data: { n: 1 } };
    const behindTheApi = (sql: string) =>
      withDatabase(space.env['DATABASE_URL']!, (client) => client.query(sql, [tenant]));
    await publish(tenant, event);
    await behindTheApi(
      `UPDATE event_types SET schema = '{"required":["m"]}', version = version + 1 WHERE tenant_id = $1`,
    );
    expect(await call(tenant, 'POST', '/events', event)).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'data' }] },
    });
    await behindTheApi(`UPDATE event_types SET schema = NULL, version = version + 1 WHERE tenant_id = $1`);
    await publish(tenant, event);
    await behindTheApi('DELETE FROM event_types WHERE tenant_id = $1');
    expect(await call(tenant, 'POST', '/events/batch', { events: [event] })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'events.0.type' }] },
    });
  });
});

describe('a test event', () => {
  it('goes to the one subscription, whatever its types', async () => {
    const tenant = newTenant();
    const server = await answering();
    const { id } = await subscribe(tenant, server.url, {
      filter: [{ path: 'never', op: 'exists', value: true }],
    });
    await subscribe(tenant, server.url, { eventTypes: ['*'] });
    const published = PublishedEvent.parse(await ok(tenant, 'POST', `/subscriptions/${id}/test`));
    expect((await settled(tenant, published.id)).deliveries).toMatchObject([
      { subscriptionId: id, eventType: 'remit.webhook.test', status: 'delivered' },
    ]);
    expect(server.received).toHaveLength(1);
  });
});
