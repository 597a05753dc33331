import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { ClickHouseError } from '@clickhouse/client';
import { Batch, rowHead } from '../../../src/bridges/ingest/batch';
import { Abandoned, BatchWriter } from '../../../src/bridges/ingest/batch-writer';
import { ChunkPool } from '../../../src/bridges/ingest/chunks';
import { BatchInserts } from '../../../src/bridges/ingest/inserts';
import { checkedPurchases, trustedPurchases, type RowFormat } from '../../../src/bridges/ingest/row-format';
import { PURCHASES_TABLE } from '../../../src/bridges/ingest/tables';
import { testConfig } from '../../support/test-config';
import { createLogger } from '../../../src/platform/logging';
import type { OutgoingMessage } from '../../../src/platform/kafka';
import { bytesOf, purchase, record } from './purchase';

/** A table behind the port of the client: deduplicates by token as ClickHouse does, and refuses as it is told to. */
class PlayedClickHouse {
  readonly stored: string[] = [];
  readonly tokens: string[] = [];
  inserts = 0;

  constructor(
    private readonly refuse: (rows: string[], attempt: number) => Error | undefined,
    private readonly refuseAnywhere: (rows: string[]) => Error | undefined,
  ) {}

  async exec(params: { query: string; values: Readable; clickhouse_settings: Record<string, unknown> }) {
    const rows = (await text(params.values)).trimEnd().split('\n');
    const answer = { stream: Readable.from([]), query_id: '', response_headers: {} };
    const bad = this.refuseAnywhere(rows);
    if (bad) throw bad;
    if (params.query.startsWith('INSERT INTO FUNCTION null(')) return answer;
    this.inserts += 1;
    const error = this.refuse(rows, this.inserts);
    if (error) throw error;
    const token = String(params.clickhouse_settings['insert_deduplication_token']);
    if (!this.tokens.includes(token))
      this.stored.push(...rows.map((row) => /"n":"?(\w+)/.exec(row)?.[1] ?? row));
    this.tokens.push(token);
    return answer;
  }
}

const error = (code: number, type: string, message: string) =>
  new ClickHouseError({ message, code: String(code), type });
const unreadable = (row: number) =>
  error(27, 'CANNOT_PARSE_INPUT_ASSERTION_FAILED', `Cannot parse input: (at row ${row})`);

function setUp(
  refuse: (rows: string[], attempt: number) => Error | undefined,
  options: { format?: RowFormat; anywhere?: (rows: string[]) => Error | undefined } = {},
) {
  const clickhouse = new PlayedClickHouse(refuse, options.anywhere ?? (() => undefined));
  const dead: OutgoingMessage[] = [];
  const stopping = new AbortController();
  const { config } = testConfig({ INGEST_RETRY_BASE_MS: '1', INGEST_RETRY_CAP_MS: '5' });
  const format = options.format ?? checkedPurchases;
  const writer = new BatchWriter({
    inserts: new BatchInserts(clickhouse as never, PURCHASES_TABLE),
    producer: { send: (message) => Promise.resolve(void dead.push(message)) },
    config,
    log: createLogger({ LOG_LEVEL: 'silent', NODE_ENV: 'test' }, 'test'),
    format,
    strictFormat: checkedPurchases,
    stopping: stopping.signal,
  });
  return { clickhouse, dead, stopping, writer };
}

function batchOf(values: Buffer[]): Batch {
  const batch = new Batch('purchases', 'log', 0, 10, rowHead('purchases', 0), new ChunkPool(0));
  for (const [i, value] of values.entries()) batch.append(record(10 + i, value), value);
  batch.last = 9 + values.length;
  return batch;
}
const numbered = (count: number) =>
  batchOf(Array.from({ length: count }, (_, i) => Buffer.from(`{"n":${i}}`)));
const offsets = (dead: OutgoingMessage[]) =>
  dead.map(({ headers }) => Number(headers?.['remit-source-offset']) - 10);

describe('the batch writer', () => {
  it('dead-letters a row that ClickHouse can not read wherever it goes, and stores its neighbours under one token', async () => {
    const { clickhouse, dead, writer } = setUp(() => undefined, {
      anywhere: (rows) => {
        const bad = rows.findIndex((row) => /"n":(3|7)}/.test(row));
        return bad < 0 ? undefined : unreadable(bad + 1);
      },
    });
    await writer.store(numbered(10));
    expect(clickhouse.stored).toEqual(['0', '1', '2', '4', '5', '6', '8', '9']);
    expect(clickhouse.tokens).toEqual(['log:0:10-19']);
    expect(offsets(dead)).toEqual([3, 7]);
    expect(dead[0]).toMatchObject({
      topic: 'purchases.dlq',
      value: Buffer.from('{"n":3}'),
      key: Buffer.from('key-13'),
    });
    expect(dead[0]!.headers).toMatchObject({ 'remit-error-code': 'row_refused' });
  });

  it.each([
    ['is down', Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })],
    ['has too many parts', error(252, 'TOO_MANY_PARTS', 'Too many parts')],
    ['is full', error(243, 'NOT_ENOUGH_SPACE', 'No space left')],
    ['is read-only', error(242, 'TABLE_IS_READ_ONLY', 'Table is in readonly mode')],
    ['is out of quota', error(201, 'QUOTA_EXCEEDED', 'Quota exceeded')],
    ['is out of memory', error(241, 'MEMORY_LIMIT_EXCEEDED', 'Memory limit exceeded (at row 3)')],
    ['has lost the table', error(60, 'UNKNOWN_TABLE', 'Table does not exist')],
    ['has lost a column', error(16, 'NO_SUCH_COLUMN_IN_TABLE', 'No such column')],
    ['answers with a code that is not known', error(9_999, 'NEW', 'new (at row 1)')],
    ['names no row', error(27, 'CANNOT_PARSE_INPUT_ASSERTION_FAILED', 'Cannot parse input')],
    [
      'has a view that throws',
      error(6, 'CANNOT_PARSE_TEXT', "Cannot parse 'x' as UInt8: (at row 1): while pushing to view d.v"),
    ],
    [
      'has a view into a table with a constraint',
      error(469, 'VIOLATED_CONSTRAINT', 'for table d.t is violated at row 1: while pushing to view d.v'),
    ],
    [
      'has a constraint of somebody else',
      error(469, 'VIOLATED_CONSTRAINT', 'Constraint `c` for table d.purchases is violated at row 2.'),
    ],
    ['has a column of another type', unreadable(1)],
    ['has an unknown field', error(117, 'INCORRECT_DATA', 'Unknown field found: processedAt: (at row 1)')],
  ])('waits for a ClickHouse that %s, says so, and dead-letters nothing', async (_, said) => {
    let mended = false;
    const { clickhouse, dead, writer } = setUp(() => (mended ? undefined : said));
    await expect(writer.check()).resolves.toBeUndefined();
    const storing = writer.store(numbered(3));
    await new Promise((resolve) => setTimeout(resolve, 30));
    await expect(writer.check()).rejects.toThrow(/^1 batches wait: /);
    mended = true;
    await storing;
    await expect(writer.check()).resolves.toBeUndefined();
    expect(clickhouse.stored).toEqual(['0', '1', '2']);
    expect(clickhouse.tokens).toEqual(['log:0:10-12']);
    expect(dead).toEqual([]);
  });

  it('waits, too, when ClickHouse reads row after row otherwise than the schema', async () => {
    let mended = false;
    const { clickhouse, dead, writer } = setUp(() => undefined, {
      anywhere: () => (mended ? undefined : unreadable(1)),
    });
    const storing = writer.store(numbered(500));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(dead).toEqual([]);
    mended = true;
    await storing;
    expect(offsets(dead).length).toBeLessThanOrEqual(100);
    expect(clickhouse.stored.length + dead.length).toBe(500);
  });

  it('looks at the whole batch once a trusted producer was wrong', async () => {
    const values = [
      purchase(),
      purchase({ amount: '0' }),
      purchase(),
      purchase({ currency: 'QQQ' }),
      purchase(),
    ];
    const { clickhouse, dead, writer } = setUp((rows) => (rows.length === 5 ? unreadable(2) : undefined), {
      format: trustedPurchases(60_000),
    });
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
