import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { ClickHouseError } from '@clickhouse/client';
import { Batch, rowHead } from '../../../src/bridges/ingest/batch';
import { Abandoned, BatchWriter } from '../../../src/bridges/ingest/batch-writer';
import { ChunkPool } from '../../../src/bridges/ingest/chunks';
import { checkedPurchases, trustedObjects, type RowFormat } from '../../../src/bridges/ingest/row-format';
import { loadConfig } from '../../../src/platform/config';
import { createLogger } from '../../../src/platform/logging';
import type { OutgoingMessage } from '../../../src/platform/kafka';
import { bytesOf, purchase, record } from './purchase';

/** A table behind the port of the client: deduplicates by token as ClickHouse does, and refuses as it is told to. */
class PlayedClickHouse {
  readonly stored: string[] = [];
  readonly tokens: string[] = [];
  inserts = 0;

  constructor(private readonly refuse: (rows: string[], attempt: number) => Error | undefined) {}

  async exec(params: { values: Readable; clickhouse_settings: Record<string, unknown> }) {
    const rows = (await text(params.values)).trimEnd().split('\n');
    this.inserts += 1;
    const error = this.refuse(rows, this.inserts);
    if (error) throw error;
    const token = String(params.clickhouse_settings['insert_deduplication_token']);
    if (!this.tokens.includes(token))
      this.stored.push(...rows.map((row) => /"n":"?(\w+)/.exec(row)?.[1] ?? row));
    this.tokens.push(token);
    return { stream: Readable.from([]), query_id: '', response_headers: {} };
  }
}

const dataError = (message: string) =>
  new ClickHouseError({ message, code: '27', type: 'CANNOT_PARSE_INPUT' });

function setUp(
  refuse: (rows: string[], attempt: number) => Error | undefined,
  options: { format?: RowFormat; env?: Record<string, string> } = {},
) {
  const clickhouse = new PlayedClickHouse(refuse);
  const dead: OutgoingMessage[] = [];
  const stopping = new AbortController();
  const config = loadConfig({ INGEST_RETRY_BASE_MS: '1', INGEST_RETRY_CAP_MS: '5', ...options.env }, []);
  const format = options.format ?? checkedPurchases;
  const writer = new BatchWriter({
    clickhouse: clickhouse as never,
    producer: { send: (message) => Promise.resolve(void dead.push(message)) },
    config,
    log: createLogger({ LOG_LEVEL: 'silent', NODE_ENV: 'test' }, 'test'),
    table: 'purchases',
    format,
    strictFormat: checkedPurchases,
    stopping: stopping.signal,
  });
  return { clickhouse, dead, stopping, writer };
}

function batchOf(values: Buffer[]): Batch {
  const batch = new Batch('purchases', 0, 10, rowHead('purchases', 0), new ChunkPool(0));
  for (const [i, value] of values.entries()) batch.append(record(10 + i, value), value);
  batch.last = 9 + values.length;
  return batch;
}
const numbered = (count: number) =>
  batchOf(Array.from({ length: count }, (_, i) => Buffer.from(`{"n":${i}}`)));
const offsets = (dead: OutgoingMessage[]) =>
  dead.map(({ headers }) => Number(headers?.['remit-source-offset']) - 10);

describe('the batch writer', () => {
  it('takes out the row that the error names, and stores its neighbours under the token of the whole', async () => {
    const { clickhouse, dead, writer } = setUp((rows) => {
      const bad = rows.findIndex((row) => /"n":(3|7)}/.test(row));
      return bad < 0 ? undefined : dataError(`Cannot parse input: (at row ${bad + 1})`);
    });
    await writer.store(numbered(10));
    expect(clickhouse.stored).toEqual(['0', '1', '2', '4', '5', '6', '8', '9']);
    expect(clickhouse.tokens).toEqual(['purchases:0:10-19']);
    expect(offsets(dead)).toEqual([3, 7]);
    expect(dead[0]).toMatchObject({
      topic: 'purchases.dlq',
      value: Buffer.from('{"n":3}'),
      key: Buffer.from('key-13'),
    });
    expect(dead[0]!.headers).toMatchObject({ 'remit-error-code': 'row_refused' });
  });

  it('finds bad rows by halves when the error names none', async () => {
    const { clickhouse, dead, writer } = setUp((rows) =>
      rows.some((row) => /"n":(0|13|14)}/.test(row)) ? dataError('Cannot parse input') : undefined,
    );
    await writer.store(numbered(20));
    expect(clickhouse.stored.map(Number).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 20 }, (_, i) => i).filter((i) => ![0, 13, 14].includes(i)),
    );
    expect(offsets(dead).sort((a, b) => a - b)).toEqual([0, 13, 14]);
  });

  it('stores halves once, also when it is interrupted and does it all again', async () => {
    const { clickhouse, writer } = setUp((rows) =>
      rows.some((row) => row.includes('"n":5}')) ? dataError('Cannot parse input') : undefined,
    );
    await writer.store(numbered(12));
    await writer.store(numbered(12));
    expect(clickhouse.stored).toHaveLength(11);
  });

  it('waits for a ClickHouse that is down or full, and dead-letters nothing', async () => {
    const { clickhouse, dead, writer } = setUp((_, attempt) => {
      if (attempt === 1) return Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
      if (attempt === 2)
        return new ClickHouseError({ message: 'Too many parts', code: '252', type: 'TOO_MANY_PARTS' });
      if (attempt === 3)
        return new ClickHouseError({ message: 'No space left', code: '243', type: 'NOT_ENOUGH_SPACE' });
      return undefined;
    });
    await writer.store(numbered(3));
    expect(clickhouse.stored).toEqual(['0', '1', '2']);
    expect(dead).toEqual([]);
  });

  it('waits, too, when row after row is refused: then the table is at fault', async () => {
    let mended = false;
    const { clickhouse, dead, writer } = setUp(
      () => (mended ? undefined : dataError('Unknown field (at row 1)')),
      {
        env: { INGEST_REFUSED_ROWS_MAX: '3' },
      },
    );
    const storing = writer.store(numbered(50));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(dead.length).toBeLessThanOrEqual(3);
    mended = true;
    await storing;
    expect(offsets(dead)).toEqual([0, 1, 2]);
    expect(clickhouse.stored).toHaveLength(47);
  });

  it('looks at the whole batch once a trusted producer was wrong', async () => {
    const values = [
      purchase(),
      purchase({ amount: '0' }),
      purchase(),
      purchase({ currency: 'QQQ' }),
      purchase(),
    ];
    const { clickhouse, dead, writer } = setUp(
      (rows) => (rows.length === 5 ? dataError('violated (at row 2)') : undefined),
      { format: trustedObjects(checkedPurchases, 60_000) },
    );
    await writer.store(batchOf(values.map(bytesOf)));
    expect(clickhouse.inserts).toBe(2);
    expect(clickhouse.stored).toHaveLength(3);
    expect(dead.map(({ headers }) => headers?.['remit-error-code'])).toEqual([
      'amount_invalid',
      'invalid_message',
    ]);
  });

  it('gives up at the first failure once the process stops', async () => {
    const { stopping, writer } = setUp(() => new Error('down'));
    stopping.abort();
    await expect(writer.store(numbered(3))).rejects.toThrow(Abandoned);
  });
});
