import { randomUUID } from 'node:crypto';
import type { Client, Connection } from '@temporalio/client';
import { Webhook } from 'standardwebhooks';
import { EventDetail, PublishedBatch, PublishedEvent } from '../../../src/contracts/events';
import { SubscriptionCreated } from '../../../src/contracts/subscriptions';
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
import { subscriber, type Subscriber } from '../../unit/webhooks/subscriber';

let space: TestSpace;
let running: RunningRoles<{ url: string }>;
let temporal: Client;

beforeAll(async () => {
  space = await createTestSpace({ topics: true, temporal: true, env: { EVENT_FANOUT_BATCH_ROWS: '2' } });
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
    // Each number is written out: five times as long as in the body, which is within its limit.
    const numbers = `[${Array.from({ length: 13_000 }, () => '1e20').join(',')}]`;
    const token = await mintToken(space.config, {
      subject: 'app',
      tenant,
      scopes: ['admin'],
      expiresInS: 300,
    });
    const post = async (path: string, body: string) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const response = await fetch(`${running.started.url}/api/v1${path}`, { method: 'POST', headers, body });
      return { status: response.status, body: await response.json() };
    };
    const event = `{"type":"invoice.paid","data":{"numbers":${numbers}}}`;
    expect(Buffer.byteLength(event)).toBeLessThanOrEqual(space.config.API_BODY_LIMIT_BYTES);
    expect(await post('/events', event)).toMatchObject({ status: 422, body: { errors: [{ path: 'data' }] } });
    expect(await post('/events/batch', `{"events":[${event}]}`)).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'events.0.data', message: expect.stringContaining('262144') as string }] },
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

  it('ends on the DLQ when nobody published it through the API', async () => {
    const id = `evt_${randomUUID().replaceAll('-', '')}`;
    const value = JSON.stringify({
      ...{ id, tenantId: 'x', clientId: null, type: 'invoice.paid', data: {} },
      timestamp: new Date().toISOString(),
    });
    const consumer = running.context.kafka.consumer({ groupId: `${space.name}-dlq` });
    const letters: { key: string; code: string }[] = [];
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
        });
        return Promise.resolve();
      },
    });
    try {
      const producer = await running.context.producer();
      await producer.send({ topic: space.config.TOPIC_EVENTS, key: id, value, headers: {} });
      await eventually(() => expect(letters).toEqual([{ key: id, code: 'unknown_event' }]), 30_000);
    } finally {
      await consumer.disconnect();
    }
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
      { subscriptionId: id, eventType: 'webhook.test', status: 'delivered' },
    ]);
    expect(server.received).toHaveLength(1);
  });
});
