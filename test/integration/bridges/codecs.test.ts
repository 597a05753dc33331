import { readTopic, rangesOf } from '../../../src/platform/topic-reader';
import { eventually } from '../../support/harness';
import { produceForeign, type ForeignStream } from '../../support/foreign-producer';
import { StreamBench, type Stream } from './streams';

const CODECS = ['gzip', 'snappy', 'lz4', 'zstd'] as const;

let bench: StreamBench;
beforeAll(async () => {
  bench = await StreamBench.open({ KAFKA_MESSAGE_MAX_BYTES: '1048576' });
});
afterAll(() => bench?.close());

/** What a member of the stream's group is handed: key and value of each message, in the order of its arrival. */
async function consume(stream: Stream): Promise<{ key: string; value: string | null; by: string }[]> {
  const seen: { key: string; value: string | null; by: string }[] = [];
  await stream.member(({ key, value, headers }) => {
    seen.push({
      key: String(key),
      value: value === null ? null : value.toString(),
      by: String(headers['written-by']),
    });
    return Promise.resolve();
  });
  return seen;
}

const keysOf = (name: string, count: number) => Array.from({ length: count }, (_, n) => `${name}-${n}`);

/** Every message of a foreign stream, each once, with what it said. */
function expectWhole(
  seen: { key: string; value: string | null; by: string }[],
  { codec, count }: ForeignStream,
) {
  const mine = seen.filter(({ key }) => key.startsWith(`${codec}-`));
  expect(mine.map(({ key }) => key)).toEqual(keysOf(codec, count));
  for (const [n, { value, by }] of mine.entries()) {
    expect(by).toBe('java');
    if (n % 50 === 49) expect(value).toBeNull();
    else if (n % 51 === 50) expect(value).toBe('');
    else expect(JSON.parse(value!)).toMatchObject({ name: codec, n });
  }
}

describe('batches that Apache’s Java client compressed', () => {
  const COUNT = 1_500;

  it('are read, whatever the codec: of one topic each, and all of them in one topic, in their order', async () => {
    const streams = await Promise.all(CODECS.map(() => bench.stream(1)));
    const mixed = await bench.stream(1);
    const written = CODECS.map((codec, index): ForeignStream[] => [
      { topic: streams[index]!.topic, codec, count: COUNT, valueBytes: 700 },
      { topic: mixed.topic, codec, count: 200, valueBytes: 30 },
      { topic: mixed.topic, codec: 'none', count: 0, valueBytes: 0 },
    ]).flat();
    await produceForeign(bench.space.config.KAFKA_BROKERS, written);
    for (const [index, codec] of CODECS.entries()) {
      const seen = await consume(streams[index]!);
      await eventually(() => expect(seen).toHaveLength(COUNT));
      expectWhole(seen, { topic: streams[index]!.topic, codec, count: COUNT, valueBytes: 700 });
    }
    const seen = await consume(mixed);
    await eventually(() => expect(seen).toHaveLength(CODECS.length * 200));
    for (const codec of CODECS) expectWhole(seen, { topic: mixed.topic, codec, count: 200, valueBytes: 30 });
  });

  it('of a transaction are read when it was committed, not when it was aborted, and the offset passes its end', async () => {
    const stream = await bench.stream(1);
    await produceForeign(
      bench.space.config.KAFKA_BROKERS,
      CODECS.map((codec) => ({ topic: stream.topic, codec, count: 100, valueBytes: 100, mode: 'aborted' })),
    );
    const ranges = await bench.admin((admin) => rangesOf(admin, stream.topic));
    const read = await readTopic(bench.kafka, {
      topic: stream.topic,
      ranges,
      limit: 10_000,
      groupPrefix: bench.space.name,
    });
    const expected = CODECS.flatMap((codec) => keysOf(codec, 100));
    expect(read.map(({ key }) => String(key))).toEqual(expected);
    const seen = await consume(stream);
    await eventually(() => expect(seen).toHaveLength(400));
    expect(seen.map(({ key }) => key)).toEqual(expected);
    // The lag of a group that has read everything is none, although transactions end with a record of the broker's.
    await eventually(async () =>
      expect(await bench.committed(stream)).toEqual(ranges.map(({ high }) => Number(high))),
    );
  });
});

it.each(CODECS)('what a topic with compression.type=%s makes of plain messages is read', async (codec) => {
  const stream = await bench.stream(1);
  await bench.admin((admin) =>
    admin.alterConfigs({
      validateOnly: false,
      resources: [
        { type: 2, name: stream.topic, configEntries: [{ name: 'compression.type', value: codec }] },
      ],
    }),
  );
  const values = Array.from({ length: 500 }, (_, n) => `${codec} ${n} ${'x'.repeat(n)}`);
  await stream.send(values.map((value) => ({ key: value.slice(0, 8), value })));
  const seen = await consume(stream);
  await eventually(() => expect(seen).toHaveLength(values.length));
  expect(new Set(seen.map(({ value }) => value))).toEqual(new Set(values));
});
