import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { PartProcess } from '../../../src/embedded/part-process';
import { PostgresServer } from '../../../src/embedded/postgres';
import { eventually } from '../../support/harness';
import { family, signalAll } from '../../support/processes';
import { ports } from './ports';

const LOOK_MS = 500;
const ANSWER_MS = 2_000;
/** Looks at the primary that have to fail before it is given up: about as long as Patroni's shortest sensible `ttl`. */
const GIVEN_UP_AFTER = 4;
const READY_MS = 60_000;

const SETTINGS = {
  max_connections: '300',
  wal_level: 'replica',
  wal_keep_size: '1GB',
  // A standby that is silent keeps a commit waiting until the primary gives it up.
  wal_sender_timeout: '5s',
  wal_receiver_timeout: '5s',
};

interface Node {
  name: string;
  port: number;
  server: PostgresServer;
  process: PartProcess;
}

const addressOf = ({ port }: Node) => `127.0.0.1:${port}`;

/**
 * A primary and a standby that it replicates to synchronously, and what stands in for Patroni: when the primary does not
 * answer, it is killed (fencing) and the standby promoted; when the standby is lost, the primary goes on without it
 * (Patroni's `synchronous_mode`), and a standby that is behind is never promoted. Patroni's own rejoining by `pg_rewind`
 * is a new base backup here.
 */
export class PostgresPair {
  private primary!: Node;
  private standby: Node | undefined;
  private synchronous = false;
  private watching = true;
  private made = 0;
  /** What was done, for the log of a run. */
  readonly events: string[] = [];

  private constructor(private readonly dir: string) {}

  static async start(dir: string): Promise<PostgresPair> {
    const pair = new PostgresPair(dir);
    pair.primary = await pair.make();
    await pair.primary.process.start();
    await pair.addStandby();
    void pair.watch();
    return pair;
  }

  get addresses(): string[] {
    return [this.primary, ...(this.standby ? [this.standby] : [])].map(addressOf);
  }

  get isComplete(): boolean {
    return this.standby !== undefined && this.synchronous;
  }

  /** With credentials, of the server that is the primary now. */
  get url(): string {
    return this.primary.server.url;
  }

  pid(which: 'primary' | 'standby'): number | undefined {
    return (which === 'primary' ? this.primary : this.standby)?.process.pid;
  }

  async kill(which: 'primary' | 'standby'): Promise<void> {
    await (which === 'primary' ? this.primary : this.standby)?.process.kill();
  }

  /** The standby that was killed, on its own data. */
  async restartStandby(): Promise<void> {
    await this.standby?.process.start();
  }

  /** Whether that server takes writes. */
  async isPrimary(address: string): Promise<boolean> {
    return (await this.ask(address, 'SELECT pg_is_in_recovery() AS is'))?.['is'] === false;
  }

  /** A new standby from a base backup of the primary, by SQL: the binaries that npm brings have no pg_basebackup. */
  async addStandby(): Promise<void> {
    const from = new URL(this.url);
    const node = await this.make({
      primary_conninfo: `host=127.0.0.1 port=${from.port} user=${from.username} password=${from.password} application_name=standby`,
    });
    const source = path.join(this.dir, this.primary.name);
    const target = path.join(this.dir, node.name);
    const data = path.join(target, 'postgres');
    mkdirSync(target, { recursive: true });
    cpSync(path.join(source, 'postgres.password'), path.join(target, 'postgres.password'));
    const client = new Client({ connectionString: this.url });
    await client.connect();
    try {
      await client.query(`SELECT pg_backup_start('standby', true)`);
      await copyWhileItChanges(path.join(source, 'postgres'), data);
      const { rows } = await client.query<{ labelfile: string }>(
        'SELECT labelfile FROM pg_backup_stop(false)',
      );
      writeFileSync(path.join(data, 'backup_label'), rows[0]!.labelfile);
    } finally {
      await client.end();
    }
    // Its own place is its own, and the log comes from the primary.
    for (const name of ['postmaster.pid', 'postmaster.opts', 'backup_label.old'])
      rmSync(path.join(data, name), { force: true });
    for (const folder of ['pg_wal', 'pg_replslot'])
      for (const name of readdirSync(path.join(data, folder)))
        rmSync(path.join(data, folder, name), { recursive: true });
    mkdirSync(path.join(data, 'pg_wal', 'archive_status'), { recursive: true });
    // Whether it waits for a standby is decided when it has become the primary.
    writeFileSync(path.join(data, 'postgresql.auto.conf'), '');
    writeFileSync(path.join(data, 'standby.signal'), '');
    await node.process.start();
    this.standby = node;
    await eventually(() => this.keepSynchronous(true), READY_MS, LOOK_MS);
  }

  async stop(): Promise<void> {
    this.watching = false;
    await this.setSynchronous(false).catch(() => undefined);
    await Promise.all([this.primary.process.stop(), this.standby?.process.stop()]);
  }

  private async make(settings: Record<string, string> = {}): Promise<Node> {
    const name = `postgres-${++this.made}`;
    const port = await ports.free();
    const server = new PostgresServer(path.join(this.dir, name), port, { ...SETTINGS, ...settings });
    mkdirSync(path.join(this.dir, name), { recursive: true });
    const process = new PartProcess(server, path.join(this.dir, name), () => undefined);
    return { name, port, server, process };
  }

  private async watch(): Promise<void> {
    for (let silent = 0; this.watching;) {
      await sleep(LOOK_MS);
      silent = (await this.isPrimary(addressOf(this.primary))) ? 0 : silent + 1;
      if (silent === 0) await this.keepSynchronous().catch(() => undefined);
      else if (silent >= GIVEN_UP_AFTER && this.isComplete) await this.failOver();
    }
  }

  private async failOver(): Promise<void> {
    const [former, next] = [this.primary, this.standby!];
    this.note(`${former.name} is given up, ${next.name} is promoted`);
    // Nothing may be written to it any more, also when it was frozen only.
    const { pid } = former.process;
    if (pid !== undefined) signalAll(family(pid), 'SIGKILL');
    await former.process.kill();
    this.synchronous = false;
    this.standby = undefined;
    this.primary = next;
    await eventually(
      async () => {
        const answer = await this.ask(addressOf(next), 'SELECT pg_promote(true, 30) AS promoted');
        if (answer?.['promoted'] !== true && !(await this.isPrimary(addressOf(next))))
          throw new Error(`${next.name} is not promoted`);
      },
      READY_MS,
      LOOK_MS,
    );
    this.note(`${next.name} is the primary`);
  }

  /** Waits for the standby exactly while there is one that has everything. @param must throw when there is none. */
  private async keepSynchronous(must = false): Promise<void> {
    const answer = await this.ask(
      addressOf(this.primary),
      `SELECT count(*) FILTER (WHERE state = 'streaming' AND flush_lsn >= pg_current_wal_lsn() - 1048576::numeric) > 0 AS there
         FROM pg_stat_replication`,
    );
    // One that does not answer says nothing of its standby: it is given up, or asked again.
    if (!answer && !must) return;
    const there = answer?.['there'] === true;
    if (must && !there) throw new Error('the standby does not stream yet');
    if (there !== this.synchronous) await this.setSynchronous(there);
  }

  private async setSynchronous(wanted: boolean): Promise<void> {
    const client = new Client({
      connectionString: this.url,
      connectionTimeoutMillis: ANSWER_MS,
      query_timeout: ANSWER_MS,
    });
    client.on('error', () => undefined);
    await client.connect();
    try {
      await client.query(`ALTER SYSTEM SET synchronous_standby_names = '${wanted ? '*' : ''}'`);
      await client.query('SELECT pg_reload_conf()');
      // Its commit waits, once the setting is read: then the standby has all that came before.
      if (wanted) await sleep(100);
      if (wanted) await client.query(`SELECT pg_logical_emit_message(true, 'standby', '')`);
    } finally {
      await client.end();
    }
    this.synchronous = wanted;
    this.note(wanted ? 'commits wait for the standby' : 'commits do not wait for a standby');
  }

  private async ask(address: string, sql: string): Promise<Record<string, unknown> | undefined> {
    const url = new URL(this.url);
    url.host = address;
    url.pathname = '/postgres';
    const client = new Client({
      connectionString: url.toString(),
      connectionTimeoutMillis: ANSWER_MS,
      query_timeout: sql.includes('pg_promote') ? READY_MS : ANSWER_MS,
    });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return (await client.query<Record<string, unknown>>(sql)).rows[0];
    } catch {
      return undefined;
    } finally {
      // A frozen server takes no leave.
      void client.end().catch(() => undefined);
    }
  }

  private note(text: string): void {
    this.events.push(`${new Date().toISOString()} ${text}`);
  }
}

/** Files that go away meanwhile are no matter: the log says what became of them. */
async function copyWhileItChanges(from: string, to: string): Promise<void> {
  await promisify(execFile)('cp', ['-a', from, to]).catch((error: unknown) => {
    const { stderr = '' } = error as { stderr?: string };
    if (
      !stderr
        .trim()
        .split('\n')
        .every((line) => line.includes('No such file'))
    )
      throw error;
  });
}
