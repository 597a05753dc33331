import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { createClient, ClickHouseError, ClickHouseLogLevel, type ClickHouseClient } from '@clickhouse/client';
import { startEmbeddedStack, type EmbeddedStack } from '../../../src/embedded/stack';

const QUIET = { log: { level: ClickHouseLogLevel.OFF } };
const dataDir = mkdtempSync(path.join(tmpdir(), 'remit-clickhouse-test-'));
let stack: EmbeddedStack;
let client: ClickHouseClient;

beforeAll(async () => {
  stack = await startEmbeddedStack({
    dataDir,
    outside: {},
    parts: ['clickhouse'],
    ports: 'free',
    searchAttributes: {},
    report: () => undefined,
  });
  client = createClient({ ...QUIET, url: stack.endpoints.clickhouse, database: 'default' });
});

afterAll(async () => {
  await client?.close();
  await stack?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

let tables = 0;
async function table(columns: string, rest = 'ENGINE = MergeTree ORDER BY tuple()'): Promise<string> {
  const name = `t${++tables}`;
  await client.command({ query: `CREATE TABLE ${name} (${columns}) ${rest}` });
  return name;
}

async function rows<T = Record<string, unknown>>(query: string, from = client): Promise<T[]> {
  return (await from.query({ query, format: 'JSONEachRow' })).json<T>();
}

async function count(name: string): Promise<number> {
  const [row] = await rows<{ n: number }>(`SELECT count() AS n FROM ${name}`);
  return row?.n ?? -1;
}

const bytes = (...parts: (string | Buffer)[]): Readable =>
  Readable.from(
    parts.map((part) => Buffer.from(part)),
    { objectMode: false },
  );

async function execInsert(
  query: string,
  body: Readable,
  settings: Record<string, string | number> = {},
): Promise<void> {
  const { stream } = await client.exec({ query, values: body, clickhouse_settings: settings });
  for await (const _ of stream) void _;
}

describe('the official client', () => {
  it('pings, by path and by SELECT', async () => {
    expect((await client.ping()).success).toBe(true);
    expect((await client.ping({ select: true })).success).toBe(true);
  });

  it('runs commands, inserts objects and queries them', async () => {
    const name = await table('id UInt64, text String');
    const { summary } = await client.insert({
      table: name,
      values: [
        { id: 1, text: 'один' },
        { id: 2, text: "it's; a \\ `test`" },
      ],
      format: 'JSONEachRow',
    });
    expect(summary?.written_rows).toBe('2');
    expect(await rows(`SELECT * FROM ${name} ORDER BY id`)).toEqual([
      { id: 1, text: 'один' },
      { id: 2, text: "it's; a \\ `test`" },
    ]);
  });

  it('streams inserts of objects and columns in an order of their own', async () => {
    const name = await table('id UInt32, text String');
    const stream = Readable.from(Array.from({ length: 5_000 }, (_, id) => ({ text: `row ${id}`, id })));
    await client.insert({ table: name, values: stream, format: 'JSONEachRow', columns: ['text', 'id'] });
    expect(await rows(`SELECT count() AS n, sum(id) AS s FROM ${name}`)).toEqual([{ n: 5000, s: 12497500 }]);
  });

  it('inserts and reads with gzip in both directions', async () => {
    const zipped = createClient({
      ...QUIET,
      url: stack.endpoints.clickhouse,
      compression: { request: true, response: true },
    });
    try {
      const name = await table('id UInt32, text String');
      const values = Array.from({ length: 2_000 }, (_, id) => ({ id, text: 'x'.repeat(100) }));
      await zipped.insert({ table: name, values, format: 'JSONEachRow' });
      expect(await rows(`SELECT * FROM ${name} ORDER BY id`, zipped)).toEqual(values);
    } finally {
      await zipped.close();
    }
  });

  it('binds query parameters of every kind', async () => {
    const values = {
      text: 'a\'b\\n\t\n"{}',
      number: 42,
      list: ['x', "y'"],
      day: '2026-01-02',
      none: null,
      flag: true,
    };
    const result = await client.query({
      query:
        'SELECT {text:String} AS text, {number:UInt32} AS number, {list:Array(String)} AS list, {day:Date} AS day, {none:Nullable(String)} AS none, {flag:Bool} AS flag',
      query_params: values,
      format: 'JSONEachRow',
    });
    expect(await result.json()).toEqual([values]);
  });

  it('binds parameters of parallel queries without mixing them up', async () => {
    const answers = await Promise.all(
      Array.from({ length: 64 }, async (_, n) => {
        const result = await client.query({
          query: 'SELECT {n:UInt32} AS n',
          query_params: { n },
          format: 'JSONEachRow',
        });
        return (await result.json<{ n: number }>())[0]?.n;
      }),
    );
    expect(answers).toEqual(Array.from({ length: 64 }, (_, n) => n));
  });

  it('takes long parameters as a multipart form', async () => {
    const multipart = createClient({ ...QUIET, url: stack.endpoints.clickhouse, use_multipart_params: true });
    try {
      const text = 'я'.repeat(20_000);
      const result = await multipart.query({
        query: 'SELECT {text:String} AS text',
        query_params: { text },
        format: 'JSONEachRow',
      });
      expect(await result.json()).toEqual([{ text }]);
    } finally {
      await multipart.close();
    }
  });

  it('uses the database of the client', async () => {
    await client.command({ query: 'CREATE DATABASE IF NOT EXISTS other' });
    const other = createClient({ ...QUIET, url: stack.endpoints.clickhouse, database: 'other' });
    try {
      await other.command({ query: 'CREATE TABLE here (a UInt8) ENGINE = Memory' });
      expect(await rows('SELECT currentDatabase() AS d', other)).toEqual([{ d: 'other' }]);
      expect(await rows('SELECT currentDatabase() AS d')).toEqual([{ d: 'default' }]);
      expect(await rows("SELECT database FROM system.tables WHERE name = 'here'")).toEqual([
        { database: 'other' },
      ]);
    } finally {
      await other.close();
    }
  });

  it('runs requests in parallel', async () => {
    const startedAt = Date.now();
    await Promise.all([1, 2, 3, 4].map(() => rows('SELECT sleep(3)')));
    // One after the other they would take twelve.
    expect(Date.now() - startedAt).toBeLessThan(11_000);
  });
});

describe('settings', () => {
  it('apply to their own request and never to the next', async () => {
    const withSetting = await client.query({
      query: "SELECT getSetting('max_result_rows') AS v",
      clickhouse_settings: { max_result_rows: '7' },
      format: 'JSONEachRow',
    });
    expect(await withSetting.json()).toEqual([{ v: 7 }]);
    expect(await rows("SELECT getSetting('max_result_rows') AS v")).toEqual([{ v: 0 }]);
    await client.command({ query: 'SET max_result_rows = 9' });
    expect(await rows("SELECT getSetting('max_result_rows') AS v")).toEqual([{ v: 0 }]);
  });

  it('deduplicate by a token only the insert that carries it', async () => {
    const name = await table(
      'a UInt32',
      'ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100',
    );
    const insert = (token?: string): Promise<unknown> =>
      client.insert({
        table: name,
        values: [{ a: 1 }],
        format: 'JSONEachRow',
        clickhouse_settings: {
          async_insert: 0,
          ...(token === undefined ? {} : { insert_deduplication_token: token }),
        },
      });
    await insert('topic:0:1-5');
    await insert('topic:0:1-5');
    expect(await count(name)).toBe(1);
    // With a leaked token these would be dropped without a word.
    await client.insert({ table: name, values: [{ a: 2 }], format: 'JSONEachRow' });
    await client.insert({ table: name, values: [{ a: 3 }], format: 'JSONEachRow' });
    expect(await count(name)).toBe(3);
  });

  it('that are unknown or wrong are refused', async () => {
    const unknown = client.query({
      query: 'SELECT 1',
      clickhouse_settings: { no_such_setting: '1' },
    });
    await expect(unknown).rejects.toMatchObject({ code: '115', type: 'UNKNOWN_SETTING' });
  });

  it('in the statement of an insert stay in force', async () => {
    const name = await table('a UInt32');
    await execInsert(
      `INSERT INTO ${name} SETTINGS input_format_allow_errors_num = 1, async_insert = 0 FORMAT JSONEachRow`,
      bytes('{"a":1}\n{"a":"bad"}\n{"a":2}\n'),
    );
    expect(await count(name)).toBe(2);
  });
});

describe('the data of an insert', () => {
  it('is never run as SQL, also after an empty line', async () => {
    const name = await table('a UInt64');
    await execInsert(
      `INSERT INTO ${name} FORMAT JSONEachRow`,
      bytes(`{"a":1}\n\nINSERT INTO ${name} VALUES (777)`),
    ).catch(() => undefined);
    const stored = await rows<{ a: number }>(`SELECT a FROM ${name}`);
    expect(stored.map(({ a }) => a)).not.toContain(777);
  });

  it('goes on after empty lines', async () => {
    const name = await table('a UInt64');
    await execInsert(`INSERT INTO ${name} FORMAT JSONEachRow`, bytes('{"a":1}\n\n', '\n\n{"a":2}\n\n'));
    expect(await count(name)).toBe(2);
  });

  it('may be binary: every byte of RowBinary arrives', async () => {
    const name = await table('a UInt32, s String');
    const total = 5_000;
    const parts: Buffer[] = [];
    for (let n = 0; n < total; n++) {
      const row = Buffer.alloc(4 + 1 + 4);
      row.writeUInt32LE(n * 0x0a0a + 0x0a0a0a0a, 0);
      row.writeUInt8(4, 4);
      row.writeUInt32BE(0x0a0a003b, 5);
      parts.push(row);
    }
    await execInsert(`INSERT INTO ${name} FORMAT RowBinary`, bytes(Buffer.concat(parts)), {
      async_insert: 0,
    });
    expect(await rows(`SELECT count() AS n, uniqExact(a) AS u, any(hex(s)) AS h FROM ${name}`)).toEqual([
      { n: 5000, u: 5000, h: '0A0A003B' },
    ]);
  });

  it('may stand in the statement, as VALUES or after FORMAT', async () => {
    const name = await table('a UInt64, s String');
    await client.command({ query: `INSERT INTO ${name} (a, s) VALUES (1, 'x;\n\ny'), (1 + 1, upper('z'));` });
    await client.command({
      query: `INSERT INTO ${name} FORMAT JSONEachRow\n{"a":3,"s":"SELECT 1; "}\n\n{"a":4}`,
    });
    await client.command({ query: `INSERT INTO ${name} SELECT number, 'n' FROM numbers(5, 2)` });
    expect(await rows(`SELECT a, s FROM ${name} ORDER BY a`)).toEqual([
      { a: 1, s: 'x;\n\ny' },
      { a: 2, s: 'Z' },
      { a: 3, s: 'SELECT 1; ' },
      { a: 4, s: '' },
      { a: 5, s: 'n' },
      { a: 6, s: 'n' },
    ]);
  });

  it('may be empty', async () => {
    const name = await table('a UInt64');
    await client.insert({ table: name, values: [], format: 'JSONEachRow' });
    await execInsert(`INSERT INTO ${name} FORMAT JSONEachRow`, bytes(''));
    expect(await count(name)).toBe(0);
  });

  it('that is bad names its row, 1-based, and stores nothing', async () => {
    const name = await table('a UInt32');
    const lines = Array.from({ length: 150_000 }, (_, n) => `{"a":${n}}`);
    lines[123_456] = '{"a":"oops"}';
    const failed = execInsert(`INSERT INTO ${name} FORMAT JSONEachRow`, bytes(lines.join('\n')), {
      async_insert: 0,
    });
    await expect(failed).rejects.toThrow(/\(at row 123457\)/);
    await expect(failed).rejects.toMatchObject({ code: '27' });
    await expect(failed).rejects.not.toThrow(/\/dev\/shm|remit-clickhouse-/);
    expect(await count(name)).toBe(0);
  });

  it('is inserted by parallel writers without a loss', async () => {
    const name = await table('a UInt32');
    await Promise.all(
      Array.from({ length: 20 }, (_, writer) => {
        const lines = Array.from({ length: 1_000 }, (_, n) => `{"a":${writer * 1_000 + n}}`).join('\n');
        return execInsert(`INSERT INTO ${name} FORMAT JSONEachRow`, bytes(lines), { async_insert: 0 });
      }),
    );
    expect(await rows(`SELECT count() AS n, uniqExact(a) AS u FROM ${name}`)).toEqual([
      { n: 20000, u: 20000 },
    ]);
  });

  it('is stored with the defaults of the server, under async_insert', async () => {
    const name = await table('a UInt32');
    await client.insert({ table: name, values: [{ a: 1 }], format: 'JSONEachRow' });
    expect(await count(name)).toBe(1);
  });
});

describe('errors', () => {
  it.each([
    ['SELEC 1', '62', 'SYNTAX_ERROR', 400],
    ['SELECT * FROM no_such_table', '60', 'UNKNOWN_TABLE', 404],
    ['SELECT nope', '47', 'UNKNOWN_IDENTIFIER', 404],
    ['SELECT 1; SELECT 2', '62', 'SYNTAX_ERROR', 400],
    ["SELECT throwIf(1, 'told')", '395', 'FUNCTION_THROW_IF_VALUE_IS_NON_ZERO', 500],
  ])('%s gives code %s', async (query, code, type, status) => {
    const failed = client.query({ query });
    await expect(failed).rejects.toBeInstanceOf(ClickHouseError);
    await expect(failed).rejects.toMatchObject({ code, type });
    const response = await fetch(stack.endpoints.clickhouse, { method: 'POST', body: query });
    expect(response.status).toBe(status);
    expect(response.headers.get('x-clickhouse-exception-code')).toBe(code);
    expect(await response.text()).toMatch(
      new RegExp(`^Code: ${code}\\. DB::Exception: .*\\(${type}\\) \\(version `, 's'),
    );
  });

  it('leave the connection usable', async () => {
    await expect(client.command({ query: 'DROP TABLE no_such_table' })).rejects.toThrow();
    expect(await rows('SELECT 1 AS a')).toEqual([{ a: 1 }]);
  });

  it('of an unknown database are told', async () => {
    const other = createClient({ ...QUIET, url: stack.endpoints.clickhouse, database: 'no_such_database' });
    await expect(other.query({ query: 'SELECT 1' })).rejects.toMatchObject({
      code: '81',
      type: 'UNKNOWN_DATABASE',
    });
    await other.close();
  });

  it('refuse wrong credentials, and missing ones where a password is set', async () => {
    const wrong = createClient({
      ...QUIET,
      url: stack.endpoints.clickhouse,
      username: 'default',
      password: 'wrong',
    });
    await expect(wrong.query({ query: 'SELECT 1' })).rejects.toMatchObject({
      code: '516',
      type: 'AUTHENTICATION_FAILED',
    });
    await wrong.close();
  });

  it('answer a session, which the engine lacks, with NOT_IMPLEMENTED', async () => {
    await expect(client.query({ query: 'SELECT 1', session_id: 'x' })).rejects.toMatchObject({ code: '48' });
  });

  it('keep GET from writing', async () => {
    const url = `${stack.endpoints.clickhouse}/?query=${encodeURIComponent('CREATE TABLE g (a UInt8) ENGINE = Memory')}`;
    expect((await fetch(url)).status).toBe(500);
    expect(await (await fetch(`${stack.endpoints.clickhouse}/?query=SELECT%201`)).text()).toBe('1\n');
  });
});

describe('a killed engine', () => {
  it('comes back on the same port with every row', async () => {
    const name = await table('a UInt32');
    for (let n = 0; n < 20; n++)
      await client.insert({ table: name, values: [{ a: n }], format: 'JSONEachRow' });
    await stack.kill('clickhouse');
    expect((await client.ping()).success).toBe(false);
    await stack.restart('clickhouse');
    expect(await count(name)).toBe(20);
  });
});
