import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Connection } from '@temporalio/client';
import { Webhook } from 'standardwebhooks';
import { PublishedEvent } from '../../src/contracts/events';
import { SubscriptionCreated } from '../../src/contracts/subscriptions';
import { TASK_QUEUES, WORKFLOWS } from '../../src/contracts/workflows';
import { loadConfig } from '../../src/platform/config';
import { migrateClickHouse } from '../../src/platform/clickhouse-migrations';
import { PROJECT_ROOT } from '../../src/platform/project';
import { connectTemporal } from '../../src/platform/temporal';
import { startApi } from '../../src/roles/api';
import { startBridge } from '../../src/roles/bridge';
import { startRelay } from '../../src/roles/relay';
import { mintToken } from '../../src/operations/token';
import { startWorker } from '../../src/roles/worker';
import { signedHeaders } from '../support/callers';
import {
  createTestSpace,
  eventually,
  freePort,
  openTestDatabase,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../support/harness';
import { subscriber } from '../support/subscriber';

const LONG_MS = 60_000;
const CLI = path.join(PROJECT_ROOT, 'dist', 'cli.js');
const NEW_KEY = Buffer.alloc(32, 21).toString('base64');

let space: TestSpace;
let running: RunningRoles<{ url: string }>;
let dataDir: string;
let emptyDir: string;

const startRoles = (config = space.config) =>
  runRoles({ ...space, config }, async (context) => {
    const api = await startApi(context);
    await Promise.all([startBridge(context), startWorker(context), startRelay(context)]);
    return api;
  });

beforeAll(async () => {
  space = await createTestSpace({ topics: true, temporal: true });
  await migrateClickHouse(space.config, space.log);
  [dataDir, emptyDir] = await Promise.all([
    mkdtemp(path.join(os.tmpdir(), 'remit-cli-')),
    mkdtemp(path.join(os.tmpdir(), 'remit-cli-')),
  ]);
  running = await startRoles();
  await writeFile(path.join(dataDir, 'endpoints.json'), JSON.stringify({ api: running.started.url }));
}, 180_000);

const children: ChildProcess[] = [];
afterAll(async () => {
  for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
  await running?.stop();
  await Promise.all([dataDir, emptyDir].map((folder) => rm(folder, { recursive: true, force: true })));
}, 60_000);

interface Command {
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** The exit code, when it has ended and everything it said was read. */
  ended: Promise<number | null>;
}

function run(file: string, args: string[], env: NodeJS.ProcessEnv): Command {
  const child = spawn(file, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return { child, stdout: () => stdout, stderr: () => stderr, ended };
}

const environment = (extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  ...space.env,
  REMIT_DATA_DIR: dataDir,
  ...extra,
});
const remit = (args: string[], extra: NodeJS.ProcessEnv = {}) =>
  run(process.execPath, [CLI, ...args], environment(extra));
/** A machine on which nothing of remit was ever started and no variable is set. */
const stranger = (args: string[], extra: NodeJS.ProcessEnv = {}) =>
  run(process.execPath, [CLI, ...args], { PATH: process.env['PATH'], REMIT_DATA_DIR: emptyDir, ...extra });

async function call(method: string, route: string, body?: unknown, headers: Record<string, string> = {}) {
  const token = await mintToken(space.config, { subject: 'app', scopes: ['admin'], expiresInS: 600 });
  const response = await fetch(`${running.started.url}/api/v1${route}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}
async function ok(method: string, route: string, body?: unknown): Promise<unknown> {
  const { status, text } = await call(method, route, body);
  expect({ status, text, ok: status < 300 }).toMatchObject({ ok: true });
  return JSON.parse(text);
}
const publish = async (data: object) =>
  PublishedEvent.parse(await ok('POST', '/events', { type: 'parcel.sent', data }));
const subscribe = async (url: string) =>
  SubscriptionCreated.parse(await ok('POST', '/subscriptions', { url, eventTypes: ['parcel.*'] }));

describe('remit listen', () => {
  it('subscribes, shows and hands on what comes, refuses what is not signed, and unsubscribes when it is stopped', async () => {
    await ok('POST', '/event-types', { name: 'parcel.sent' });
    const target = await subscriber((response) => {
      response.writeContinue();
      response.writeHead(202).end();
    });
    const command = remit(['listen', '--events', 'parcel.*', '--forward', `${target.url}/hooks`]);
    const [, url, id] = await eventually(() => {
      const found = /listening at (\S+) as (\S+) for/.exec(command.stdout());
      if (!found) throw new Error(`it said: ${command.stdout()}${command.stderr()}`);
      return found;
    }, LONG_MS);

    const published = await publish({ id: 'l-1', note: '\u001b[2J' });
    await eventually(() => expect(command.stdout()).toContain('answered 202'), LONG_MS);
    expect(command.stdout()).toMatch(new RegExp(`✓ ${published.id}  .*"l-1"`));
    expect(command.stdout()).not.toContain('\u001b');
    const [received] = target.received;
    expect(received).toMatchObject({ path: '/hooks', headers: { 'webhook-id': published.id } });
    expect(received!.headers['webhook-signature']).toMatch(/^v1,/);

    const forged = await fetch(url!, { method: 'POST', body: '{}', headers: { 'webhook-id': 'msg_x' } });
    expect(forged.status).toBe(401);
    await eventually(() => expect(command.stdout()).toContain('✗ msg_x'));
    expect(target.received).toHaveLength(1);

    command.child.kill('SIGINT');
    expect(await command.ended).toBe(0);
    expect(command.stdout()).toContain(`unsubscribed ${id}`);
    expect(command.stderr()).toBe('');
    expect((await call('GET', `/subscriptions/${id}`)).status).toBe(404);
    await target.close();
  });

  it('says what the API has against it', async () => {
    const command = remit(['listen', '--events', 'NO SUCH TYPE']);
    expect(await command.ended).toBe(1);
    expect(command.stderr()).toMatch(/answered 400: .*eventTypes/);
  });
});

describe('remit portal-link', () => {
  it('prints a link that opens the portal of a subscription, and ends it again', async () => {
    const { id: subscription } = await subscribe('https://example.com/hooks');
    const made = remit(['portal-link', subscription, '--brand-name', 'Acme', '--read-only']);
    expect(await made.ended).toBe(0);
    const [, code] = /\/portal#([\w-]{43})\n/.exec(made.stdout())!;
    const [, link] = /--revoke ([\w-]{36}) /.exec(made.stdout())!;
    const opened = await fetch(`${running.started.url}/portal/api/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ code }),
    });
    expect(opened.status).toBe(204);
    const cookie = opened.headers.get('set-cookie')!.split(';')[0]!;
    const state = async () =>
      (await (
        await fetch(`${running.started.url}/portal/api/session`, { headers: { cookie } })
      ).json()) as object;
    expect(await state()).toMatchObject({ session: { readOnly: true, brand: { name: 'Acme' } } });

    const ended = remit(['portal-link', '--revoke', link!]);
    expect(await ended.ended).toBe(0);
    expect(ended.stdout()).toContain('have ended');
    expect(await state()).toEqual({ session: null });
  });

  it('says how it is used, and what the API has against it', async () => {
    const help = stranger(['portal-link', '--help']);
    expect(await help.ended).toBe(0);
    expect(help.stdout()).toContain('--brand-color');
    const nobody = remit(['portal-link', 'sub_nobody']);
    expect(await nobody.ended).toBe(1);
    expect(nobody.stderr()).toMatch(/answered 404: .*sub_nobody/);
    const nothing = remit(['portal-link']);
    expect(await nothing.ended).toBe(1);
    expect(nothing.stderr()).toContain('either subscriptionIds or label');
  });
});

describe('examples/receiver', () => {
  const receiver = (env: NodeJS.ProcessEnv) =>
    run(process.execPath, [path.join(PROJECT_ROOT, 'examples/receiver/server.mjs')], {
      PATH: process.env['PATH'],
      ...env,
    });

  it('takes what remit sends once, and refuses a wrong signature and an old timestamp', async () => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}/hooks`;
    const { id: subscription, secret } = await subscribe(url);
    const example = receiver({ WEBHOOK_SECRET: secret, PORT: String(port) });
    await eventually(() => expect(example.stdout()).toContain('/hooks'), LONG_MS);
    const { id } = await publish({ id: 'r-1' });
    await eventually(() => expect(example.stdout()).toContain(`${id} parcel.sent`), LONG_MS);

    const send = async (webhookId: string, sentAt: Date, signedWith = secret) => {
      const body = JSON.stringify({ type: 'parcel.sent', timestamp: sentAt.toISOString(), data: {} });
      const response = await fetch(url, {
        method: 'POST',
        body,
        headers: {
          'content-type': 'application/json',
          ...signedHeaders(signedWith, body, webhookId, sentAt),
        },
      });
      return response.status;
    };
    // What remit sends again has the id of the first time, and another timestamp and signature.
    expect(await send(id, new Date())).toBe(204);
    expect(await send('msg_mine', new Date())).toBe(204);
    expect(await send('msg_mine', new Date())).toBe(204);
    expect(await send('msg_old', new Date(Date.now() - 3_600_000))).toBe(401);
    expect(await send('msg_forged', new Date(), `whsec_${Buffer.alloc(24, 1).toString('base64')}`)).toBe(401);
    expect((await fetch(url, { method: 'POST' })).status).toBe(401);
    await eventually(() => expect(example.stderr()).toContain('refused msg_forged'));
    const handled = example.stdout().match(/^(evt|msg)_\S+ parcel\.sent/gm);
    expect(handled).toEqual([`${id} parcel.sent`, 'msg_mine parcel.sent']);
    example.child.kill();
    await example.ended;
    await ok('POST', `/subscriptions/${subscription}/pause`);
  });

  it('does not start without a secret', async () => {
    const example = receiver({});
    expect(await example.ended).toBe(78);
    expect(example.stderr()).toContain('POST /api/v1/subscriptions');
  });
});

describe('a command that can not do what it was asked', () => {
  const dead = 'http://127.0.0.1:9';
  it.each<[string[], NodeJS.ProcessEnv, RegExp]>([
    [['dlq', 'ls'], {}, /npm start/],
    [['dlq', 'ls'], { KAFKA_BROKERS: '127.0.0.1:9' }, /Kafka at 127.0.0.1:9 does not answer/],
    [['listen'], {}, /npm start/],
    [['reencrypt'], {}, /npm start/],
    [['stats'], {}, /npm start/],
    [['stats'], { CLICKHOUSE_URL: dead }, /ClickHouse at 127.0.0.1:9 does not answer/],
    [['produce', '--count', '1'], {}, /npm start/],
    [['produce', '--count', '1'], { KAFKA_BROKERS: '127.0.0.1:9' }, /Kafka at 127.0.0.1:9 does not answer/],
    [['send', '--transaction', 'x', '--amount', '1'], {}, /npm start/],
    [['send', '--transaction', 'x', '--amount', '1', '--url', dead], {}, /does not answer/],
    [['token'], {}, /AUTH_JWT_SECRET/],
    [['dlq', 'show'], {}, /missing required argument 'topic'[\s\S]*--help/],
    [['stats', '--days', 'many'], {}, /a whole number is needed/],
    [['token', '--expires-s', '0'], {}, /at least 1 is needed/],
    [['rollout', 'ramp', '101'], {}, /a share from 0 to 100 is needed/],
    [['rollout', 'status'], {}, /npm start/],
    [['rollout', 'status'], { TEMPORAL_ADDRESS: '127.0.0.1:9' }, /no answer from 127.0.0.1:9 .*TEMPORAL_TLS/],
    [['replay', '--limit', '0'], {}, /at least 1 is needed/],
    [['backup', 'there', '--follow', '--every', '0'], {}, /at least 1 is needed/],
    [['backup', 'there', '--keep', '0'], {}, /at least 1 is needed/],
    [['backup', 'there', '--every', '24'], {}, /--every needs --follow/],
    [['restore', 'there', '--to', '2026-02-30T00:00:00Z'], {}, /a time with its zone is needed/],
    [['restore', 'there', '--to', '1Z'], {}, /a time with its zone is needed/],
  ])('%j with %j says what to do', async (args, env, hint) => {
    const command = stranger(args, env);
    expect(await command.ended).not.toBe(0);
    expect(command.stderr()).toMatch(hint);
    expect(command.stderr()).not.toMatch(/\n\s+at /);
  });

  it('names the dead-letter topics when asked for another', async () => {
    const command = remit(['dlq', 'show', 'nope']);
    expect(await command.ended).toBe(1);
    expect(command.stderr()).toContain(`${space.config.TOPIC_PURCHASES_DLQ}\n`);
  });

  it('says which migration is missing', async () => {
    const stats = remit(['stats'], { CLICKHOUSE_DATABASE: 'never_migrated' });
    expect(await stats.ended).toBe(1);
    expect(stats.stderr()).toContain('remit migrate');
    const produce = remit(['produce', '--count', '1', '--topic', `${space.name}.nowhere`]);
    expect(await produce.ended).toBe(1);
    expect(produce.stderr()).toContain('remit migrate');
    const unreadable = remit(['produce', '/no/such/file']);
    expect(await unreadable.ended).toBe(1);
    expect(unreadable.stderr()).toContain('/no/such/file is not readable');
  });

  it('produces all lines but those that are too long, names them, and fails', async () => {
    const file = path.join(dataDir, 'lines.txt');
    await writeFile(file, `one\r\n${'x'.repeat(1_100_000)}\nthree`);
    const produce = remit(['produce', file]);
    expect(await produce.ended).toBe(1);
    expect(produce.stdout()).toMatch(/^2 messages in/);
    expect(produce.stderr()).toContain(`${file}, line 2: 1100000 bytes`);
    expect(produce.stderr()).not.toMatch(/\n\s+at /);
  });
});

describe('remit dlq', () => {
  it('shows empty topics as empty, and deletes nothing without a yes', async () => {
    const ls = remit(['dlq', 'ls']);
    expect(await ls.ended).toBe(0);
    expect(ls.stdout()).toContain(space.config.TOPIC_WEBHOOK_DELIVERY_DLQ);
    const dlq = space.config.TOPIC_PURCHASES_DLQ;
    for (const args of [
      ['show', dlq],
      ['redrive', dlq],
      ['purge', dlq, '--all'],
    ]) {
      const command = remit(['dlq', ...args]);
      expect([args, await command.ended]).toEqual([args, 0]);
      expect(command.stdout()).toMatch(/nothing|0 redriven/);
    }
    const produced = remit(['produce', 'samples/purchases/evening.txt', '--topic', dlq]);
    expect({ code: await produced.ended, stderr: produced.stderr() }).toEqual({ code: 0, stderr: '' });
    const purge = remit(['dlq', 'purge', dlq, '--all']);
    expect(await purge.ended).toBe(1);
    expect(purge.stderr()).toMatch(/Delete \d+ messages .* were not redriven.*--yes/);
    const sure = remit(['dlq', 'purge', dlq, '--all', '--yes']);
    expect(await sure.ended).toBe(0);
    expect(sure.stdout()).toMatch(/^\d+ deleted/);
  });
});

describe('remit replay', () => {
  const ONE = "WorkflowId = 'replayed-by-hand'";
  beforeAll(async () => {
    const temporal = await connectTemporal(space.config);
    try {
      const start = { workflowId: 'replayed-by-hand', taskQueue: TASK_QUEUES.payments, args: [] };
      await temporal.workflow.execute(WORKFLOWS.expiry, start);
      await temporal.workflow.start('goneWorkflow', { ...start, workflowId: 'of-a-type-that-is-gone' });
    } finally {
      await (temporal.connection as Connection).close();
    }
  }, LONG_MS);
  const replay = async (query: string, env: NodeJS.ProcessEnv = {}) => {
    const command = remit(['replay', '--json', '--query', query], env);
    const code = await command.ended;
    return { code, report: JSON.parse(command.stdout() || 'null') as unknown, stderr: command.stderr() };
  };

  it('replays what a query names', async () => {
    await eventually(async () => {
      const { code, report } = await replay(ONE);
      expect({ code, report }).toMatchObject({ code: 0, report: { passed: 1, failed: [], unreadable: [] } });
    }, LONG_MS);
  });

  it('tells what it can not read from what does not fit, in one JSON document', async () => {
    expect(await replay(ONE, { ENCRYPTION_KEY: NEW_KEY })).toMatchObject({
      code: 1,
      report: {
        passed: 0,
        failed: [],
        unreadable: [{ reason: expect.stringContaining('ENCRYPTION_KEYS_OLD') as string }],
      },
      stderr: '',
    });
  });

  it('finds a workflow whose type the code has no more', async () => {
    await eventually(async () => {
      const { code, report } = await replay("WorkflowType = 'goneWorkflow'");
      expect({ code, report }).toMatchObject({
        code: 1,
        report: { passed: 0, failed: [{ reason: 'the workflow code has no goneWorkflow' }] },
      });
    }, LONG_MS);
  });

  it('says what Temporal has against a query, and when there is no such namespace', async () => {
    const misspelt = await replay('WorkflowType = ');
    expect(misspelt).toMatchObject({ code: 1, report: null });
    expect(misspelt.stderr).toMatch(/invalid query/);
    const elsewhere = await replay(ONE, { TEMPORAL_NAMESPACE: 'nowhere' });
    expect(elsewhere).toMatchObject({ code: 1, report: null });
    expect(elsewhere.stderr).toMatch(/has no namespace nowhere: create it/);
    const nothing = remit(['replay', '--query', "WorkflowId = 'nothing'"]);
    expect(await nothing.ended).toBe(0);
    expect(nothing.stdout()).toContain('nothing was replayed');
  });
});

describe('output that nobody reads to its end', () => {
  it('ends a command quietly', async () => {
    const line = `"${process.execPath}" "${CLI}" stats | true`;
    const command = run('/bin/sh', ['-c', line], environment());
    expect(await command.ended).toBe(0);
    expect(command.stderr()).toBe('');
  });

  it('ends a command that runs until it is stopped, in its order', async () => {
    const command = remit(['listen', '--events', 'parcel.*']);
    await eventually(() => expect(command.stdout()).toContain('listening at'), LONG_MS);
    const [, id] = / as (\S+) for /.exec(command.stdout())!;
    command.child.stdout!.destroy();
    await publish({ id: 'e-1' });
    const [code] = (await once(command.child, 'exit')) as [number];
    expect({ code, stderr: command.stderr() }).toEqual({ code: 0, stderr: '' });
    expect((await call('GET', `/subscriptions/${id}`)).status).toBe(404);
  });
});

describe('remit reencrypt', () => {
  const OLD_KEY = () => space.env['ENCRYPTION_KEY']!;

  it('without the former key changes nothing and says which one is missing', async () => {
    const command = remit(['reencrypt'], { ENCRYPTION_KEY: NEW_KEY });
    expect(await command.ended).toBe(1);
    expect(command.stderr()).toContain('ENCRYPTION_KEYS_OLD');
  });

  it('brings everything to the new key, so that remit delivers and replays answers without the former one', async () => {
    const server = await subscriber((response) => void response.writeHead(204).end());
    const { id: subscription, secret } = SubscriptionCreated.parse(
      await ok('POST', '/subscriptions', {
        url: server.url,
        eventTypes: ['parcel.*'],
        headers: { 'X-Team': 'billing' },
      }),
    );
    // A rotation leaves two secrets that are valid.
    await ok('POST', `/subscriptions/${subscription}/rotate-secret`);
    const order = () => call('POST', '/event-types', { name: 'parcel.lost' }, { 'idempotency-key': 'once' });
    const first = await order();
    expect(first.status).toBe(201);

    const rotate = remit(['reencrypt'], { ENCRYPTION_KEY: NEW_KEY, ENCRYPTION_KEYS_OLD: OLD_KEY() });
    expect({ code: await rotate.ended, stderr: rotate.stderr() }).toEqual({ code: 0, stderr: '' });
    expect(rotate.stdout()).toMatch(/[1-9]\d* of their secrets re-encrypted/);
    const again = remit(['reencrypt'], { ENCRYPTION_KEY: NEW_KEY });
    expect(await again.ended).toBe(0);
    expect(again.stdout()).toMatch(/, 0 of their secrets re-encrypted\n0 kept answers/);

    await running.stop();
    running = await startRoles(loadConfig({ ...space.env, ENCRYPTION_KEY: NEW_KEY }, []));
    const { id } = await publish({ id: 'k-1' });
    await eventually(() => expect(server.received).toHaveLength(1), LONG_MS);
    const [{ headers, body }] = server.received as [(typeof server.received)[number]];
    expect(headers).toMatchObject({ 'webhook-id': id, 'x-team': 'billing' });
    // The secret of before the rotation, which still signs beside the new one.
    expect(() => new Webhook(secret).verify(body, headers as Record<string, string>)).not.toThrow();
    const replayed = await order();
    expect(replayed).toMatchObject({ status: 201, text: first.text });
    expect(replayed.headers.get('idempotency-replayed')).toBe('true');
    const db = openTestDatabase(space);
    expect(await db.prisma.subscription.count({ where: { id: subscription } })).toBe(1);
    await db.close();
    await server.close();
  }, 120_000);
});
