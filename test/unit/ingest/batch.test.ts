import { Batch, rowHead } from '../../../src/bridges/ingest/batch';
import { ChunkPool } from '../../../src/bridges/ingest/chunks';
import { bytesOf, purchase, record } from './purchase';

const open = (first = 100, pool = new ChunkPool(0)) =>
  new Batch('purchases', 3, first, rowHead('purchases', 3), pool);
const lines = (batch: Batch) => Buffer.concat(batch.body()).toString();

describe('a batch', () => {
  it('puts the message’s place in front of its own bytes', () => {
    const batch = open();
    batch.append(record(100, null), Buffer.from('{"a": 1 }'));
    expect(lines(batch)).toBe(
      '{"kafkaTopic":"purchases","kafkaPartition":3,"kafkaOffset":100,"queuedAt":1763717855123,"a": 1 }\n',
    );
  });

  it('gives back every message byte for byte, over many chunks, gaps, null keys, headers and rewritten bytes', () => {
    const batch = open();
    const records = Array.from({ length: 1_500 }, (_, i) => {
      const value = bytesOf(purchase({ userId: `u${'x'.repeat(i % 60)}` }));
      return record(100 + i + Math.floor(i / 700) * 5, value, {
        ...(i % 7 === 0 ? { key: null } : {}),
        ...(i % 11 === 0 ? { headers: { a: Buffer.from(`h${i}`), list: ['x', Buffer.from('y')] } } : {}),
      });
    });
    const original = Buffer.from(' {"odd":\n"spacing"}');
    for (const each of records) batch.append(each, each.value!);
    batch.append(record(9_000, original), Buffer.from('{"odd":"spacing"}'), original);
    for (const [row, each] of records.entries()) {
      const message = batch.messageOf(row);
      expect(message.offset).toBe(each.offset);
      expect(message.value).toEqual(each.value);
      expect(message.key).toEqual(each.key);
      expect(message.headers).toEqual(each.headers ?? {});
      expect(message.timestampMs).toBe(1_763_717_855_123);
    }
    expect(batch.messageOf(1_500).value).toEqual(original);
    expect(lines(batch).trimEnd().split('\n')).toHaveLength(1_501);
  });

  it('leaves rejected rows out and keeps the numbers of the others', () => {
    const batch = open(0);
    for (let i = 0; i < 5; i++) batch.append(record(i, null), Buffer.from(`{"n":${i}}`));
    batch.reject(1, 'row_refused', 'no');
    batch.reject(4, 'row_refused', 'no');
    expect(batch.liveRows).toBe(3);
    expect(batch.liveRowNumbers()).toEqual([0, 2, 3]);
    expect(lines(batch).match(/"n":\d/g)).toEqual(['"n":0', '"n":2', '"n":3']);
    expect(batch.poison.map(({ message }) => message.value?.toString())).toEqual(['{"n":1}', '{"n":4}']);
  });

  it('gives its memory back, and takes it again', () => {
    const pool = new ChunkPool(10 * ChunkPool.CHUNK_BYTES);
    const batch = open(0, pool);
    const large = Buffer.from(`{"a":"${'x'.repeat(300_000)}"}`);
    batch.append(record(0, null), large);
    for (let i = 1; i < 2_000; i++) batch.append(record(i, null), bytesOf(purchase()));
    expect(batch.messageOf(0).value).toEqual(large);
    expect(pool.usedBytes).toBeGreaterThan(batch.bytes);
    batch.release();
    expect(pool.usedBytes).toBe(0);
  });
});
