import { Batch, rowHead } from '../../../src/bridges/ingest/batch';
import { ChunkPool } from '../../../src/bridges/ingest/chunks';
import { bytesOf, purchase, record } from './purchase';

const open = (first = 100, pool = new ChunkPool(0)) =>
  new Batch('purchases', 'log', 3, first, rowHead('purchases', 3), pool);
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

  it('is charged for all that it keeps of a message, and for nothing once it is released', () => {
    const pool = new ChunkPool(0);
    const kept = (add: (batch: Batch) => void) => {
      const batch = open(0, pool);
      add(batch);
      const bytes = pool.usedBytes;
      batch.release();
      expect(pool.usedBytes).toBe(0);
      return bytes;
    };
    const headers = { trace: Buffer.alloc(500), list: [Buffer.alloc(100), 'y'.repeat(100)] };
    const chunks = 2 * ChunkPool.CHUNK_BYTES;
    const bare = kept((batch) => batch.append(record(0, null), Buffer.from('{"n":1}')));
    expect(bare).toBeGreaterThan(chunks);
    const withHeaders = kept((batch) => batch.append(record(0, null, { headers }), Buffer.from('{"n":1}')));
    expect(withHeaders - bare).toBeGreaterThan(700);
    const original = Buffer.alloc(5_000);
    const rewritten = kept((batch) => batch.append(record(0, null), Buffer.from('{"n":1}'), original));
    expect(rewritten - bare).toBeGreaterThan(5_000);
    const empty = { key: null, headers: {} };
    expect(kept((batch) => batch.addPoison(record(0, null, empty), 'invalid_json', 'x'))).toBeGreaterThan(
      500,
    );
    const large = kept((batch) => batch.addPoison(record(0, original, { headers }), 'invalid_json', 'x'));
    expect(large).toBeGreaterThan(5_700);
    const long = kept((batch) => batch.addPoison(record(0, null), 'invalid_message', 'x'.repeat(100_000)));
    expect(long).toBeLessThan(10_000);
  });

  it('is no longer charged for what is in the dead letter queue', () => {
    const pool = new ChunkPool(0);
    const batch = open(0, pool);
    for (let i = 0; i < 10; i++) batch.addPoison(record(i, Buffer.alloc(1_000)), 'invalid_json', 'no');
    const before = pool.usedBytes;
    batch.forget(new Set(batch.poison.slice(0, 5)));
    expect(pool.usedBytes).toBe(before / 2);
    expect(batch.poison).toHaveLength(5);
    batch.forget(new Set(batch.poison));
    expect(pool.usedBytes).toBe(0);
  });
});
