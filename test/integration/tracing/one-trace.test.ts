import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { Writable } from 'node:stream';
import pino from 'pino';
import { readTraceparent, TRACEPARENT } from '../../../src/contracts/tracing';
import { sendProviderWebhook } from '../../../src/operations/send';
import { mintToken } from '../../../src/operations/token';
import { PROJECT_ROOT } from '../../../src/platform/project';
import { startTracing, stopTracing, traceFields } from '../../../src/platform/tracing';
import { startApi } from '../../../src/roles/api';
import { startBridge } from '../../../src/roles/bridge';
import { startRelay } from '../../../src/roles/relay';
import { startWorker } from '../../../src/roles/worker';
import {
  createTestSpace,
  eventually,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { CURRENCY } from '../../support/money';
import { readTopic } from '../../support/topics';
import {
  drawTrees,
  TraceCollector,
  treesOf,
  type CollectedSpan,
  type TraceNode,
} from '../../support/trace-collector';

interface Received {
  traceparent: string | undefined;
  type: string;
  subject: string;
}

/** A subscriber that keeps what it is sent; it fails what it is told to, the first time. */
const received: Received[] = [];
const failsOnce = new Set<string>();
const subscriber = http.createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const { type, data } = JSON.parse(Buffer.concat(chunks).toString()) as {
      type: string;
      data: { id: string };
    };
    const traceparent = request.headers[TRACEPARENT];
    received.push({ type, subject: data.id, traceparent: traceparent?.toString() });
    response.writeHead(failsOnce.delete(data.id) ? 500 : 204).end();
  });
});

type Line = Record<string, unknown> & { msg: string };
const lines: Line[] = [];
const log = pino(
  { level: 'info', mixin: traceFields },
  new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Line);
      done();
    },
  }),
);

const collector = new TraceCollector();
let space: TestSpace;
let running: RunningRoles<{ url: string }>;
let token: string;

beforeAll(async () => {
  process.env['OTEL_BSP_SCHEDULE_DELAY'] = '50';
  space = await createTestSpace({
    topics: true,
    temporal: true,
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: await collector.listen(), WEBHOOK_SCHEDULE_MS: '0,300,300' },
  });
  await startTracing(space.config, 'remit', (error) => log.error({ err: error }, 'no traces'));
  running = await runRoles({ ...space, log }, async (context) => {
    const api = await startApi(context);
    await Promise.all([startBridge(context), startWorker(context), startRelay(context)]);
    return api;
  });
  token = await mintToken(space.config, {
    subject: 'client',
    scopes: ['read', 'write', 'admin'],
    expiresInS: 600,
  });
  await new Promise<void>((resolve) => subscriber.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(subscriber.address() as AddressInfo).port}/hooks`;
  await call('/api/v1/event-types', { name: 'parcel.sent' });
  await call('/api/v1/subscriptions', { url, eventTypes: ['*'] });
}, 180_000);

afterAll(async () => {
  await running?.stop();
  await stopTracing();
  subscriber.closeAllConnections();
  subscriber.close();
  await collector.close();
}, 60_000);

/** Posts in a trace of the caller's own, or as its headers say. @returns the answer. */
async function call(path: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(running.started.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, ...headers },
    body: JSON.stringify(body),
  });
  const answer = (await response.json()) as Record<string, string>;
  if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
  return answer;
}

/** A user with money, so that its order is paid. */
async function userWithMoney(): Promise<Record<string, string>> {
  const user = { 'x-user-id': `user-${randomUUID()}` };
  await call('/accounts', { currency: CURRENCY }, user);
  await call('/accounts/topup', { amount: '100.00', currency: CURRENCY }, user);
  return user;
}

function webhookOf(subject: string, count = 1): Promise<Received> {
  return eventually(() => {
    const found = received.filter((each) => each.subject === subject);
    if (found.length < count) throw new Error(`${found.length} webhooks of ${subject}`);
    return found.at(-1)!;
  });
}

/** The one tree of a trace, when its spans have come: a span is sent when it has ended, the last ones after the webhook. */
function treeOf(traceId: string, whole: (names: string[]) => boolean): Promise<TraceNode> {
  return eventually(() => {
    const spans = collector.of(traceId);
    const names = spans.map(({ name }) => name);
    const trees = treesOf(spans);
    if (!whole(names) || trees.length !== 1)
      throw new Error(`not whole yet:\n${drawTrees(trees, ({ name }) => name).join('\n')}`);
    return trees[0]!;
  });
}

const ended = (names: string[], last: string) => names.includes(last);

/** Names from the root to the first span of that name. */
function pathTo(node: TraceNode, name: string): string[] | undefined {
  if (node.span.name === name) return [name];
  for (const child of node.children) {
    const rest = pathTo(child, name);
    if (rest) return [node.span.name, ...rest];
  }
  return undefined;
}

function spanOf(traceId: string, name: string): CollectedSpan {
  const found = collector.of(traceId).find((span) => span.name === name);
  if (!found) throw new Error(`no span ${name}`);
  return found;
}

const traceIdOf = ({ traceparent }: Received): string => readTraceparent(traceparent)!.traceId;
const topic = (name: string) => `${space.config.KAFKA_TOPIC_PREFIX}${name}`;

describe('one trace', () => {
  it('goes from the HTTP request of an order to the webhook of its subscriber, with every span in its place', async () => {
    const user = await userWithMoney();
    const { id } = await call(
      '/orders',
      { amount: '10.00', currency: CURRENCY },
      { ...user, 'x-correlation-id': 'c-order' },
    );
    const webhook = await webhookOf(id!);
    const traceId = traceIdOf(webhook);
    const tree = await treeOf(
      traceId,
      (names) =>
        ended(names, 'RunWorkflow:orderWorkflow') &&
        ended(names, `process ${topic('events')}`) &&
        names.filter((name) => name.startsWith('send ')).length === 4 &&
        names.includes('POST /orders'),
    );

    expect(pathTo(tree, 'POST webhook')).toEqual([
      'POST /orders',
      `send ${space.config.TOPIC_PAYMENT_REQUEST}`,
      `process ${space.config.TOPIC_PAYMENT_REQUEST}`,
      'SignalWithStartWorkflow:orderWorkflow',
      'HandleSignal:paymentRequest',
      'RunActivity:payOrder',
      'pay_order',
      `send ${topic('events')}`,
      `process ${topic('events')}`,
      'POST webhook',
    ]);
    expect(pathTo(tree, 'pay_order traced')).toEqual([
      'POST /orders',
      `send ${space.config.TOPIC_PAYMENT_REQUEST}`,
      `process ${space.config.TOPIC_PAYMENT_REQUEST}`,
      'SignalWithStartWorkflow:orderWorkflow',
      'HandleSignal:paymentRequest',
      'RunActivity:payOrder',
      'pay_order',
      'pay_order traced',
    ]);
    // Prisma's statements too.
    expect(pathTo(tree, 'SELECT orders')).toEqual(['POST /orders', 'SELECT orders']);
    // What the subscriber was given names the attempt's own span.
    expect(readTraceparent(webhook.traceparent)).toEqual({
      traceId,
      spanId: spanOf(traceId, 'POST webhook').spanId,
      sampled: true,
    });
    expect(collector.of(traceId).filter(({ failed }) => failed)).toEqual([]);

    const drawn = drawing(tree);
    if (process.env['REMIT_WRITE_TRACE'] === '1') writeDrawing(drawn);
    expect(documented()).toBe(drawn);
  });

  it('has the ids that an operator types as attributes', () => {
    const traceId = traceIdOf(received.find(({ type }) => type === 'remit.order.finished')!);
    const { subject: orderId } = received.find(({ type }) => type === 'remit.order.finished')!;
    expect(spanOf(traceId, 'POST /orders').attributes).toMatchObject({
      'http.request.method': 'POST',
      'http.route': '/orders',
      'http.response.status_code': 201,
      'remit.correlation_id': 'c-order',
      'remit.tenant_id': 'default',
      'remit.order_id': orderId,
    });
    expect(spanOf(traceId, `process ${space.config.TOPIC_PAYMENT_REQUEST}`).attributes).toMatchObject({
      'messaging.kafka.message.key': orderId,
      'remit.correlation_id': 'c-order',
    });
    for (const name of [
      'SignalWithStartWorkflow:orderWorkflow',
      'RunActivity:payOrder',
      'HandleSignal:paymentRequest',
    ])
      expect(spanOf(traceId, name).attributes).toMatchObject({
        temporalWorkflowID: `order/${orderId}`,
        'remit.order_id': orderId,
      });
    expect(spanOf(traceId, 'POST webhook').attributes).toMatchObject({
      'remit.event_id': expect.stringMatching(/^evt_/) as string,
      'remit.delivery_id': expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      'remit.subscription_id': expect.stringMatching(/^sub_/) as string,
      'remit.tenant_id': 'default',
      'remit.correlation_id': 'c-order',
      'http.response.status_code': 204,
    });
  });

  it('joins the lines of the log: each names the span in which it was written', () => {
    const traceId = traceIdOf(received.find(({ type }) => type === 'remit.order.finished')!);
    const told = lines.filter((line) => line['correlationId'] === 'c-order');
    expect(told.map(({ msg }) => msg)).toEqual(
      expect.arrayContaining(['request', 'message handed on', 'operation on a balance', 'delivery attempt']),
    );
    const spanNames = new Map(collector.of(traceId).map(({ spanId, name }) => [spanId, name]));
    expect(told.map((line) => [line.msg, line['trace_id'], spanNames.get(String(line['span_id']))])).toEqual(
      expect.arrayContaining([
        ['request', traceId, 'POST /orders'],
        ['message handed on', traceId, `process ${space.config.TOPIC_PAYMENT_REQUEST}`],
        ['operation on a balance', traceId, 'pay_order'],
        ['delivery attempt', traceId, 'POST webhook'],
      ]),
    );
  });

  it('is in the header of the message that an outbox row becomes', async () => {
    const { traceparent, subject } = received.find(({ type }) => type === 'remit.order.finished')!;
    const traceId = readTraceparent(traceparent)!.traceId;
    const [message] = await readTopic(
      space,
      space.config.TOPIC_PAYMENT_REQUEST,
      ({ key }) => key?.toString() === subject,
    );
    expect(readTraceparent(message?.headers?.[TRACEPARENT]?.toString())).toEqual({
      traceId,
      spanId: spanOf(traceId, `send ${space.config.TOPIC_PAYMENT_REQUEST}`).spanId,
      sampled: true,
    });
  });

  it('goes from a provider’s webhook to the subscriber, and on through a retry by the delivery’s workflow', async () => {
    const user = await userWithMoney();
    const { id } = await call('/api/v1/payments', {
      ...{ userId: user['x-user-id'], provider: 'decard', amount: '5.00', currency: CURRENCY },
    });
    failsOnce.add(id!);
    await sendProviderWebhook({
      ...{ url: running.started.url, secret: space.config.PROVIDER_SECRET_DECARD, provider: 'decard' },
      ...{ transactionId: id!, status: 'success', amount: '5.00', currency: CURRENCY, type: 'payment' },
      ...{ id: `msg-${id}`, timeoutMs: 15_000 },
    });
    const traceId = traceIdOf(await webhookOf(id!, 2));
    const tree = await treeOf(
      traceId,
      (names) =>
        ended(names, 'RunWorkflow:deliveryWorkflow') &&
        ended(names, 'RunWorkflow:paymentWorkflow') &&
        names.includes('POST /webhooks/providers/:provider'),
    );
    const messages = `${space.config.TOPIC_PAYMENT_WEBHOOK_PREFIX}decard`;
    const toMessage = [
      'POST /webhooks/providers/:provider',
      `send ${messages}`,
      `process ${messages}`,
      'SignalWithStartWorkflow:paymentWorkflow',
      'HandleSignal:providerEvent',
    ];
    expect(pathTo(tree, 'settle_provider_event')).toEqual([
      ...toMessage,
      'RunActivity:settlePayment',
      'settle_provider_event',
    ]);
    const attempts = collector
      .of(traceId)
      .filter(({ name }) => name === 'POST webhook')
      .sort((a, b) => Number(a.attributes['remit.attempt']) - Number(b.attributes['remit.attempt']));
    expect(
      attempts.map(({ attributes, failed }) => [attributes['http.response.status_code'], failed]),
    ).toEqual([
      [500, true],
      [204, false],
    ]);
    // The second was made by the workflow that the first one's failure started, in the same trace.
    expect(pathTo(tree, 'RunActivity:attemptDelivery')).toEqual([
      ...toMessage,
      'RunActivity:settlePayment',
      'settle_provider_event',
      `send ${topic('events')}`,
      `process ${topic('events')}`,
      'StartWorkflow:deliveryWorkflow',
      'RunActivity:attemptDelivery',
    ]);
    expect(attempts[1]!.parentSpanId).toBe(spanOf(traceId, 'RunActivity:attemptDelivery').spanId);
    expect(spanOf(traceId, 'RunActivity:settlePayment').attributes).toMatchObject({
      'remit.payment_id': id,
      'remit.provider': 'decard',
      temporalWorkflowID: `payment/decard/${id}`,
    });
  });

  it('goes from a published event to its subscriber', async () => {
    const subject = randomUUID();
    await call('/api/v1/events', { type: 'parcel.sent', data: { id: subject } });
    const traceId = traceIdOf(await webhookOf(subject));
    const tree = await treeOf(
      traceId,
      (names) => names.includes('POST /api/v1/events') && ended(names, `process ${topic('events')}`),
    );
    expect(pathTo(tree, 'POST webhook')).toEqual([
      'POST /api/v1/events',
      `send ${topic('events')}`,
      `process ${topic('events')}`,
      'POST webhook',
    ]);
  });

  it('has the attempt of a delivery that waited in its lane, with a link to the lane’s own trace', async () => {
    const { port } = subscriber.address() as AddressInfo;
    await call('/api/v1/event-types', { name: 'parcel.kept' });
    await call('/api/v1/subscriptions', {
      ...{ url: `http://127.0.0.1:${port}/ordered`, eventTypes: ['parcel.kept'], ordered: true },
    });
    const subject = randomUUID();
    await call('/api/v1/events', { type: 'parcel.kept', data: { id: subject } });
    await webhookOf(subject, 2);
    const attempts = () =>
      received
        .filter((each) => each.subject === subject)
        .map(({ traceparent }) => readTraceparent(traceparent)!);
    const traceId = attempts()[0]!.traceId;
    expect(attempts().map((each) => each.traceId)).toEqual([traceId, traceId]);
    await eventually(() => {
      const linked = collector.of(traceId).find(({ links }) => links.length > 0);
      const lane = collector.spans.find(({ spanId }) => spanId === linked?.links[0]?.spanId);
      expect([linked?.name, lane?.name]).toEqual(['POST webhook', 'RunActivity:sendLane']);
      expect(linked!.parentSpanId).toBe(spanOf(traceId, 'POST /api/v1/events').spanId);
      expect([lane!.traceId === traceId, lane!.parentSpanId]).toEqual([false, undefined]);
    });
  });

  it('is the caller’s where one gives a traceparent', async () => {
    const user = await userWithMoney();
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const { id } = await call(
      '/orders',
      { amount: '10.00', currency: CURRENCY },
      { ...user, [TRACEPARENT]: `00-${traceId}-b7ad6b7169203331-01` },
    );
    expect(traceIdOf(await webhookOf(id!))).toBe(traceId);
    expect(spanOf(traceId, 'POST /orders').parentSpanId).toBe('b7ad6b7169203331');
  });

  it('is handed on and not recorded where the caller did not sample it', async () => {
    const user = await userWithMoney();
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
    const { id } = await call(
      '/orders',
      { amount: '10.00', currency: CURRENCY },
      { ...user, [TRACEPARENT]: `00-${traceId}-00f067aa0ba902b7-00` },
    );
    const { traceparent } = await webhookOf(id!);
    expect(readTraceparent(traceparent)).toMatchObject({ traceId, sampled: false });
    // The next trace's spans are sent after any that this one had.
    const next = await call('/orders', { amount: '10.00', currency: CURRENCY }, user);
    const nextId = traceIdOf(await webhookOf(next['id']!));
    await treeOf(nextId, (names) => ended(names, 'RunWorkflow:orderWorkflow'));
    expect(collector.of(traceId)).toEqual([]);
  });
});

const DOC = path.join(PROJECT_ROOT, 'docs', 'tracing.md');
const BLOCK = /(<!-- a run of test\/integration\/tracing -->\n```text\n)([\s\S]*?)(\n```\n)/;

/** Kinds that say something. */
const KINDS: Record<number, string> = { 2: 'server', 3: 'client', 4: 'producer', 5: 'consumer' };

/** A tree as docs/tracing.md shows it: without what differs from run to run. */
function drawing(tree: TraceNode): string {
  const shown = (text: string) => text.replaceAll(space.config.KAFKA_TOPIC_PREFIX, '');
  return drawTrees([tree], ({ name, kind, attributes }) => {
    const ids = Object.keys(attributes)
      .filter((key) => /^remit\.\w+_id$|^temporalWorkflowID$/.test(key))
      .map((key) => key.replace(/^remit\./, ''))
      .sort();
    return `${shown(name)}${KINDS[kind] ? ` (${KINDS[kind]})` : ''}${ids.length > 0 ? `  ${ids.join(' ')}` : ''}`;
  }).join('\n');
}

const documented = (): string | undefined => BLOCK.exec(readFileSync(DOC, 'utf8'))?.[2];

function writeDrawing(drawn: string): void {
  writeFileSync(
    DOC,
    readFileSync(DOC, 'utf8').replace(BLOCK, (_, begin: string, __, end: string) => begin + drawn + end),
  );
}
