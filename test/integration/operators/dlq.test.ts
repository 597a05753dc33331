import { randomUUID } from 'node:crypto';
import { headersToBase64 } from '../../../src/platform/kafka';
import { SubscriptionCreated } from '../../../src/contracts/subscriptions';
import { HEADERS } from '../../../src/contracts/messages';
import { getAccount } from '../../../src/domain/accounts';
import { createPayment } from '../../../src/domain/payments';
import { createClickHouse } from '../../../src/platform/clickhouse';
import { migrateClickHouse } from '../../../src/platform/clickhouse-migrations';
import { createKafka, MessageProducer, type OutgoingMessage } from '../../../src/platform/kafka';
import type { Database } from '../../../src/platform/postgres';
import { rangesOf, readTopic, withAdmin, type StoredMessage } from '../../../src/platform/topic-reader';
import { paymentWebhookTopic } from '../../../src/platform/topics';
import { callApi } from '../../../src/operations/api-call';
import { startApi } from '../../../src/roles/api';
import { startBridge } from '../../../src/roles/bridge';
import { dlqTopics, REDRIVEN } from '../../../src/platform/dead-letter-topics';
import { listDlqs, purgeDlq, redriveDlq, showDlq, type DlqAccess } from '../../../src/operations/dlq';
import { startIngest } from '../../../src/roles/ingest';
import { startRelay } from '../../../src/roles/relay';
import { mintToken } from '../../../src/operations/token';
import { startWorker } from '../../../src/roles/worker';
import {
  createTestSpace,
  eventually,
  openTestDatabase,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { TENANT, userWith } from '../../support/money';
import { subscriber, type Subscriber } from '../../support/subscriber';

const LONG_MS = 60_000;
const BINARY = Buffer.from([0xff, 0x00, 0xfe]);
/** Headers as providers' own workers may write them: no text, repeated, named as what every object inherits. */
const ODD_HEADERS = {
  binary: BINARY,
  repeated: ['1', BINARY, '1'],
  constructor: 'c',
  plain: 'é',
} as OutgoingMessage['headers'] & object;

let space: TestSpace;
let db: Database;
let producer: MessageProducer;
let running: RunningRoles<{ url: string }>;
let server: Subscriber;
let status = 500;
let payments: string;

beforeAll(async () => {
  space = await createTestSpace({
    topics: true,
    temporal: true,
    env: {
      UNKNOWN_TRANSACTION_WAIT_MS: '0',
      WEBHOOK_SCHEDULE_MS: '0',
      INGEST_FLUSH_MS: '100',
      KAFKA_SESSION_TIMEOUT_MS: '6000',
    },
  });
  await migrateClickHouse(space.config, space.log);
  payments = paymentWebhookTopic(space.config, 'decard');
  db = openTestDatabase(space);
  running = await runRoles(space, async (context) => {
    const api = await startApi(context);
    await Promise.all([
      startBridge(context),
      startWorker(context),
      startRelay(context),
      startIngest(context),
    ]);
    return api;
  });
  producer = new MessageProducer(createKafka(space.config, space.log), space.config);
  await producer.connect();
  server = await subscriber((response) => void response.writeHead(status).end());
}, 180_000);

afterAll(async () => {
  await running?.stop();
  await producer?.stop();
  await server?.close();
  await db?.close();
}, 90_000);

/** The commands as an operator has them, and what they said. */
function operator() {
  const said: string[] = [];
  const token = () => mintToken(space.config, { subject: 'op', scopes: ['read', 'write'], expiresInS: 300 });
  const access: DlqAccess = {
    config: space.config,
    log: space.log,
    say: (line) => void said.push(line),
    resendDelivery: async (id) => {
      await callApi({ api: running.started.url, token }, 'POST', `/api/v1/deliveries/${id}/resend`, {
        onlyIf: 'exhausted',
      });
    },
  };
  const show = (topic: string, options: { values?: boolean; all?: boolean; json?: boolean } = {}) =>
    showDlq(access, { topic, limit: 100, values: false, all: false, json: false, ...options });
  const purge = (topic: string, all: boolean, answer: boolean) => {
    const confirm = (question: string) => {
      said.push(question);
      return Promise.resolve(answer);
    };
    return purgeDlq(access, { topic, all, confirm });
  };
  const redrive = (topic: string, limit = 100) => redriveDlq(access, { topic, limit });
  return { access, said, text: () => said.join('\n'), show, redrive, purge };
}

async function everythingOn(topic: string): Promise<StoredMessage[]> {
  const kafka = createKafka(space.config, space.log);
  const ranges = await withAdmin(kafka, (admin) => rangesOf(admin, topic));
  return readTopic(kafka, { topic, ranges, limit: 10_000, groupPrefix: space.name });
}

const arrivedOn = (topic: string, count: number) =>
  eventually(
    async () => {
      const messages = await everythingOn(topic);
      if (messages.length < count) throw new Error(`${messages.length} of ${count} messages on ${topic}`);
      return messages;
    },
    LONG_MS,
    300,
  );

const header = ({ headers }: StoredMessage, name: string) => headers[name]?.toString();
/** The headers that the producer gave, byte for byte. */
const original = ({ headers }: StoredMessage) =>
  headersToBase64(headers)
    .filter(([name]) => !name.startsWith('remit-'))
    .sort();

describe('the dead letters of a topic that a bridge reads', () => {
  const transactionId = randomUUID();
  const unknown = JSON.stringify({
    provider: 'decard',
    transactionId,
    status: 'success',
    amount: 12.5,
    currency: 'TRY',
    type: 'payment',
  });
  const broken = Buffer.concat([Buffer.from('{"no json'), BINARY]);

  it('keep key, value and headers byte for byte, from the bridge and from a workflow, and say why', async () => {
    await producer.send({ topic: payments, key: BINARY, value: broken, headers: ODD_HEADERS });
    await producer.send({ topic: payments, key: BINARY, value: unknown, headers: ODD_HEADERS });
    const letters = await arrivedOn(`${payments}.dlq`, 2);
    expect(letters.map((letter) => header(letter, HEADERS.deadLetter.errorCode)).sort()).toEqual([
      'invalid_json',
      'unknown_transaction',
    ]);
    for (const letter of letters) {
      expect(letter.key).toEqual(BINARY);
      expect(original(letter)).toEqual(headersToBase64(ODD_HEADERS).sort());
      expect(header(letter, HEADERS.deadLetter.topic)).toBe(payments);
    }
    expect(letters.map(({ value }) => value!.toString('base64')).sort()).toEqual(
      [broken, Buffer.from(unknown)].map((value) => value.toString('base64')).sort(),
    );
  });

  it('are counted with their reasons, and shown in words and as exact bytes', async () => {
    const { access, said, text, show } = operator();
    await listDlqs(access);
    for (const topic of dlqTopics(space.config)) expect(text()).toContain(topic);
    const row = text()
      .split('\n')
      .find((line) => line.includes(`${payments}.dlq`));
    expect(row).toMatch(/\b2\b.*\b2\b/);
    expect(text()).toMatch(/1 invalid_json/);
    expect(text()).toMatch(/1 unknown_transaction/);

    said.length = 0;
    // The topic itself will do as well as its DLQ.
    await show(payments, { values: true });
    expect(text()).toContain('invalid_json  attempts 1');
    expect(text()).toContain(`base64:${broken.toString('base64')}`);
    expect(text()).toContain('plain: é');
    expect(text()).toContain(unknown);

    said.length = 0;
    await show(payments, { json: true });
    const shown = said.map(
      (line) => JSON.parse(line) as { code: string; valueBase64: string; headersBase64: [string, string][] },
    );
    const letter = shown.find(({ code }) => code === 'invalid_json');
    expect(letter?.valueBase64).toBe(broken.toString('base64'));
    expect(letter?.headersBase64).toEqual(expect.arrayContaining(headersToBase64(ODD_HEADERS)));
  });

  it('go back by a redrive: what was mended is applied, the rest comes back and counts on; a second one does nothing', async () => {
    const userId = await userWith(db);
    await createPayment(db, {
      id: transactionId,
      tenantId: TENANT,
      type: 'payment',
      provider: 'decard',
      userId,
      amountMinor: 1_250n,
      currency: 'TRY',
      reserve: false,
      expiresAfterMs: 86_400_000,
      correlationId: 'test',
      actor: 'test',
    });
    const { redrive, text, said } = operator();
    expect(await redrive(payments)).toEqual({ redriven: 2, skipped: 0 });
    expect(text()).toContain('remit dlq purge');
    await eventually(async () => {
      const { balanceMinor } = await getAccount(db, { tenantId: TENANT, userId, currency: 'TRY' });
      expect(balanceMinor).toBe(1_250n);
    }, LONG_MS);

    const [, , again] = await arrivedOn(`${payments}.dlq`, 3).then((letters) =>
      letters.sort((a, b) => a.timestampMs - b.timestampMs),
    );
    expect(header(again!, HEADERS.deadLetter.errorCode)).toBe('invalid_json');
    expect(header(again!, HEADERS.deadLetter.attempts)).toBe('2');
    expect(header(again!, REDRIVEN)).toMatch(new RegExp(`^${payments}.dlq/\\d+/\\d+$`));
    expect(again!.value).toEqual(broken);
    expect(original(again!)).toEqual(headersToBase64(ODD_HEADERS).sort());

    // The second redrive begins behind what the first one did: only the one that came back goes once more.
    said.length = 0;
    expect(await redrive(payments)).toEqual({ redriven: 1, skipped: 0 });
    await arrivedOn(`${payments}.dlq`, 4);
    // Two of ours, two redriven ones, one redriven for the second time.
    expect(await everythingOn(payments)).toHaveLength(5);
  });

  it('are purged only with a yes, and only what was redriven unless everything is asked for', async () => {
    const { purge, show, text, said } = operator();
    expect(await purge(payments, false, false)).toBe(0n);
    expect(text()).toMatch(/Delete 3 messages of [\s\S]*Nothing was deleted/);
    expect(await everythingOn(`${payments}.dlq`)).toHaveLength(4);
    expect(await purge(payments, false, true)).toBe(3n);
    said.length = 0;
    expect(await show(payments, { all: true })).toHaveLength(1);
    expect(await purge(payments, false, true)).toBe(0n);
    expect(text()).toContain('--all would delete');
    expect(await purge(payments, true, true)).toBe(1n);
    said.length = 0;
    expect(await show(payments)).toEqual([]);
    expect(text()).toContain('nothing');
    expect(await operator().redrive(payments)).toEqual({ redriven: 0, skipped: 0 });
  });

  it('that can not go back are passed over, whatever they say, and the others go', async () => {
    const dlq = `${space.config.TOPIC_PAYMENT_REQUEST}.dlq`;
    const source = (topic: string) => ({ [HEADERS.deadLetter.topic]: topic });
    await producer.send({ topic: dlq, key: 'k', value: 'of nobody', headers: {} });
    await producer.send({ topic: dlq, key: 'k', value: 'elsewhere', headers: source(payments) });
    await producer.send({
      topic: dlq,
      key: 'k',
      value: 'right',
      headers: source(space.config.TOPIC_PAYMENT_REQUEST),
    });
    const before = (await everythingOn(payments)).length;
    const { redrive, text } = operator();
    expect(await redrive(dlq)).toEqual({ redriven: 1, skipped: 2 });
    expect(text()).toMatch(/passed over: it has no header[\s\S]*is not the topic that this DLQ belongs to/);
    expect((await everythingOn(payments)).length).toBe(before);
    // It comes back to where it was, as its reader can't read it.
    await arrivedOn(dlq, 4);
  });

  it('are worked off by one redrive at a time, each from where the last one ended', async () => {
    const dlq = `${space.config.TOPIC_WEBHOOKS_ORDERS}.dlq`;
    const headers = { [HEADERS.deadLetter.topic]: space.config.TOPIC_WEBHOOKS_ORDERS };
    for (let i = 0; i < 5; i++) await producer.send({ topic: dlq, key: null, value: `${i}`, headers });
    const { redrive, text } = operator();
    expect(await redrive(dlq, 2)).toEqual({ redriven: 2, skipped: 0 });
    expect(text()).toContain('3 not redriven yet');
    const both = await Promise.allSettled([redrive(dlq), redrive(dlq)]);
    for (const one of both)
      if (one.status === 'rejected')
        expect(String(one.reason)).toMatch(/done already|another process|rebalanc|member/i);
    // However the two met: nothing is left out.
    await eventually(() => redrive(dlq), LONG_MS, 500);
    const sent = await everythingOn(space.config.TOPIC_WEBHOOKS_ORDERS);
    expect(new Set(sent.map(({ value }) => value!.toString()))).toEqual(new Set(['0', '1', '2', '3', '4']));
  });

  it('are not found under another name', async () => {
    const { redrive, show, purge } = operator();
    for (const run of [() => redrive('nope'), () => show('nope'), () => purge('nope', true, true)])
      await expect(run()).rejects.toThrow(/nope is no dead-letter topic; there are:/);
  });
});

describe('the dead letters of deliveries', () => {
  const call = async (path: string, body: object) => {
    const token = await mintToken(space.config, { subject: 'app', scopes: ['admin'], expiresInS: 300 });
    const access = { api: running.started.url, token: () => Promise.resolve(token) };
    return callApi(access, 'POST', `/api/v1${path}`, body);
  };

  it('are sent again through the API, once; what is no delivery any more is passed over', async () => {
    const dlq = space.config.TOPIC_WEBHOOK_DELIVERY_DLQ;
    await call('/event-types', { name: 'parcel.sent' });
    SubscriptionCreated.parse(await call('/subscriptions', { url: server.url, eventTypes: ['parcel.*'] }));
    await call('/events', { type: 'parcel.sent', data: { id: 'p' } });
    const [letter] = await arrivedOn(dlq, 1);
    const gone = JSON.parse(letter!.value!.toString()) as { delivery: { id: string } };
    gone.delivery.id = randomUUID();
    await producer.send({ topic: dlq, key: 'k', value: JSON.stringify(gone) });
    await producer.send({ topic: dlq, key: 'k', value: 'no letter' });

    const { access, redrive, text, said, show } = operator();
    await listDlqs(access);
    expect(text()).toContain('1 delivery_exhausted');
    await show(dlq);
    expect(text()).toContain('HTTP 500');

    status = 204;
    const received = server.received.length;
    said.length = 0;
    expect(await redrive(dlq)).toEqual({ redriven: 1, skipped: 2 });
    expect(text()).toMatch(/passed over: delivery [-\da-f]{36}: .*404/);
    expect(text()).toMatch(/passed over: it is no dead letter of a delivery/);
    await eventually(() => expect(server.received.length).toBe(received + 1), LONG_MS);
    const ids = server.received.map(({ headers }) => headers['webhook-id']);
    expect(new Set(ids).size).toBe(1);
    expect(await redrive(dlq)).toEqual({ redriven: 0, skipped: 0 });
    const stranded = { toStartSince: { not: null } };
    expect(await db.prisma.delivery.count({ where: stranded })).toBe(0);

    // Another letter of what has been delivered since: it is not sent a second time.
    await producer.send({ topic: dlq, key: 'k', value: letter!.value! });
    said.length = 0;
    expect(await redrive(dlq)).toEqual({ redriven: 0, skipped: 1 });
    expect(text()).toMatch(/passed over: delivery [-\da-f]{36}: .*409/);
    expect(server.received.length).toBe(received + 1);
  });
});

describe('the dead letters of purchases', () => {
  it('go back to the topic and, mended or not, end as a row or as a dead letter again', async () => {
    const { TOPIC_PURCHASES: topic, TOPIC_PURCHASES_DLQ: dlq } = space.config;
    const purchase = { id: randomUUID(), userId: 'u', productId: 'p', amount: '1.00', currency: 'TRY' };
    const bad = JSON.stringify({ ...purchase, status: 'no such status' });
    await producer.send({ topic, key: purchase.id, value: bad, headers: ODD_HEADERS });
    const [letter] = await arrivedOn(dlq, 1);
    expect(letter!.value!.toString()).toBe(bad);
    expect(original(letter!)).toEqual(headersToBase64(ODD_HEADERS).sort());

    const { redrive } = operator();
    // Named by its topic, from which the DLQ's name does not follow.
    expect(await redrive(topic)).toEqual({ redriven: 1, skipped: 0 });
    const letters = await arrivedOn(dlq, 2);
    const again = letters.find((each) => header(each, REDRIVEN) !== undefined);
    expect(header(again!, HEADERS.deadLetter.attempts)).toBe('2');
    expect(again!.value!.toString()).toBe(bad);
    const clickhouse = createClickHouse(space.config);
    const found = await clickhouse.query({
      query: 'SELECT count() AS n FROM purchases',
      format: 'JSONEachRow',
    });
    const [row] = await found.json<{ n: string | number }>();
    expect(Number(row!.n)).toBe(0);
    await clickhouse.close();
  });
});
