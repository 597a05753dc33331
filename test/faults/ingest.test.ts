import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Table from 'cli-table3';
import type { Kafka, KafkaMessage } from 'kafkajs';
import { createClickHouse } from '../../src/platform/clickhouse';
import { migrateClickHouse } from '../../src/platform/clickhouse-migrations';
import { loadConfig, type Config } from '../../src/platform/config';
import { createKafka, ensureTopics } from '../../src/platform/kafka';
import { createLogger } from '../../src/platform/logging';
import { startLocalStack, type LocalStack } from '../../src/roles/local-stack';
import { purchaseGenerator } from '../../src/operations/purchase-generator';
import { noteResult } from '../support/nightly';
import { startScript, type Child } from '../support/processes';

/** REMIT_FAULTS_MESSAGES and REMIT_FAULTS_RATE make it longer: 2,000,000 at 20,000 a second is a hundred seconds. */
const MESSAGES = Number(process.env['REMIT_FAULTS_MESSAGES'] ?? 60_000);
const RATE = Number(process.env['REMIT_FAULTS_RATE'] ?? 1_500);
const BAD_SHARE = 0.001;
const PARTITIONS = 6;
const GROUP = 'remit.ingest.purchases';
const SEND_MESSAGES = 100;
const log = createLogger({ LOG_LEVEL: 'silent', NODE_ENV: 'test' }, 'test');
const say = (line: string) => void process.stderr.write(`  ${line}\n`);

let stack: LocalStack;
let config: Config;
let kafka: Kafka;
const members: Child[] = [];
let dataDir: string;

beforeAll(async () => {
  dataDir = await mkdtemp(path.join(os.tmpdir(), 'remit-faults-'));
  stack = await startLocalStack({
    env: {
      NODE_ENV: 'test',
      LOG_LEVEL: 'error',
      KAFKA_TOPIC_PARTITIONS: String(PARTITIONS),
      KAFKA_SESSION_TIMEOUT_MS: '6000',
      INGEST_BATCH_ROWS: '2000',
      INGEST_FLUSH_MS: '300',
      KAFKA_BROKERS: '',
      CLICKHOUSE_URL: '',
    },
    dataDir,
    ports: 'free',
    parts: ['kafka', 'clickhouse'],
    report: () => undefined,
  });
  config = loadConfig(stack.env, []);
  kafka = createKafka(config, log);
  await migrateClickHouse(config, log);
  const topics = [config.TOPIC_PURCHASES, config.TOPIC_DOMAIN_EVENTS];
  await ensureTopics(kafka, [...topics, ...topics.map((topic) => `${topic}.dlq`)], config);
}, 180_000);

afterAll(async () => {
  await Promise.all(members.map((member) => member.kill()));
  await stack.stop();
  await rm(dataDir, { recursive: true, force: true });
});

async function join(count = 1): Promise<void> {
  const script = path.join(__dirname, 'ingest-member.ts');
  const env = { ...stack.env, KAFKA_CLIENT_ID: 'faults' };
  members.push(...(await Promise.all(Array.from({ length: count }, () => startScript(script, env)))));
}

const killMember = async () => {
  await members.shift()?.kill();
  await join();
};
const killPart = async (part: 'kafka' | 'clickhouse') => {
  await stack.embedded!.kill(part);
  await sleep(1_000);
  await stack.embedded!.restart(part);
};

/** Everything that goes wrong while messages come in, one thing after another. */
const FAULTS: [string, () => Promise<void>][] = [
  ['kill -9 ingest', killMember],
  ['kill -9 ClickHouse', () => killPart('clickhouse')],
  ['from 1 consumer to 3', () => join(2)],
  ['kill -9 one of 3', killMember],
  ['kill -9 Kafka', () => killPart('kafka')],
  ['kill -9 ingest', killMember],
  ['kill -9 ClickHouse under 3', () => killPart('clickhouse')],
  [
    'from 3 consumers to 1, in order',
    async () => void (await Promise.all(members.splice(0, 2).map((m) => m.stop()))),
  ],
  [
    'kill -9 ingest and ClickHouse',
    async () => void (await Promise.all([killMember(), killPart('clickhouse')])),
  ],
];

/** Produces at the given rate, whatever becomes of the broker. @returns keys of the messages that are bad. */
async function produceAll(): Promise<Set<string>> {
  const connect = async () => {
    const producer = kafka.producer({
      idempotent: true,
      maxInFlightRequests: 1,
      retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 200 },
    });
    await producer.connect();
    return producer;
  };
  let producer = await connect();
  const next = purchaseGenerator({ seed: 42, badShare: BAD_SHARE });
  const startedAt = Date.now();
  const bad = new Set<string>();
  for (let sent = 0; sent < MESSAGES; sent += SEND_MESSAGES) {
    const batch = Array.from({ length: SEND_MESSAGES }, next);
    for (const { key, mistake } of batch) if (mistake) bad.add(key);
    const messages = batch.map(({ key, value }) => ({ key, value }));
    for (;;) {
      try {
        await producer.send({ topic: config.TOPIC_PURCHASES, acks: -1, messages });
        break;
      } catch (error) {
        // Of a producer that is given up nobody knows what it stored: these messages may be in the topic twice.
        say(`the producer restarts: ${String(error)}`);
        await producer.disconnect();
        producer = await connect();
      }
    }
    await sleep(Math.max(0, startedAt + (sent / RATE) * 1_000 - Date.now()));
  }
  await producer.disconnect();
  return bad;
}

/** Reads a topic from its beginning until nothing comes for a while. */
async function readTopic(
  topic: string,
  onMessage: (partition: number, message: KafkaMessage) => void,
): Promise<void> {
  const consumer = kafka.consumer({ groupId: `check.${topic}`, maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  let lastAt = Date.now() + 5_000;
  await consumer.run({
    eachMessage: ({ partition, message }) => {
      onMessage(partition, message);
      lastAt = Date.now();
      return Promise.resolve();
    },
  });
  while (Date.now() - lastAt < 3_000) await sleep(100);
  await consumer.disconnect();
}

async function untilAllCommitted(): Promise<number> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    for (const deadline = Date.now() + 120_000; ; await sleep(250)) {
      const [group] = await admin.fetchOffsets({ groupId: GROUP, topics: [config.TOPIC_PURCHASES] });
      const ends = await admin.fetchTopicOffsets(config.TOPIC_PURCHASES);
      const open = ends.filter(({ partition, high }) => {
        const committed = group!.partitions.find((each) => each.partition === partition);
        // After the log's identity stand the ranges that are announced and not stored yet.
        const [, announced = ''] = (committed?.metadata ?? '').split('|');
        return Number(committed?.offset ?? 0) < Number(high) || announced !== '';
      });
      if (open.length === 0) return ends.reduce((sum, { high }) => sum + Number(high), 0);
      if (Date.now() > deadline) throw new Error(`not all is committed: ${JSON.stringify({ group, ends })}`);
    }
  } finally {
    await admin.disconnect();
  }
}

/** Places (partition/offset) of all dead letters, as often as they are there. */
async function deadLetterPlaces(): Promise<string[]> {
  const places: string[] = [];
  await readTopic(config.TOPIC_PURCHASES_DLQ, (_, { headers }) => {
    const header = (name: string) => String(headers?.[`remit-source-${name}`]);
    places.push(`${header('partition')}/${header('offset')}`);
  });
  return places;
}

it('loses nothing and stores nothing twice while ingest, ClickHouse and Kafka are killed and consumers come and go', async () => {
  await join();
  const producing = produceAll();
  let going = true;
  void producing.finally(() => (going = false));
  let faults = 0;
  for (let i = 0; going || i < FAULTS.length; i++) {
    const [name, cause] = FAULTS[i % FAULTS.length]!;
    await sleep(2_000);
    say(name);
    await cause();
    faults += 1;
  }
  const bad = await producing;
  const inTopic = await untilAllCommitted();
  const clickhouse = createClickHouse(config);
  const query = async <T>(text: string): Promise<T[]> =>
    (await clickhouse.query({ query: text, format: 'JSONEachRow' })).json<T>();
  const [counts] = await query<Record<string, string>>(
    `SELECT (SELECT count() FROM purchases) AS plain, (SELECT count() FROM purchases_once) AS once,
            (SELECT uniqExact(kafkaPartition, kafkaOffset) FROM purchases) AS places,
            (SELECT sum(purchases) FROM revenue_daily) AS revenue,
            (SELECT sum(rows) FROM ingest_lag) AS lag`,
  );
  const stored = await query<{ place: string }>(
    `SELECT concat(toString(kafkaPartition), '/', toString(kafkaOffset)) AS place FROM purchases`,
  );
  await clickhouse.close();
  const dead = await deadLetterPlaces();
  const deadOnce = new Set(dead);

  const table = new Table({ head: ['after', 'messages'], style: { head: [], border: [] } });
  table.push(
    ['faults', faults],
    ['produced (in the topic)', inTopic],
    ['plain count()', counts!['plain']!],
    ['count() of purchases_once (FINAL)', counts!['once']!],
    ['distinct rows stored', counts!['places']!],
    ['dead letters, distinct (of them all)', `${deadOnce.size} (${dead.length})`],
    ['stored + dead-lettered', Number(counts!['places']) + deadOnce.size],
    ['sum of revenue_daily', counts!['revenue']!],
    ['sum of ingest_lag', counts!['lag']!],
  );
  process.stderr.write(`${table.toString()}\n`);
  noteResult(
    `ingest: ${faults} faults, ${inTopic} messages, ${Number(counts!['places'])} stored and ${deadOnce.size} dead letters`,
  );

  // What the producer repeated, if it had to restart, counts as it lies in the topic.
  const badPlaces = new Set<string>();
  let goodInTopic = 0;
  await readTopic(config.TOPIC_PURCHASES, (partition, { key, offset }) => {
    if (bad.has(key!.toString())) badPlaces.add(`${partition}/${offset}`);
    else goodInTopic += 1;
  });
  expect(goodInTopic + badPlaces.size).toBe(inTopic);
  expect([...deadOnce].sort()).toEqual([...badPlaces].sort());
  expect(stored.filter(({ place }) => deadOnce.has(place))).toEqual([]);
  const numbers = Object.fromEntries(Object.entries(counts!).map(([name, n]) => [name, Number(n)]));
  const distinct = MESSAGES - bad.size;
  expect(numbers).toMatchObject({ once: distinct, revenue: goodInTopic, lag: goodInTopic });
  // Only events that the producer repeated may have been merged already.
  for (const counted of [numbers['plain']!, numbers['places']!]) {
    expect(counted).toBeGreaterThanOrEqual(distinct);
    expect(counted).toBeLessThanOrEqual(goodInTopic);
  }
}, 900_000);
