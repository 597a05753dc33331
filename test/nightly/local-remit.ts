import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../src/platform/config';
import { localAccess } from '../../src/operations/local-access';
import { createLogger } from '../../src/platform/logging';
import { openDatabase, type Database } from '../../src/platform/postgres';
import { PROJECT_ROOT } from '../../src/platform/project';
import type { Endpoints } from '../../src/roles/local-stack';

const CLI = path.join(PROJECT_ROOT, 'dist', 'cli.js');
const START_MS = 180_000;

export interface Ran {
  code: number | null;
  output: string;
}

/** A remit as people start it on their machine, `remit start` as a process in a folder of its own; and its commands. */
export class LocalRemit {
  readonly top = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'remit-nightly-')));
  readonly dataDir = path.join(this.top, 'data');
  /** Everything that it has printed, over all starts. */
  readonly log = path.join(this.top, 'remit.log');
  #child: ChildProcess | undefined;
  #db: Database | undefined;
  #access: { endpoints: Endpoints; config: Config } | undefined;

  constructor(private readonly extra: NodeJS.ProcessEnv = {}) {}

  get endpoints(): Endpoints {
    return this.#access!.endpoints;
  }
  get config(): Config {
    return this.#access!.config;
  }
  get db(): Database {
    return this.#db!;
  }

  private get env(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      NODE_ENV: 'production',
      LOG_LEVEL: 'info',
      ...this.extra,
      REMIT_DATA_DIR: this.dataDir,
    };
  }

  /** Resolves when it is ready. @throws with the last of its log when it ends before. */
  async start(): Promise<void> {
    const from = this.printed().length;
    const log = createWriteStream(this.log, { flags: 'a' });
    await once(log, 'open');
    const child = spawn(process.execPath, [CLI, 'start'], { env: this.env, stdio: ['ignore', log, log] });
    this.#child = child;
    const deadline = Date.now() + START_MS;
    while (!this.printed().slice(from).includes('is ready after')) {
      if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline)
        throw new Error(`remit did not start:\n${this.printed().slice(from).slice(-3_000)}`);
      await sleep(100);
    }
    log.close();
    const { endpoints, config } = await localAccess(path.join(this.dataDir, 'endpoints.json'));
    this.#access = {
      endpoints,
      config: {
        ...config,
        ...{ DATABASE_URL: endpoints.postgres, TEMPORAL_ADDRESS: endpoints.temporal },
        KAFKA_BROKERS: [endpoints.kafka],
        LOG_LEVEL: 'fatal',
      },
    };
    this.#db = openDatabase(this.config, createLogger(this.config, 'test'));
  }

  printed(): string {
    return existsSync(this.log) ? readFileSync(this.log, 'utf8') : '';
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    await this.#db?.close().catch(() => undefined);
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
  }

  /** In order, as Ctrl-C does. */
  stop(): Promise<void> {
    return this.#end('SIGTERM');
  }

  /** kill -9: its servers are left behind. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  /** A command, to its end. */
  async run(...args: string[]): Promise<Ran> {
    const { child, output } = this.spawn(...args);
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, output: output() };
  }

  /** A command that goes on. */
  spawn(...args: string[]): { child: ChildProcess; output: () => string } {
    const child = spawn(process.execPath, [CLI, ...args], {
      env: { ...this.env, LOG_LEVEL: 'error' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    return { child, output: () => text };
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.top, { recursive: true, force: true });
  }
}
