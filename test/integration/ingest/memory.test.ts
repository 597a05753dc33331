import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigResourceTypes } from 'kafkajs';
import { createKafka } from '../../../src/platform/kafka';
import { eventually, freePort } from '../../support/harness';
import { startRole } from '../../support/processes';
import {
  count,
  createIngestSpace,
  goodPurchase,
  produce,
  progress,
  PURCHASES_GROUP,
  untilCommitted,
} from './support';

const LIMIT = 16 * 1_048_576;
const BAD = 60_000;
/** Of the process: so that what is left to the collector does not look like what is kept. Without a bound it would not do. */
const HEAP_MB = 130;
const GOOD = 100;
const RSS_MAX = 400 * 1_048_576;

async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) * 1_024;
}

it('bad messages count as memory: while their queue is away partitions pause, and later all of them are in it', async () => {
  const space = await createIngestSpace({
    INGEST_IN_FLIGHT_BYTES: String(LIMIT),
    KAFKA_PRODUCE_TIMEOUT_MS: '1000',
  });
  const headers = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`h${i}`, String(i)]));
  const kinds = [
    { value: '{"id":"abc}', headers },
    { value: null, headers },
    { value: '', headers },
    { value: '{"userId":7}', key: 'k', headers },
  ];
  const bad = Array.from({ length: BAD }, (_, i) => kinds[i % kinds.length]!);
  const good = Array.from({ length: GOOD }, () => ({ value: JSON.stringify(goodPurchase()) }));
  const topic = space.config.TOPIC_PURCHASES;
  const admin = createKafka(space.config, space.log).admin();
  await admin.connect();
  const takeMessages = (maxBytes: number) =>
    admin.alterConfigs({
      validateOnly: false,
      resources: [
        {
          type: ConfigResourceTypes.TOPIC,
          name: space.config.TOPIC_PURCHASES_DLQ,
          configEntries: [{ name: 'max.message.bytes', value: String(maxBytes) }],
        },
      ],
    });
  await takeMessages(1);
  const port = await freePort();
  const role = await startRole(
    ['ingest'],
    { ...space.env, NODE_OPTIONS: `--max-old-space-size=${HEAP_MB}` },
    port,
    'fatal',
  );
  const dlq = space.config.TOPIC_PURCHASES_DLQ;
  try {
    const metric = async (name: string) => {
      const shown = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      return Number(new RegExp(`^${name}{topic="${topic}"} (\\S+)`, 'm').exec(shown)?.[1] ?? 0);
    };
    await produce(space, topic, [...bad, ...good]);
    await eventually(async () => expect(await metric('remit_ingest_paused_partitions')).toBeGreaterThan(0));
    const held: number[] = [];
    for (let i = 0; i < 10; i++, await sleep(300)) held.push(await metric('remit_ingest_in_flight_bytes'));
    expect(Math.min(...held)).toBeGreaterThan(LIMIT / 2);
    // One message, and one chunk, may go over it.
    expect(Math.max(...held)).toBeLessThan(LIMIT + 1_048_576);
    expect(await residentBytes(role.process.pid!)).toBeLessThan(RSS_MAX);
    expect((await progress(space, topic, PURCHASES_GROUP)).committed).toBe(0);
    await takeMessages(1_048_576);
    // A minute alone; several where other tests have the processors.
    await untilCommitted(space, 300_000);
    const ends = await admin.fetchTopicOffsets(dlq);
    // At least once: a request whose answer was late is sent again.
    expect(ends.reduce((sum, { high }) => sum + Number(high), 0)).toBeGreaterThanOrEqual(BAD);
    expect(await count(space)).toBe(GOOD);
    await eventually(async () => expect(await metric('remit_ingest_in_flight_bytes')).toBe(0));
    expect(await residentBytes(role.process.pid!)).toBeLessThan(RSS_MAX);
  } finally {
    await admin.disconnect();
    await role.stop();
    await space.clickhouse.close();
  }
}, 420_000);
