import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Connection } from '@temporalio/client';
import { defaultPayloadConverter, defineSearchAttributeKey, type Payload } from '@temporalio/common';
import { workflowId, type PaymentRequest, type ProviderEvent } from '../../../src/contracts/workflows';
import { readiness } from '../../../src/platform/ops-server';
import { encryptionOf } from '../../../src/platform/payload-encryption';
import { connectTemporal, registerSearchAttributes } from '../../../src/platform/temporal';
import { paymentWebhookTopic } from '../../../src/platform/topics';
import { startBridge } from '../../../src/roles/bridge';
import {
  createTestSpace,
  eventually,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { Proxy } from '../../support/proxy';
import { headerTexts, StreamBench } from './streams';

const running: RunningRoles<unknown>[] = [];
const clients: Client[] = [];
let bench: StreamBench;
beforeAll(async () => {
  bench = await StreamBench.open();
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((roles) => roles.stop()));
  await Promise.all(clients.splice(0).map((client) => (client.connection as Connection).close()));
});
afterAll(() => bench.close());

const EVENT = { provider: 'decard', status: 'success', amount: 100, currency: 'TRY', type: 'payment' };

/** The bridge role in a space of its own. No worker runs: what Temporal has been given stays as it is. */
async function setUp(env: Record<string, string> = {}) {
  const space: TestSpace = await createTestSpace({
    topics: true,
    env: { BRIDGE_RETRY_BASE_MS: '50', BRIDGE_RETRY_CAP_MS: '500', BRIDGE_START_TIMEOUT_MS: '2000', ...env },
  });
  const client = await connectTemporal({
    ...bench.space.config,
    TEMPORAL_NAMESPACE: space.config.TEMPORAL_NAMESPACE,
  });
  clients.push(client);
  const topic = paymentWebhookTopic(space.config, 'decard');
  return {
    space,
    client,
    topic,
    start: async () => {
      const roles = await runRoles(space, startBridge);
      running.push(roles);
      return roles;
    },
    pay: async (change: object = {}, headers: Record<string, string> = {}) => {
      const transactionId = randomUUID();
      const value = JSON.stringify({ ...EVENT, transactionId, ...change });
      await bench.producer.send({ topic, key: transactionId, value, headers });
      return transactionId;
    },
    order: async (change: object = {}) => {
      const orderId = randomUUID();
      const value = JSON.stringify({
        event: 'payment-request',
        orderId,
        userId: 'user123',
        amount: '50.00',
        currency: 'TRY',
        requestedAt: new Date().toISOString(),
        ...change,
      });
      await bench.producer.send({ topic: space.config.TOPIC_PAYMENT_REQUEST, key: orderId, value });
      return orderId;
    },
    committed: async () => {
      const [offsets] = await bench.admin((admin) =>
        admin.fetchOffsets({ groupId: `${space.name}.payments.decard`, topics: [topic] }),
      );
      return offsets!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0);
    },
  };
}

/** What was signalled to a workflow, and what it was started with. */
async function given<T>(client: Client, id: string): Promise<{ input: unknown; signals: T[] }> {
  const { events } = await client.workflow.getHandle(id).fetchHistory();
  const decode = (payloads: { payloads?: Payload[] | null } | null | undefined) =>
    defaultPayloadConverter.fromPayload(encryptionOf(client)!.decodeOne(payloads!.payloads![0]!));
  const signals: T[] = [];
  let input: unknown;
  for (const event of events ?? []) {
    const started = event.workflowExecutionStartedEventAttributes;
    if (started) input = decode(started.input);
    const signal = event.workflowExecutionSignaledEventAttributes;
    if (signal) signals.push(decode(signal.input) as T);
  }
  return { input, signals };
}

it('brings every event of a payment to that payment’s one workflow', async () => {
  const { client, topic, start, pay } = await setUp();
  await start();
  const transactionId = await pay(
    {},
    { 'remit-provider-event-id': 'msg_1', 'remit-correlation-id': 'corr-1' },
  );
  await bench.producer.send({
    topic,
    key: transactionId,
    value: JSON.stringify({ ...EVENT, transactionId, status: 'pending' }),
  });
  const id = workflowId.payment('decard', transactionId);
  const { input, signals } = await eventually(async () => {
    const got = await given<ProviderEvent>(client, id);
    expect(got.signals).toHaveLength(2);
    return got;
  });
  expect(input).toEqual({ provider: 'decard', transactionId });
  expect(signals[0]).toMatchObject({
    providerEventId: 'msg_1',
    correlationId: 'corr-1',
    amountMinor: '10000',
    source: { topic },
  });
  expect(signals[1]).toMatchObject({
    providerEventId: `${transactionId}:payment:pending`,
    status: 'pending',
  });
  const { typedSearchAttributes, memo, taskQueue } = await client.workflow.getHandle(id).describe();
  expect(typedSearchAttributes.get(defineSearchAttributeKey('RemitProvider', 'KEYWORD'))).toBe('decard');
  expect(memo).toEqual({ correlationId: 'corr-1' });
  expect(taskQueue).toBe('payments');
});

it('brings every request of an order to that order’s one workflow', async () => {
  const { client, space, start, order } = await setUp();
  await start();
  const orderId = await order();
  await order({ orderId });
  await bench.read(space.config.TOPIC_PAYMENT_REQUEST, 1);
  const id = workflowId.order(orderId);
  const { input, signals } = await eventually(async () => {
    const got = await given<PaymentRequest>(client, id);
    expect(got.signals).toHaveLength(2);
    return got;
  });
  expect(input).toEqual({ orderId });
  for (const request of signals)
    expect(request).toMatchObject({ orderId, userId: 'user123', amountMinor: '5000' });
  const { typedSearchAttributes } = await client.workflow.getHandle(id).describe();
  expect(typedSearchAttributes.get(defineSearchAttributeKey('RemitOrderId', 'KEYWORD'))).toBe(orderId);
  // Payloads are encrypted here, search attributes never: they do not name users then.
  expect(typedSearchAttributes.get(defineSearchAttributeKey('RemitUserId', 'KEYWORD'))).toBeUndefined();
  await eventually(async () => {
    const found = [];
    for await (const each of client.workflow.list({ query: `RemitOrderId = "${orderId}"` })) found.push(each);
    expect(found).toHaveLength(1);
  });
});

it('takes a user id that nothing behind it could hold to the DLQ, and goes on', async () => {
  const { client, space, start, order } = await setUp();
  await start();
  await order({ userId: 'u'.repeat(5_000) });
  const good = await order();
  await eventually(() => given(client, workflowId.order(good)));
  const [letter] = await bench.read(`${space.config.TOPIC_PAYMENT_REQUEST}.dlq`, 1);
  const headers = headerTexts(letter?.headers);
  expect(headers['remit-error-code']).toBe('invalid_message');
  expect(headers['remit-error-message']).toMatch(/^userId: /);
});

it('waits for search attributes that are not registered yet instead of dead-lettering everything', async () => {
  const namespace = `bare-${randomUUID()}`;
  const { client, start, pay, committed } = await setUp({ TEMPORAL_NAMESPACE: namespace });
  await client.workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
  });
  await start();
  const transactionId = await pay();
  await sleep(1_500);
  expect(await committed()).toBe(0);
  await eventually(() => registerSearchAttributes(client));
  await eventually(() => given(client, workflowId.payment('decard', transactionId)), 30_000);
  await eventually(async () => expect(await committed()).toBe(1));
});

describe('while Temporal is away', () => {
  it('nothing is committed or skipped, readiness says so, and all of it arrives afterwards', async () => {
    const proxy = await Proxy.open(bench.space.config.TEMPORAL_ADDRESS);
    const { client, start, pay, committed } = await setUp({ TEMPORAL_ADDRESS: proxy.address });
    const { lifecycle } = await start();
    const before = await pay();
    await eventually(() => given(client, workflowId.payment('decard', before)));
    await eventually(async () => expect(await committed()).toBe(1));

    await proxy.cut();
    const during = await Promise.all(Array.from({ length: 30 }, () => pay()));
    await sleep(3_000);
    expect(await committed()).toBe(1);
    const { ready, dependencies } = await readiness(lifecycle, 1_000);
    expect(ready).toBe(false);
    expect(dependencies['temporal']).not.toBe('ok');

    await proxy.restore();
    for (const transactionId of during)
      await eventually(() => given(client, workflowId.payment('decard', transactionId)), 15_000);
    await eventually(async () => expect(await committed()).toBe(31));
    await eventually(async () => expect((await readiness(lifecycle, 1_000)).ready).toBe(true));
    await proxy.cut();
  });
});
