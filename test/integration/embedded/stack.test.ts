import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createClient, ClickHouseLogLevel } from '@clickhouse/client';
import { Client as TemporalClient, Connection } from '@temporalio/client';
import { Kafka, logLevel, Partitioners } from 'kafkajs';
import { Client } from 'pg';
import { processIdentity } from '../../../src/platform/processes';
import { resetDataDir } from '../../../src/embedded/reset';
import {
  startEmbeddedStack,
  type EmbeddedOptions,
  type EmbeddedPart,
  type EmbeddedStack,
} from '../../../src/embedded/stack';
import { claimDataDir } from '../../../src/platform/data-dir';

const folder = mkdtempSync(path.join(tmpdir(), 'remit-stack-test-'));
const lines: string[] = [];
const options = (name: string, more: Partial<EmbeddedOptions> = {}): EmbeddedOptions => ({
  dataDir: path.join(folder, name),
  outside: {},
  ports: 'free',
  searchAttributes: { TestStatus: 'Keyword' },
  report: (line) => lines.push(line),
  ...more,
});

// A process that nobody has reaped yet still answers to signal 0: look at its state instead.
const isAlive = (pid: number): boolean => processIdentity(pid) !== undefined;

async function sql<T>(url: string, text: string): Promise<T[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows as T[];
  } finally {
    await client.end();
  }
}

const kafka = (brokers: string): Kafka =>
  new Kafka({ brokers: [brokers], logLevel: logLevel.NOTHING, retry: { retries: 1 } });

async function produce(brokers: string, topic: string, value: string): Promise<void> {
  const producer = kafka(brokers).producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  await producer.send({ topic, acks: -1, messages: [{ value }] });
  await producer.disconnect();
}

async function highWaterMark(brokers: string, topic: string): Promise<number> {
  const admin = kafka(brokers).admin();
  await admin.connect();
  try {
    return (await admin.fetchTopicOffsets(topic)).reduce((sum, { high }) => sum + Number(high), 0);
  } finally {
    await admin.disconnect();
  }
}

async function withTemporal<T>(address: string, work: (client: TemporalClient) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address });
  try {
    return await work(new TemporalClient({ connection }));
  } finally {
    await connection.close();
  }
}

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('a stack of all parts', () => {
  let stack: EmbeddedStack;

  beforeAll(async () => {
    stack = await startEmbeddedStack(options('all'));
  }, 300_000);
  afterAll(() => stack?.stop());

  it('keeps the password of PostgreSQL to its owner', async () => {
    expect(statSync(path.join(folder, 'all', 'postgres.password')).mode & 0o777).toBe(0o600);
    const wrong = new URL(stack.endpoints.postgres);
    wrong.password = 'wrong';
    await expect(sql(wrong.toString(), 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
  });

  it('runs PostgreSQL durably, with room for predicate locks', async () => {
    const shown = await sql<{ name: string; setting: string }>(
      stack.endpoints.postgres,
      "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'max_connections', 'max_pred_locks_per_transaction', 'server_version_num')",
    );
    const settings = Object.fromEntries(shown.map(({ name, setting }) => [name, setting]));
    expect(settings).toMatchObject({
      fsync: 'on',
      max_connections: '200',
      max_pred_locks_per_transaction: '256',
    });
    expect(Number(settings['server_version_num'])).toBeGreaterThanOrEqual(180_000);
  });

  it('lets Kafka create no topic by itself', async () => {
    await expect(highWaterMark(stack.endpoints.kafka, 'never-created')).rejects.toThrow();
  });

  it('serves the Temporal UI and registers search attributes', async () => {
    expect((await fetch(stack.endpoints.temporalUi)).status).toBe(200);
    await withTemporal(stack.endpoints.temporal, async (client) => {
      const { customAttributes } = await client.connection.operatorService.listSearchAttributes({
        namespace: 'default',
      });
      expect(Object.keys(customAttributes ?? {})).toContain('TestStatus');
    });
  });

  it('refuses a second stack on the same folder, naming who has it', async () => {
    await expect(startEmbeddedStack(options('all'))).rejects.toThrow(
      new RegExp(`in use by process ${process.pid}`),
    );
    await expect(resetDataDir(path.join(folder, 'all'))).rejects.toThrow(/in use by process/);
  });

  it('keeps what was written through a kill -9 of every part', async () => {
    const { postgres, kafka: brokers, temporal, clickhouse } = stack.endpoints;
    const admin = kafka(brokers).admin();
    await admin.connect();
    await admin.createTopics({ topics: [{ topic: 'kept', numPartitions: 2 }], waitForLeaders: true });
    await admin.disconnect();
    await sql(postgres, 'CREATE TABLE kept (a int); INSERT INTO kept SELECT generate_series(1, 100)');
    for (let n = 0; n < 10; n++) await produce(brokers, 'kept', `message ${n}`);
    await withTemporal(temporal, (client) =>
      client.workflow.start('neverRun', { workflowId: 'kept/1', taskQueue: 'nobody' }),
    );
    const ch = createClient({ url: clickhouse, log: { level: ClickHouseLogLevel.OFF } });
    await ch.command({ query: 'CREATE TABLE kept (a UInt32) ENGINE = MergeTree ORDER BY a' });
    await ch.insert({ table: 'kept', values: [{ a: 1 }, { a: 2 }], format: 'JSONEachRow' });

    const parts: EmbeddedPart[] = ['postgres', 'kafka', 'temporal', 'clickhouse'];
    await Promise.all(parts.map((part) => stack.kill(part)));
    expect(stack.processes).toEqual([]);
    await Promise.all(parts.map((part) => stack.restart(part)));

    expect(await sql(postgres, 'SELECT count(*)::int AS n FROM kept')).toEqual([{ n: 100 }]);
    expect(await highWaterMark(brokers, 'kept')).toBe(10);
    await produce(brokers, 'kept', 'after');
    expect(await highWaterMark(brokers, 'kept')).toBe(11);
    const description = await withTemporal(temporal, (client) =>
      client.workflow.getHandle('kept/1').describe(),
    );
    expect(description.status.name).toBe('RUNNING');
    const result = await ch.query({ query: 'SELECT sum(a) AS s FROM kept', format: 'JSONEachRow' });
    expect(await result.json()).toEqual([{ s: 3 }]);
    await ch.close();
  });

  it('tells when a part dies by itself, and not when it was killed on purpose', async () => {
    const seen: string[] = [];
    void stack.exited.then(({ part }) => seen.push(part));
    await stack.kill('clickhouse');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(seen).toEqual([]);
    await stack.restart('clickhouse');
    const pid = stack.processes.find(({ part }) => part === 'clickhouse')?.pid ?? 0;
    process.kill(pid, 'SIGKILL');
    expect(await stack.exited).toMatchObject({ part: 'clickhouse' });
    await stack.restart('clickhouse');
  });

  it('stops in bounded time, leaves no process, and may be stopped twice', async () => {
    const pids = stack.processes.map(({ pid }) => pid);
    expect(pids).toHaveLength(4);
    const startedAt = Date.now();
    await Promise.all([stack.stop(), stack.stop()]);
    expect(Date.now() - startedAt).toBeLessThan(90_000);
    expect(pids.filter(isAlive)).toEqual([]);
  });

  it('starts again on its data, with a search attribute that was added meanwhile', async () => {
    stack = await startEmbeddedStack(
      options('all', { searchAttributes: { TestStatus: 'Keyword', TestLater: 'Int' } }),
    );
    expect(await sql(stack.endpoints.postgres, 'SELECT count(*)::int AS n FROM kept')).toEqual([{ n: 100 }]);
    await withTemporal(stack.endpoints.temporal, async (client) => {
      const { customAttributes } = await client.connection.operatorService.listSearchAttributes({
        namespace: 'default',
      });
      expect(Object.keys(customAttributes ?? {})).toEqual(
        expect.arrayContaining(['TestStatus', 'TestLater']),
      );
    });
  });
});

describe('a stack whose process was killed', () => {
  it('leaves nothing that the next start, or a reset, does not clean up', async () => {
    const dataDir = path.join(folder, 'orphans');
    const pids = await startAndKill(dataDir);
    expect(pids).toHaveLength(2);
    expect(pids.filter(isAlive)).toEqual(pids);

    const before = lines.length;
    const stack = await startEmbeddedStack(options('orphans', { parts: ['postgres', 'clickhouse'] }));
    try {
      expect(pids.filter(isAlive)).toEqual([]);
      expect(lines.slice(before).filter((line) => line.includes('left over'))).toHaveLength(2);
      expect(await sql(stack.endpoints.postgres, 'SELECT 1 AS a')).toEqual([{ a: 1 }]);
    } finally {
      await stack.stop();
    }

    const again = await startAndKill(dataDir);
    await resetDataDir(dataDir);
    expect(again.filter(isAlive)).toEqual([]);
    expect(existsSync(dataDir)).toBe(false);
  });

  /** A process of its own starts PostgreSQL and ClickHouse and is killed with SIGKILL. */
  async function startAndKill(dataDir: string): Promise<number[]> {
    const code = `
      const { startEmbeddedStack } = require(${JSON.stringify(path.resolve(__dirname, '../../../src/embedded/stack.ts'))});
      const run = async () => {
        const stack = await startEmbeddedStack({ dataDir: ${JSON.stringify(dataDir)}, outside: {}, parts: ['postgres', 'clickhouse'],
          ports: 'free', searchAttributes: {}, report: () => undefined });
        console.log(JSON.stringify(stack.processes.map(({ pid }) => pid)));
      };
      void run();`;
    const child = spawn(process.execPath, ['--require', 'tsx/cjs', '--eval', code], {
      cwd: path.resolve(__dirname, '../../..'),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    const text = await new Promise<string>((resolve) => {
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes('\n')) resolve(output);
      });
      child.once('exit', () => resolve(output));
    });
    child.kill('SIGKILL');
    await ended;
    return JSON.parse(text) as number[];
  }
});

describe('ports and outside parts', () => {
  const listeners: Server[] = [];
  afterEach(() =>
    Promise.all(listeners.splice(0).map((server) => new Promise((done) => server.close(done)))),
  );

  const occupy = (port: number): Promise<void> =>
    new Promise((resolve) => {
      const server = createServer();
      // Somebody else has it already: as good.
      server.once('error', () => resolve());
      server.listen(port, '0.0.0.0', () => {
        listeners.push(server);
        resolve();
      });
    });

  it('takes a free port when the standard one is not', async () => {
    await occupy(8123);
    const stack = await startEmbeddedStack(options('ports', { ports: 'standard', parts: ['clickhouse'] }));
    try {
      const { port } = new URL(stack.endpoints.clickhouse);
      expect(port).not.toBe('8123');
      expect((await fetch(`${stack.endpoints.clickhouse}/ping`)).status).toBe(200);
    } finally {
      await stack.stop();
    }
  });

  it('starts no part that runs outside, and passes its address on', async () => {
    const outside = {
      postgres: 'postgresql://me@elsewhere/db',
      kafka: 'broker-1:9092,broker-2:9092',
      temporal: 'temporal.example:7233',
      clickhouse: 'http://clickhouse.example:8123',
    };
    const stack = await startEmbeddedStack(options('outside', { outside }));
    expect(stack.endpoints).toEqual({ ...outside, temporalUi: '' });
    expect(stack.processes).toEqual([]);
    await stack.stop();
  });

  it('explains a part that does not start, with the last lines of its log', async () => {
    const dataDir = claimDataDir(path.join(folder, 'broken'));
    mkdirSync(path.join(dataDir, 'clickhouse'));
    // A file where the engine wants a folder.
    execFileSync('touch', [path.join(dataDir, 'clickhouse', 'data')]);
    const failed = startEmbeddedStack(options('broken', { parts: ['clickhouse'] }));
    await expect(failed).rejects.toThrow(
      /embedded clickhouse did not start[\s\S]*last lines of[\s\S]*What to do:/,
    );
    expect(existsSync(path.join(dataDir, 'run', 'lock'))).toBe(false);
    expect(readFileSync(path.join(dataDir, 'logs', 'clickhouse.log'), 'utf8')).not.toBe('');
  });
});

describe('the ClickHouse part with a password and a small limit', () => {
  let stack: EmbeddedStack;
  const env = {
    CLICKHOUSE_USER: 'remit',
    CLICKHOUSE_PASSWORD: 'p:ä',
    REMIT_EMBEDDED_CLICKHOUSE_MAX_BODY_MB: '1',
  };

  beforeAll(async () => {
    Object.assign(process.env, env);
    stack = await startEmbeddedStack(options('secured', { parts: ['clickhouse'] }));
    for (const name of Object.keys(env)) delete process.env[name];
  });
  afterAll(() => stack?.stop());

  it('asks for the password and takes it', async () => {
    const missing = await fetch(stack.endpoints.clickhouse, { method: 'POST', body: 'SELECT 1' });
    expect(missing.status).toBe(401);
    expect(missing.headers.get('x-clickhouse-exception-code')).toBe('194');
    const wrong = await fetch(`${stack.endpoints.clickhouse}/?user=remit&password=no`, {
      method: 'POST',
      body: 'SELECT 1',
    });
    expect(wrong.status).toBe(403);
    const client = createClient({ url: stack.endpoints.clickhouse, username: 'remit', password: 'p:ä' });
    expect(await (await client.query({ query: 'SELECT 1 AS a', format: 'JSONEachRow' })).json()).toEqual([
      { a: 1 },
    ]);
    await client.close();
  });

  it('refuses a body past the limit with 413 and goes on', async () => {
    const url = `${stack.endpoints.clickhouse}/?user=remit&password=${encodeURIComponent('p:ä')}`;
    const post = (query: string, body: string): Promise<Response> =>
      fetch(`${url}&query=${encodeURIComponent(query)}`, { method: 'POST', body });
    expect((await post('CREATE TABLE b (a String) ENGINE = MergeTree ORDER BY a', '')).status).toBe(200);
    const tooLarge = await post('INSERT INTO b FORMAT JSONEachRow', `{"a":"${'x'.repeat(3_000_000)}"}`);
    expect(tooLarge.status).toBe(413);
    expect(await tooLarge.text()).toContain('TOO_MANY_BYTES');
    expect((await post('INSERT INTO b FORMAT JSONEachRow', '{"a":"small"}')).status).toBe(200);
    expect(await (await post('SELECT count() FROM b', '')).text()).toBe('1\n');
  });
});
