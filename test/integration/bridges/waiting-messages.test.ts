import { randomUUID } from 'node:crypto';
import type { Client, Connection } from '@temporalio/client';
import type { Kafka } from 'kafkajs';
import { WAITING_MESSAGES_MAX } from '../../../src/contracts/workflows/limits';
import { QUERIES, workflowId } from '../../../src/contracts/workflows';
import { createPayment } from '../../../src/domain/payments';
import { createKafka, headersToStrings, MessageProducer } from '../../../src/platform/kafka';
import type { Database } from '../../../src/platform/postgres';
import { connectTemporal } from '../../../src/platform/temporal';
import { readTopic, rangesOf, withAdmin, type StoredMessage } from '../../../src/platform/topic-reader';
import { deadLetterTopic, paymentWebhookTopic } from '../../../src/platform/topics';
import { startBridge } from '../../../src/roles/bridge';
import { CLEAR_PAYLOADS } from '../../../src/roles/local-stack';
import { startWorker } from '../../../src/roles/worker';
import {
  createTestSpace,
  eventually,
  openOwnerDatabase,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { TENANT, userWith } from '../../support/money';

const HOUR = 3_600_000;

let space: TestSpace;
let kafka: Kafka;
let producer: MessageProducer;
let client: Client;
let db: Database;
let roles: RunningRoles<unknown>;
let user: string;

beforeAll(async () => {
  space = await createTestSpace({
    topics: true,
    temporal: true,
    env: {
      ...{ UNKNOWN_TRANSACTION_WAIT_MS: String(HOUR), KAFKA_LAG_INTERVAL_MS: '600000', ...CLEAR_PAYLOADS },
      // A flood is megabytes at once: how soon a busy machine's broker has stored them is not what this is about.
      KAFKA_PRODUCE_TIMEOUT_MS: '60000',
    },
  });
  kafka = createKafka(space.config, space.log);
  producer = new MessageProducer(kafka, space.config);
  await producer.connect();
  client = await connectTemporal(space.config);
  db = openOwnerDatabase(space);
  user = await userWith(db);
  roles = await runRoles(space, async (context) => {
    await startWorker(context, ['payments', 'orders']);
    await startBridge(context);
  });
}, 120_000);
afterAll(async () => {
  await roles?.stop();
  await producer?.stop();
  await (client?.connection as Connection | undefined)?.close();
  await db?.close();
});

type Kind = 'payment' | 'order' | 'dispute';
interface Flood {
  kind: Kind;
  id: string;
  topic: string;
  values: Map<string, string>;
  state: string;
}

/** One webhook of the flood, `bytes` long: the last one decides, those before it say that it is pending. */
function webhookOf(kind: Kind, id: string, providerEventId: string, isLast: boolean, bytes: number): string {
  const padding = 'x'.repeat(bytes);
  const status = isLast ? 'success' : 'pending';
  const common = { amount: '100.00', currency: 'TRY', padding };
  if (kind === 'payment')
    return JSON.stringify({ provider: 'decard', transactionId: id, type: 'payment', status, ...common });
  const order = { provider_event_id: providerEventId, order_id: id, user_id: user };
  return JSON.stringify({
    ...{ event_id: randomUUID(), key: id, timestamp: new Date().toISOString() },
    type: kind === 'order' ? 'order.webhook' : 'dispute.webhook',
    payload: { ...order, ...common, status: kind === 'order' ? status : isLast ? 'lost' : 'opened' },
  });
}

/** Sends `count` webhooks of `bytes` for one id that nobody knows, in order. */
async function flood(kind: Kind, count: number, bytes: number): Promise<Flood> {
  const id = randomUUID();
  const topic = {
    payment: paymentWebhookTopic(space.config, 'decard'),
    order: space.config.TOPIC_WEBHOOKS_ORDERS,
    dispute: space.config.TOPIC_WEBHOOKS_DISPUTES,
  }[kind];
  const values = new Map<string, string>();
  for (let n = 0; n < count; n++) {
    const eventId = `${kind}-${id}-${n}`;
    values.set(eventId, webhookOf(kind, id, eventId, n === count - 1, bytes));
  }
  const messages = [...values].map(([eventId, value]) => ({
    ...{ topic, key: id, value },
    headers: { 'remit-provider-event-id': eventId, odd: Buffer.from([0xff, 0xfe]) },
  }));
  for (let at = 0; at < count; at += 20)
    await Promise.all(messages.slice(at, at + 20).map((message) => producer.send(message)));
  const state = {
    payment: workflowId.payment('decard', id),
    order: workflowId.order(id),
    dispute: workflowId.dispute(`order-${id}`),
  }[kind];
  return { kind, id, topic, values, state };
}

/** Ids of the events that were applied, in the order in which they were. */
async function appliedOf({ id }: Flood): Promise<string[]> {
  const { rows } = await db.pool.query<{ id: string }>(
    'SELECT provider_event_id AS id FROM provider_events WHERE transaction_id = $1 ORDER BY xmin::text::bigint',
    [id],
  );
  return rows.map((row) => row.id);
}

/** Dead letters of one id, in their order. */
async function lettersOf({ id, topic }: Pick<Flood, 'id' | 'topic'>): Promise<StoredMessage[]> {
  const dlq = deadLetterTopic(space.config, topic);
  const ranges = await withAdmin(kafka, (admin) => rangesOf(admin, dlq));
  const all = await readTopic(kafka, { topic: dlq, ranges, limit: 10_000, groupPrefix: space.name });
  return all.filter(({ key }) => String(key) === id);
}

const eventIdOf = ({ headers }: StoredMessage) => headersToStrings(headers)['remit-provider-event-id'] ?? '';
const codeOf = ({ headers }: StoredMessage) => headersToStrings(headers)['remit-error-code'];

async function appear({ kind, id }: Flood): Promise<void> {
  const money = { tenantId: TENANT, userId: user, amountMinor: 10_000n, currency: 'TRY' };
  if (kind === 'payment')
    await createPayment(db, {
      ...{ id, ...money, type: 'payment', provider: 'decard', reserve: false, expiresAfterMs: HOUR },
      ...{ correlationId: 'test', actor: 'test' },
    });
  else
    await db.pool.query(
      `INSERT INTO orders (id, tenant_id, user_id, amount_minor, currency, description, status)
       VALUES ($1, $2, $3, $4, $5, '', $6)`,
      [id, TENANT, user, 10_000, 'TRY', kind === 'order' ? 'NEW' : 'FINISHED'],
    );
}

/** All runs of a workflow kept far below what Temporal takes. */
async function runsOf({ state }: Flood): Promise<{ runs: number; bytes: number; events: number }> {
  let [runs, bytes, events] = [0, 0, 0];
  for await (const run of client.workflow.list({ query: `WorkflowId = '${state}'` })) {
    const { historySize = 0, historyLength } = await client.workflow.getHandle(state, run.runId).describe();
    runs += 1;
    bytes = Math.max(bytes, historySize);
    events = Math.max(events, historyLength);
  }
  return { runs, bytes, events };
}

const waiting = async ({ state }: Flood) =>
  (await client.workflow.getHandle(state).query(QUERIES.payment)).waitingEvents;

/** Every payload of a history as text. */
function textsIn(value: unknown): string[] {
  if (value instanceof Uint8Array) return [Buffer.from(value).toString()];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : [];
}

async function committed(topic: string, group: string): Promise<number> {
  return withAdmin(kafka, async (admin) => {
    const [offsets] = await admin.fetchOffsets({ groupId: `${space.name}.${group}`, topics: [topic] });
    return (offsets?.partitions ?? []).reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0);
  });
}

it('an event whose time is up is dead-lettered byte for byte, from where it lies', async () => {
  const topic = paymentWebhookTopic(space.config, 'decard');
  const id = randomUUID();
  const value = `{ "provider":"decard","transactionId":"${id}", "status":"success","amount":1e2,"currency":"TRY","type":"payment", "ü":"\\u0000" }`;
  const headers = {
    'remit-provider-event-id': 'late',
    'remit-received-at': '2026-01-01T00:00:00Z',
    odd: Buffer.from([0xff, 0x00]),
    repeated: ['1', '2'],
  };
  await producer.send({ topic, key: id, value, headers });
  const [letter] = await eventually(async () => {
    const letters = await lettersOf({ id, topic });
    expect(letters).toHaveLength(1);
    return letters;
  });
  expect(letter?.value?.toString()).toBe(value);
  expect(codeOf(letter!)).toBe('unknown_transaction');
  expect(letter?.headers).toMatchObject({
    odd: Buffer.from([0xff, 0x00]),
    repeated: [Buffer.from('1'), Buffer.from('2')],
  });
  const { events } = await client.workflow.getHandle(workflowId.payment('decard', id)).fetchHistory();
  const history = textsIn(events).join('\n');
  expect(history).toContain(id);
  // Nothing of the provider's text is in Temporal.
  expect(history).not.toContain('ü');
});

it('floods for ids that nobody knows: produced = applied in order + dead-lettered, lost 0', async () => {
  const MANY = Number(process.env['REMIT_TEST_FLOOD'] ?? WAITING_MESSAGES_MAX + 200);
  const floods = await Promise.all([
    flood('payment', 175, 250_000),
    flood('payment', 600, 64_000),
    flood('payment', MANY, 10),
    flood('order', 100, 250_000),
    flood('dispute', 100, 250_000),
  ]);
  const topic = paymentWebhookTopic(space.config, 'decard');
  await eventually(
    async () => expect(await committed(topic, 'payments.decard')).toBeGreaterThanOrEqual(175 + 600 + MANY),
    180_000,
    500,
  );
  const [a, b, many, order, dispute] = floods;
  // What can't wait is on the DLQ while the rest waits.
  const excess = [...many.values.keys()].slice(WAITING_MESSAGES_MAX);
  await eventually(
    async () => {
      const letters = await lettersOf(many);
      expect(new Set(letters.map(eventIdOf))).toEqual(new Set(excess));
      expect(letters.every((letter) => codeOf(letter) === 'too_many_waiting')).toBe(true);
      for (const letter of letters) expect(letter.value?.toString()).toBe(many.values.get(eventIdOf(letter)));
    },
    60_000,
    1_000,
  );
  expect(await waiting(a)).toBe(175);
  expect(await waiting(b)).toBe(600);
  expect(await waiting(many)).toBe(WAITING_MESSAGES_MAX);
  for (const each of floods) await appear(each);
  for (const each of [a, b, many, order, dispute]) {
    await eventually(
      async () => {
        const applied = await appliedOf(each);
        const sent = [...each.values.keys()];
        expect(applied).toEqual(sent.slice(0, each === many ? WAITING_MESSAGES_MAX : sent.length));
      },
      120_000,
      500,
    );
  }
  for (const each of [a, b, order, dispute]) expect(await lettersOf(each)).toEqual([]);
  const report = await Promise.all(floods.map(runsOf));
  for (const { bytes, events } of report) {
    expect(bytes).toBeLessThan(10_000_000);
    expect(events).toBeLessThan(15_000);
  }
  if (process.env['REMIT_TEST_FLOOD']) process.stdout.write(`${JSON.stringify(report)}\n`);
}, 400_000);
