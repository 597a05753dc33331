import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrateClickHouse } from '../../src/platform/clickhouse-migrations';
import { PROJECT_ROOT } from '../../src/platform/project';
import { createTestSpace, eventually, freePort, type TestSpace } from '../support/harness';
import { Proxy } from '../support/proxy';

interface Readiness {
  ready: boolean;
  dependencies: Record<string, string>;
}

/** A role that is not waited for: what it logs, and what it says of itself. */
interface Started {
  process: ChildProcess;
  output(): string;
  readiness(): Promise<{ status: number; body: Readiness }>;
  /** Its exit code. */
  stop(): Promise<number | null>;
}

const started: Started[] = [];
let space: TestSpace;
/** Everything that remit needs, behind addresses where nobody answers until they are opened. */
const proxies: Record<'kafka' | 'temporal' | 'postgres' | 'clickhouse', Proxy> = {} as never;
let away: Record<string, string>;

beforeAll(async () => {
  space = await createTestSpace({ topics: true, temporal: true });
  await migrateClickHouse(space.config, space.log);
  const { DATABASE_URL, KAFKA_BROKERS, TEMPORAL_ADDRESS, CLICKHOUSE_URL } = space.env;
  const [database, clickhouse] = [new URL(DATABASE_URL!), new URL(CLICKHOUSE_URL!)];
  proxies.kafka = await Proxy.closed(KAFKA_BROKERS!);
  proxies.temporal = await Proxy.closed(TEMPORAL_ADDRESS!);
  proxies.postgres = await Proxy.closed(database.host);
  proxies.clickhouse = await Proxy.closed(clickhouse.host);
  database.host = proxies.postgres.address;
  clickhouse.host = proxies.clickhouse.address;
  away = {
    ...space.env,
    LOG_LEVEL: 'info',
    KAFKA_BROKERS: proxies.kafka.address,
    TEMPORAL_ADDRESS: proxies.temporal.address,
    DATABASE_URL: database.toString(),
    CLICKHOUSE_URL: clickhouse.toString(),
  };
});
afterEach(() => Promise.all(started.splice(0).map((each) => each.stop())));
afterAll(() => Promise.all(Object.values(proxies).map((proxy) => proxy.cut().catch(() => undefined))));

async function start(command: string[], env: NodeJS.ProcessEnv): Promise<Started> {
  const port = await freePort();
  const [file = '', ...args] = command;
  const child = spawn(file, args, {
    cwd: PROJECT_ROOT,
    env: { ...process.env, ...env, NODE_ENV: 'production', METRICS_PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const one: Started = {
    process: child,
    output: () => output,
    async readiness() {
      const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
      return { status: answer.status, body: (await answer.json()) as Readiness };
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const gone = once(child, 'exit');
      child.kill('SIGTERM');
      await gone;
      return child.exitCode;
    },
  };
  started.push(one);
  return one;
}

const role = (name: string, env: NodeJS.ProcessEnv) =>
  start([process.execPath, path.join(PROJECT_ROOT, 'dist', 'cli.js'), name], env);

it('every role that is started before its servers waits, says for what, and goes on when they are there', async () => {
  const names = ['api', 'bridge', 'worker', 'relay', 'ingest'];
  const roles = await Promise.all(names.map((name) => role(name, away)));
  const [api, bridge, worker, relay, ingest] = roles as [Started, Started, Started, Started, Started];
  for (const each of roles)
    await eventually(async () => expect((await each.readiness()).status).toBe(503), 60_000, 200);
  const kafka = new RegExp(`waiting for kafka: no answer from ${proxies.kafka.address} .*KAFKA_BROKERS`);
  const temporal = new RegExp(
    `waiting for temporal: no answer from ${proxies.temporal.address} .*TEMPORAL_ADDRESS`,
  );
  for (const each of [api, bridge, worker, ingest])
    await eventually(() => expect(each.output()).toMatch(kafka), 60_000);
  await eventually(() => expect(bridge.output()).toMatch(temporal), 60_000);
  // Between two tries it says `connecting`.
  await eventually(async () =>
    expect((await bridge.readiness()).body.dependencies).toMatchObject({
      bridge: 'starting',
      'kafka at the start': expect.stringContaining('no answer from') as string,
    }),
  );
  expect((await relay.readiness()).body.dependencies['postgres']).not.toBe('ok');

  // One after the other, as after a power failure: Temporal last.
  await proxies.kafka.restore();
  await eventually(() => expect(worker.output()).toMatch(temporal), 60_000);
  await proxies.postgres.restore();
  await proxies.clickhouse.restore();
  await sleep(1_000);
  await proxies.temporal.restore();
  for (const each of roles)
    await eventually(
      async () => expect((await each.readiness()).body).toMatchObject({ ready: true }),
      60_000,
      200,
    );
  expect(roles.map(({ process }) => process.exitCode)).toEqual(names.map(() => null));
  expect(await Promise.all(roles.map((each) => each.stop()))).toEqual(names.map(() => 0));
});

it('a namespace that is not there is said clearly, and a wait ends at once with SIGTERM', async () => {
  const nowhere = { ...space.env, LOG_LEVEL: 'info', TEMPORAL_NAMESPACE: 'mistyped' };
  const [worker, bridge] = await Promise.all([role('worker', nowhere), role('bridge', nowhere)]);
  for (const each of [worker, bridge])
    await eventually(
      () =>
        expect(each.output()).toMatch(/has no namespace mistyped: create it, or correct TEMPORAL_NAMESPACE/),
      60_000,
    );
  const stoppedAt = Date.now();
  expect(await Promise.all([worker.stop(), bridge.stop()])).toEqual([0, 0]);
  expect(Date.now() - stoppedAt).toBeLessThan(10_000);
});

it('a bridge waits for topics that nobody made yet', async () => {
  const bridge = await role('bridge', {
    ...space.env,
    LOG_LEVEL: 'info',
    KAFKA_TOPIC_PREFIX: 'not.made.yet.',
  });
  await eventually(
    () => expect(bridge.output()).toMatch(/there are no topics not\.made\.yet\.[^:]*: run `remit migrate`/),
    60_000,
  );
  expect(await bridge.stop()).toBe(0);
});

it('npm that is killed takes what it started with it, in order', async () => {
  const npm = await start(['npm', 'run', '-s', 'remit', '--', 'relay'], { ...space.env, LOG_LEVEL: 'info' });
  await eventually(async () => expect((await npm.readiness()).status).toBe(200), 120_000, 200);
  // Not by the group: what `npm start & kill $!` does.
  npm.process.kill('SIGTERM');
  await eventually(() => expect(npm.output()).toContain('shutting down'), 30_000);
  await eventually(async () => {
    await expect(npm.readiness()).rejects.toThrow();
  }, 30_000);
});
