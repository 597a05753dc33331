import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import type { KafkaMessage } from 'kafkajs';
import { startEmbeddedStack, type EmbeddedStack } from '../../../src/embedded/stack';
import { createKafka } from '../../../src/platform/kafka';
import { rangesOf, readTopic, withAdmin } from '../../../src/platform/topic-reader';
import { eventually } from '../../support/harness';
import { craftBatch, recordsOf } from '../../support/record-batches';
import {
  count,
  createIngestSpace,
  goodPurchase,
  produce,
  progress,
  readAll,
  rows,
  startIngestRole,
  type IngestSpace,
} from '../ingest/support';
import { headerTexts, StreamBench, type Stream } from './streams';

/**
 * A broker checks what it is sent, so what can't be read is written into the log of a broker of this file's own while
 * that is stopped: it hands out what lies there.
 */
const folder = mkdtempSync(path.join(tmpdir(), 'remit-unreadable-'));
const start = () =>
  startEmbeddedStack({
    dataDir: folder,
    parts: ['kafka'],
    outside: {},
    ports: 'free',
    searchAttributes: {},
    report: () => undefined,
  });

const logOf = (topic: string) => path.join(folder, 'kafka', `${topic}-0`, '00000000000000000000.log');

/** What is written behind the offsets 0 to 4; the offsets 15, 16 and 24 are sound. */
async function damage(good: () => string): Promise<Buffer> {
  const sound = recordsOf([good(), good()]);
  const bomb = gzipSync(Buffer.alloc(1_073_741_824));
  return Buffer.concat([
    await craftBatch({ baseOffset: 5, body: recordsOf([good(), good(), good()]), count: 3, attributes: 6 }),
    await craftBatch({ baseOffset: 8, body: sound, count: 2, wrongChecksum: true }),
    await craftBatch({ baseOffset: 10, body: Buffer.from('no zstd at all'), count: 2, attributes: 4 }),
    await craftBatch({ baseOffset: 12, body: bomb, count: 1, attributes: 1 }),
    await craftBatch({ baseOffset: 13, body: sound, count: 2_000_000_000, lastOffsetDelta: 1 }),
    await craftBatch({ baseOffset: 15, body: sound, count: 2 }),
    // Ends in offsets that were compacted away, and is followed by one of which nothing is left.
    await craftBatch({ baseOffset: 17, body: recordsOf([good()]), count: 1, lastOffsetDelta: 4 }),
    await craftBatch({ baseOffset: 22, body: Buffer.alloc(0), count: 0, lastOffsetDelta: 1 }),
    await craftBatch({ baseOffset: 24, body: recordsOf([good()]), count: 1 }),
  ]);
}

const REASONS: Record<string, RegExp> = {
  '5-7': /no compression codec 6/,
  '8-9': /checksum \(CRC-32C\) does not fit/,
  '10-11': /no zstd frame/,
  '12-12': /more than 67108864 bytes come out of it/,
  '13-14': /2000000000 records can't be in \d+ bytes/,
};

function expectNamed(letters: readonly KafkaMessage[], topic: string): void {
  const found = letters.map(({ headers, value }) => ({ ...headerTexts(headers), bytes: value?.length }));
  const byRange = new Map(
    found.map((letter: Record<string, unknown>) => [
      `${String(letter['remit-source-offset'])}-${String(letter['remit-source-last-offset'])}`,
      letter,
    ]),
  );
  expect([...byRange.keys()].sort()).toEqual(Object.keys(REASONS).sort());
  for (const [range, reason] of Object.entries(REASONS)) {
    const letter = byRange.get(range)!;
    expect(letter).toMatchObject({
      'remit-source-topic': topic,
      'remit-source-partition': '0',
      'remit-error-code': 'unreadable_batch',
    });
    expect(letter['remit-error-message']).toMatch(reason);
    expect(letter['bytes']).toBeGreaterThan(60);
  }
}

let stack: EmbeddedStack;
let space: IngestSpace;
let bench: StreamBench;
let stream: Stream;

beforeAll(async () => {
  stack = await start();
  const env = { KAFKA_TOPIC_PARTITIONS: '1', KAFKA_BROKERS: stack.endpoints.kafka };
  const before = await StreamBench.open(env);
  stream = await before.stream(1);
  for (let n = 0; n < 5; n += 1) await stream.send([{ key: null, value: `sound ${n}` }]);
  await before.close();
  space = await createIngestSpace(env);
  await produce(
    space,
    space.config.TOPIC_PURCHASES,
    Array.from({ length: 5 }, () => ({ value: JSON.stringify(goodPurchase()) })),
  );
  await stack.stop();
  let written = 0;
  appendFileSync(logOf(stream.topic), await damage(() => `crafted ${(written += 1)}`));
  appendFileSync(logOf(space.config.TOPIC_PURCHASES), await damage(() => JSON.stringify(goodPurchase())));
  stack = await start();
  const brokers = stack.endpoints.kafka;
  space.config.KAFKA_BROKERS = [brokers];
  bench = await StreamBench.open({ KAFKA_BROKERS: brokers });
});
afterAll(async () => {
  await bench?.close();
  await space?.clickhouse.close();
  await stack?.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe('a batch that can’t be read', () => {
  it('becomes a dead letter of a bridge that names it, and the partition goes on behind it', async () => {
    const handled: string[] = [];
    const { topic, dlq } = stream;
    const member = await bench.consumer({ topic }, ({ offset }) => {
      handled.push(offset);
      return Promise.resolve();
    });
    await eventually(() => expect(handled).toContain('24'));
    expect(handled.sort((a, b) => Number(a) - Number(b))).toEqual([
      '0',
      '1',
      '2',
      '3',
      '4',
      '15',
      '16',
      '17',
      '24',
    ]);
    const letters = await bench.read(dlq, Object.keys(REASONS).length);
    expectNamed(letters, topic);
    await eventually(async () => expect(await bench.committed({ group: member.group, topic })).toEqual([25]));
    await expect(member.check()).resolves.toBeUndefined();
  });

  it('becomes a dead letter of the ingest that names it, and all purchases around it are stored', async () => {
    const { TOPIC_PURCHASES: topic, TOPIC_PURCHASES_DLQ: dlq } = space.config;
    const role = await startIngestRole(space);
    try {
      await eventually(async () => expect(await count(space)).toBe(9));
      const stored = await rows<{ at: string | number }>(
        space,
        'SELECT kafkaOffset AS at FROM purchases ORDER BY at',
      );
      expect(stored.map(({ at }) => Number(at))).toEqual([0, 1, 2, 3, 4, 15, 16, 17, 24]);
      expectNamed(await readAll(space, dlq, Object.keys(REASONS).length), topic);
      await eventually(async () =>
        expect(await progress(space, topic, 'ingest.purchases')).toMatchObject({ committed: 25, end: 25 }),
      );
    } finally {
      await role.stop();
    }
  });

  it('stands as one message in what the commands read of a topic', async () => {
    const kafka = createKafka(space.config, space.log);
    const ranges = await withAdmin(kafka, (admin) => rangesOf(admin, stream.topic));
    const read = await readTopic(kafka, {
      topic: stream.topic,
      ranges,
      limit: 100,
      groupPrefix: space.name,
    });
    expect(read.map(({ offset }) => Number(offset))).toEqual([
      0, 1, 2, 3, 4, 7, 9, 11, 12, 14, 15, 16, 17, 24,
    ]);
    const unreadable = read.filter(({ headers }) => headers['remit-error-code'] === 'unreadable_batch');
    expect(unreadable.map(({ offset }) => offset)).toEqual(['7', '9', '11', '12', '14']);
  });
});
