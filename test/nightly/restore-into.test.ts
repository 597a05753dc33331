import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { stopOrphans } from '../../src/embedded/part-process';
import { postgresOwner, postgresProgram } from '../../src/embedded/postgres';
import { mintToken } from '../../src/operations/token';
import { claimDataDir } from '../../src/platform/data-dir';
import { createLogger } from '../../src/platform/logging';
import { openDatabase, type Database } from '../../src/platform/postgres';
import { insist, postJson, successWebhook } from '../support/callers';
import { eventually, freePort } from '../support/harness';
import { CURRENCY, inspectLedger, newTransaction, SOUND, userWith } from '../support/money';
import { noteResult } from '../support/nightly';
import { subscriber, type Subscriber } from '../support/subscriber';
import { countRows, unfinished } from '../support/unfinished';
import { LocalRemit } from './local-remit';
import { isMissing, postgresTools } from './tools';

/**
 * A machine is lost, and with it everything but the folder of `remit backup` and the secrets. PostgreSQL's own tools read that
 * folder; `remit restore --into` builds a data folder out of it; an ordinary PostgreSQL is started there, and a remit whose Kafka,
 * Temporal and ClickHouse are empty works on it (docs/backup.md, "Restored elsewhere").
 */
const native = postgresTools();
const run = promisify(execFile);

if (isMissing(native)) {
  noteResult(`SKIPPED: ${native.missing}`);
  it.skip(`a restored folder is started on: ${native.missing}`, () => undefined);
} else {
  const N = 10;
  const tool = (name: string, ...args: string[]) => run(path.join(native, 'bin', name), args);
  const first = new LocalRemit({ WEBHOOK_SCHEDULE_MS: '0,60000,60000,60000' });
  const backups = path.join(first.top, 'backups');
  const into = path.join(first.top, 'postgres');
  let second: LocalRemit | undefined;
  let server: ChildProcess | undefined;
  let accepts = true;
  const heard = new Map<string, number>();
  let told: Subscriber | undefined;

  afterAll(async () => {
    await told?.close();
    await second?.remove();
    server?.kill('SIGINT');
    if (server?.exitCode === null) await once(server, 'exit');
    await first.remove();
  }, 90_000);

  const call = async (
    remit: LocalRemit,
    route: string,
    body: unknown,
    headers: Record<string, string> = {},
  ) => {
    const token = await mintToken(remit.config, { subject: 'operator', scopes: ['admin'], expiresInS: 600 });
    const idempotencyKey = randomUUID();
    // A machine that does other things as well may answer that it is busy.
    await insist(
      () =>
        postJson(remit.endpoints.api + route, body, {
          authorization: `Bearer ${token}`,
          'idempotency-key': idempotencyKey,
          ...headers,
        }),
      [200, 201, 202],
    );
  };
  const times = <T>(make: () => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length: N }, make));
  const reported = async (remit: LocalRemit, { id }: { id: string }) => {
    const { status } = await successWebhook(remit.endpoints.api, remit.config, id);
    expect(status).toBe(202);
  };
  /** What is decided, and what waits. */
  const state = async (db: Database) => {
    const rows = async (sql: string) => (await db.pool.query(sql)).rows as Record<string, unknown>[];
    return {
      payments: await rows('SELECT id, status FROM payments ORDER BY id'),
      orders: await rows('SELECT id, status FROM orders ORDER BY id'),
      balances: await rows('SELECT id, balance_minor, held_minor FROM accounts ORDER BY id'),
      movements: await rows('SELECT kind, reference FROM journal_transactions ORDER BY reference'),
      deliveries: await rows('SELECT event_id, status FROM deliveries ORDER BY event_id'),
    };
  };
  const settled = (db: Database, payments: number, deliveries: number) =>
    eventually(
      async () =>
        expect(await unfinished(db)).toEqual({
          ...{ outbox: 0, payments, orders: 0, events: 0, disputes: 0, deliveries },
        }),
      180_000,
      300,
    );

  /** PostgreSQL as somebody starts it by hand. @returns what it says, until it says one of these. */
  async function startPostgres(port: number, until: RegExp, settings: string[] = []): Promise<string> {
    const { command, args, env, uid, gid } = postgresProgram(native as string, 'postgres', [
      ...['-D', into, '-c', `port=${port}`, '-c', 'listen_addresses=127.0.0.1'],
      ...['-c', 'unix_socket_directories=', ...settings],
    ]);
    const owner = postgresOwner();
    if (owner) await run('chown', ['-R', `${owner.uid}:${owner.gid}`, into]);
    server = spawn(command, args, {
      ...{ cwd: into, env, stdio: ['ignore', 'pipe', 'pipe'] },
      ...(uid === undefined ? {} : { uid, gid }),
    });
    let said = '';
    for (const stream of [server.stdout!, server.stderr!])
      stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await eventually(() => expect(said).toMatch(until), 60_000, 100);
    return said;
  }

  it('PostgreSQL’s own tools read the backup, an ordinary PostgreSQL starts on what is restored from it, and an empty remit carries on there', async () => {
    await first.start();
    told = await subscriber((response, { headers }) => {
      const id = String(headers['webhook-id']);
      if (accepts) heard.set(id, (heard.get(id) ?? 0) + 1);
      // Of its own fault: what says that it is overloaded would keep others from their first attempts.
      response.writeHead(accepts ? 204 : 500).end();
    });
    await call(first, '/api/v1/event-types', { name: 'parcel.sent' });
    await call(first, '/api/v1/subscriptions', { url: told.url, eventTypes: ['parcel.sent'] });
    const userId = await userWith(first.db, 100_000_000n);
    const newPayment = () => newTransaction(first.db, userId, 'payment', 100n);
    const newOrder = () =>
      call(first, '/orders', { amount: '2.00', currency: CURRENCY }, { 'x-user-id': userId });
    const newEvent = () => call(first, '/api/v1/events', { id: randomUUID(), type: 'parcel.sent', data: {} });
    await Promise.all([
      times(newPayment).then((made) => Promise.all(made.map((each) => reported(first, each)))),
      times(newOrder),
      times(newEvent),
    ]);
    await settled(first.db, 0, 0);
    expect(await first.run('backup', backups)).toMatchObject({ code: 0 });

    // At T: payments that wait for their provider, and deliveries that wait for their subscriber.
    accepts = false;
    const waiting = await times(newPayment);
    await Promise.all([times(newOrder), times(newEvent)]);
    await eventually(
      async () => expect(await countRows(first.db, 'delivery_attempts')).toBeGreaterThanOrEqual(2 * N),
      60_000,
    );
    await settled(first.db, N, N);
    const at = (await first.db.pool.query<{ at: Date }>('SELECT clock_timestamp() AS at')).rows[0]!.at;
    const then = await state(first.db);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await Promise.all([times(newOrder), times(newPayment)]);
    await eventually(async () => expect(await countRows(first.db, 'outbox')).toBe(0));
    expect(await first.run('backup', backups)).toMatchObject({ code: 0 });

    // Files of PostgreSQL's formats, by PostgreSQL's word.
    const bases = readdirSync(path.join(backups, 'base')).filter((name) => !name.endsWith('.json'));
    expect(bases).toHaveLength(2);
    for (const base of bases) {
      const { stdout } = await tool('pg_verifybackup', '--no-parse-wal', path.join(backups, 'base', base));
      expect(stdout).toContain('backup successfully verified');
    }
    const wal = path.join(backups, 'wal');
    const segments = readdirSync(wal).filter((name) => /^[0-9A-F]{24}$/.test(name));
    expect(segments.length).toBeGreaterThan(0);
    for (const segment of segments)
      expect((await tool('pg_waldump', '--quiet', '--path', wal, segment)).stderr).not.toMatch(/error/);

    // The machine is lost; the backups and the secrets are somewhere else.
    const url = new URL(first.endpoints.postgres);
    const secrets = path.join(first.top, 'secrets.json');
    copyFileSync(path.join(first.dataDir, 'secrets.json'), secrets);
    await first.kill();
    await stopOrphans(first.dataDir, () => undefined);
    const restoring = Date.now();
    const done = await first.run('restore', backups, '--to', at.toISOString(), '--into', into);
    expect(done).toMatchObject({ code: 0 });
    // What was built is what the server sent; its log is read, too.
    const base = bases[0]!;
    const verified = await tool(
      'pg_verifybackup',
      ...['--manifest-path', path.join(backups, 'base', base, 'backup_manifest')],
      into,
    );
    expect(verified.stdout).toContain('backup successfully verified');

    url.port = String(await freePort());
    // It was one with more connections, and PostgreSQL says so.
    expect(await startPostgres(Number(url.port), /insufficient parameter settings[^]*shut down/)).toContain(
      'max_connections',
    );
    await eventually(() => expect(server!.exitCode).toBe(1));
    await startPostgres(Number(url.port), /archive recovery complete[^]*ready to accept/, [
      ...['-c', 'max_connections=200'],
    ]);
    expect(existsSync(path.join(into, 'recovery.signal'))).toBe(false);

    second = new LocalRemit({ DATABASE_URL: url.toString(), WEBHOOK_SCHEDULE_MS: '0,60000,60000,60000' });
    const config = { ...first.config, DATABASE_URL: url.toString() };
    const db = openDatabase(config, createLogger(config, 'test'));
    expect(await state(db)).toEqual(then);
    await db.close();
    claimDataDir(second.dataDir);
    copyFileSync(secrets, path.join(second.dataDir, 'secrets.json'));
    accepts = true;
    await second.start();
    const recovered = await second.run('recover', '--yes');
    expect(recovered).toMatchObject({ code: 0 });
    await Promise.all(waiting.map((each) => reported(second!, each)));
    await settled(second.db, 0, 0);
    const backInMs = Date.now() - restoring;
    const after = await state(second.db);
    expect(after.orders).toEqual(then.orders);
    expect(after.payments).toEqual(then.payments.map(({ id }) => ({ id, status: 'succeeded' })));
    expect(after.movements).toHaveLength(then.movements.length + N);
    expect(after.deliveries.every(({ status }) => status === 'delivered')).toBe(true);
    expect([...heard.values()].every((n) => n === 1)).toBe(true);
    expect(heard.size).toBe(2 * N);
    expect(await inspectLedger(second.db)).toEqual(SOUND);
    expect(await second.run('reconcile', '--margin', '0')).toMatchObject({ code: 0 });
    // And it is backed up again.
    rmSync(backups, { recursive: true });
    expect(await second.run('backup', backups)).toMatchObject({ code: 0 });
    noteResult(
      `${bases.length} base backups and ${segments.length} segments read by pg_verifybackup and pg_waldump; restored, started and carried on after ${(backInMs / 1_000).toFixed(0)} s: ${N} payments, ${N} deliveries, nothing twice`,
    );
  }, 600_000);
}
