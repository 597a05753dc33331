import { gzipSync } from 'node:zlib';
import Encoder from 'kafkajs/src/protocol/encoder';
import { compress } from 'snappyjs';
import { readFetchAnswer } from '../../../src/platform/fetch-response';
import type { FetchedRecord } from '../../../src/platform/record-batch';
import { craftBatch, recordsOf, type CraftedBatch } from '../../support/record-batches';

/** An answer that brings these bytes of one partition. */
function answer(topic: string, set: Buffer, highWatermark: number): Buffer {
  const encoder = new Encoder();
  encoder.writeInt32(0).writeInt16(0).writeInt32(0);
  encoder.writeInt32(1).writeString(topic);
  encoder.writeInt32(1).writeInt32(0).writeInt16(0);
  for (const offset of [highWatermark, highWatermark, 0]) encoder.writeInt64(offset);
  return encoder.writeInt32(0).writeInt32(-1).writeBytes(set).buffer;
}

let partitions = 0;

/** Fetches as a consumer does, from where it stands, until it stands at the end or does not move any more. */
async function consume(
  setOf: (look: number, position: number) => Buffer,
  highWatermark: number,
  from = 0,
): Promise<FetchedRecord[]> {
  const records: FetchedRecord[] = [];
  // What was suspected is remembered by topic, partition and offset: each case is a topic of its own.
  const topic = `topic-${(partitions += 1)}`;
  let position = from;
  for (let look = 0, still = 0; position < highWatermark && still < 3; look += 1) {
    const payload = answer(topic, setOf(look, position), highWatermark);
    const asked = { topics: [{ topic, partitions: [{ partition: 0, fetchOffset: String(position) }] }] };
    const { responses } = await readFetchAnswer(payload, asked);
    const found = responses[0]!.partitions[0]!.messages;
    for (const record of found) if (Number(record.offset) >= position) records.push(record);
    const next = Number(found.at(-1)?.offset ?? position - 1) + 1;
    still = next > position ? 0 : still + 1;
    position = Math.max(position, next);
  }
  expect(position).toBe(highWatermark);
  return records;
}

/** What a broker sends from this offset on: batches from the one that holds it. */
async function log(batches: CraftedBatch[]): Promise<(from?: number) => Buffer> {
  const made = await Promise.all(batches.map(async (batch) => ({ batch, bytes: await craftBatch(batch) })));
  return (from = 0) =>
    Buffer.concat(
      made
        .filter(({ batch }) => batch.baseOffset + (batch.lastOffsetDelta ?? batch.count - 1) >= from)
        .map(({ bytes }) => bytes),
    );
}

const sound = (baseOffset: number, count = 3): CraftedBatch => ({
  baseOffset,
  count,
  body: recordsOf(Array.from({ length: count }, (_, n) => `value ${baseOffset + n}`)),
});

/** As a broker does that goes by its index: from the batch that holds the offset on, whatever stands in it. */
const fromBatchOfThree = (set: Buffer, batches: number) => (_look: number, position: number) =>
  set.subarray(Math.floor(position / 3) * (set.length / batches));

const described = (records: FetchedRecord[]) =>
  records
    .filter(({ isControlRecord }) => !isControlRecord)
    .map(({ offset, value, unreadable }) =>
      unreadable ? `${unreadable.firstOffset}-${unreadable.lastOffset}` : `${offset} ${String(value)}`,
    );

describe('an answer to a fetch', () => {
  it('is read batch by batch; one that is cut off at its end is fetched again', async () => {
    const all = (await log([sound(0), sound(3), sound(6)]))();
    const first = await consume((look) => (look === 0 ? all.subarray(0, all.length - 5) : all), 9);
    expect(described(first)).toEqual(Array.from({ length: 9 }, (_, n) => `${n} value ${n}`));
  });

  it('that was damaged on its way is fetched once more before anything is given up', async () => {
    const all = (await log([sound(0), sound(3)]))();
    const damaged = Buffer.from(all);
    damaged[70]! ^= 1;
    const records = await consume((look) => (look === 0 ? damaged : all), 6);
    expect(described(records)).toEqual(Array.from({ length: 6 }, (_, n) => `${n} value ${n}`));
  });

  it.each([
    ['a length that is less than nothing', 8, 0xff],
    ['a length beyond the end', 8, 0x7f],
    ['a version that does not exist', 16, 9],
    ['a version that is another format', 16, 1],
    ['offsets that lie behind the end', 2, 9],
  ])('with a batch that has %s goes on with the next that is sound', async (_what, at, byte) => {
    const damaged = (await log([sound(0), sound(3)]))();
    damaged[at] = byte;
    expect(described(await consume(fromBatchOfThree(damaged, 2), 6))).toEqual([
      '0-2',
      '3 value 3',
      '4 value 4',
      '5 value 5',
    ]);
  });

  it('of which nothing can be believed is passed over offset by offset', async () => {
    const noise = Buffer.alloc(400, 0x5a);
    expect(described(await consume(() => noise, 3))).toEqual(['0-0', '1-1', '2-2']);
  });

  it('is read to its end whatever single byte of it is wrong, and no record says what was not written', async () => {
    const whole = (await log([sound(0), sound(3), sound(6)]))();
    const written = new Set(Array.from({ length: 9 }, (_, n) => `${n} value ${n}`));
    for (let at = 0; at < whole.length; at += 1) {
      // The first offset of a batch is in no checksum: within bounds, a wrong one can't be told from a right one.
      if (at % (whole.length / 3) < 8) continue;
      const damaged = Buffer.from(whole);
      damaged[at]! ^= 1 << (at % 8);
      const records = described(await consume(fromBatchOfThree(damaged, 3), 9));
      for (const record of records) if (record.includes('value')) expect(written).toContain(record);
    }
  });
});

describe('compressed batches', () => {
  const values = Array.from({ length: 50 }, (_, n) => `value ${n} ${'x'.repeat(n)}`);
  const body = recordsOf(values);
  const texts = values.map((value, n) => `${n} ${value}`);

  it('are read as librdkafka writes snappy: one block without a frame', async () => {
    const of = await log([{ baseOffset: 0, count: 50, body: compress(body), attributes: 2 }]);
    expect(described(await consume(() => of(), 50))).toEqual(texts);
  });

  it.each([
    ['gzip', 1],
    ['snappy', 2],
    ['lz4', 3],
    ['zstd', 4],
  ])('that are not %s although they say so are unreadable', async (_name, attributes) => {
    for (const wrong of [body, Buffer.from([1]), Buffer.alloc(200, 0xff)]) {
      const of = await log([{ baseOffset: 0, count: 50, body: wrong, attributes }, sound(50)]);
      expect(described(await consume(() => of(), 53))).toEqual([
        '0-49',
        '50 value 50',
        '51 value 51',
        '52 value 52',
      ]);
    }
  });

  it('that would become more than is allowed are never held', async () => {
    const xerial = Buffer.concat([
      Buffer.from('82534e41505059000000000100000001', 'hex'),
      Buffer.from([0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ]);
    const lz4 = Buffer.concat([
      Buffer.from('04224d18407000', 'hex'),
      ...Array.from({ length: 40 }, () => {
        // One literal, then a match of 4 MiB.
        const block = Buffer.concat([
          Buffer.from([0x1f, 65, 1, 0]),
          Buffer.alloc(16_448, 0xff),
          Buffer.from([0]),
        ]);
        const size = Buffer.alloc(4);
        size.writeUInt32LE(block.length);
        return Buffer.concat([size, block]);
      }),
      Buffer.alloc(4),
    ]);
    const zstdWindow = Buffer.from('28b52ffd00ff0100000000', 'hex');
    const bombs = [
      [gzipSync(Buffer.alloc(68_000_000)), 1],
      [xerial, 2],
      [lz4, 3],
      [zstdWindow, 4],
    ] as const;
    for (const [bomb, attributes] of bombs) {
      const of = await log([{ baseOffset: 0, count: 1, body: bomb, attributes }, sound(1, 1)]);
      const records = await consume(() => of(), 2);
      expect(described(records)).toEqual(['0-0', '1 value 1']);
      expect(records[0]!.unreadable!.reason).toMatch(
        /more than 67108864 bytes come out of it|not lz4|no lz4/,
      );
    }
  });
});

it('a batch of very many records comes in parts, each record once', async () => {
  const count = 260_000;
  const body = recordsOf(Array.from({ length: count }, () => ''));
  const of = await log([{ baseOffset: 10, count, body: gzipSync(body, { level: 1 }), attributes: 1 }]);
  const records = await consume(() => of(), 10 + count, 15);
  expect(records).toHaveLength(count - 5);
  expect(records[0]!.offset).toBe('15');
  expect(records.at(-1)!.offset).toBe(String(10 + count - 1));
});
