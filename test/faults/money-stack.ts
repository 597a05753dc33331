import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createLogger } from '../../src/platform/logging';
import { openDatabase, type Database } from '../../src/platform/postgres';
import type { EmbeddedPart } from '../../src/embedded/stack';
import { startLocalStack, type LocalStack } from '../../src/roles/local-stack';
import { migrate } from '../../src/roles/migrate';
import { PROJECT_ROOT } from '../../src/platform/project';
import { eventually, freePort } from '../support/harness';
import { startRole, type Child } from '../support/processes';

const ROLES = ['api', 'bridge', 'worker', 'relay'] as const;
/** How long a role may take to come back on a loaded machine whose servers are being killed. */
const RESTART_MS = 300_000;
/** A second worker can be killed while the first one starts again. */
export type RoleName = (typeof ROLES)[number] | 'ingest' | 'worker 2';

/**
 * A remit of a test's own whose servers and roles can be killed: nothing that other tests use is touched. Roles are
 * processes, restarted when they end, as every supervisor does.
 */
export class FaultStack {
  private readonly running = new Map<RoleName, Child>();
  private stopping = false;
  /** How often a role ended by itself and was started again. */
  restarts = 0;
  /** Which they were, and how they ended. */
  readonly ended: string[] = [];

  private constructor(
    readonly stack: LocalStack,
    readonly db: Database,
    readonly dataDir: string,
  ) {}

  static async start(env: NodeJS.ProcessEnv = {}, roles: readonly RoleName[] = ROLES): Promise<FaultStack> {
    const dataDir = await mkdtemp(path.join(os.tmpdir(), 'remit-faults-'));
    const stack = await startLocalStack({
      env: {
        ...process.env,
        LOG_LEVEL: 'fatal',
        KAFKA_TOPIC_PARTITIONS: '3',
        UNKNOWN_TRANSACTION_WAIT_MS: '5000',
        ...env,
      },
      dataDir,
      ports: 'free',
      report: () => undefined,
    });
    const log = createLogger(stack.config, 'faults');
    await migrate(stack.config, log);
    const started = new FaultStack(stack, openDatabase(stack.config, log), dataDir);
    await Promise.all(roles.map((role) => started.run(role)));
    return started;
  }

  /** What runs now: roles by name with their process ids. */
  get processes(): { role: RoleName; pid: number }[] {
    return [...this.running].flatMap(
      ([
        role,
        {
          process: { pid },
        },
      ]) => (pid === undefined ? [] : [{ role, pid }]),
    );
  }

  get api(): string {
    return this.stack.endpoints.api;
  }

  private async run(role: RoleName): Promise<void> {
    // What a killed server makes them say is as expected as it is long.
    const [command] = role.split(' ') as [string];
    const child = await startRole([command], this.stack.env, await freePort(), 'fatal');
    this.running.set(role, child);
    child.process.once('exit', () => {
      if (this.stopping || this.running.get(role) !== child) return;
      this.restarts += 1;
      this.ended.push(`${role}: code ${child.process.exitCode}, signal ${child.process.signalCode}`);
      void eventually(() => this.run(role), RESTART_MS).catch(() => undefined);
    });
  }

  /** SIGKILL, and a new process. */
  async killRole(role: RoleName): Promise<void> {
    const child = this.running.get(role);
    this.running.delete(role);
    await child?.kill();
    await eventually(() => this.run(role), RESTART_MS);
  }

  /** SIGKILL, some time without it, and back with its data. */
  async killPart(part: EmbeddedPart, awayMs: number): Promise<void> {
    await this.stack.embedded!.kill(part);
    await new Promise((resolve) => setTimeout(resolve, awayMs));
    await this.stack.embedded!.restart(part);
  }

  /** In order, as an operator does. */
  async stopRoles(roles: readonly RoleName[] = ROLES): Promise<void> {
    const stopped = roles.map((role) => this.running.get(role));
    for (const role of roles) this.running.delete(role);
    await Promise.all(stopped.map(async (child) => child?.stop()));
  }

  async startRoles(roles: readonly RoleName[] = ROLES): Promise<void> {
    await Promise.all(roles.map((role) => this.run(role)));
  }

  private folderOf(part: EmbeddedPart): string {
    return path.join(this.dataDir, part);
  }

  /** A copy of a server's files while it does not run. @returns its folder. */
  async backUp(part: EmbeddedPart): Promise<string> {
    const copy = path.join(this.dataDir, 'run', `backup-${part}`);
    await this.stack.embedded!.kill(part);
    await cp(this.folderOf(part), copy, { recursive: true, preserveTimestamps: true });
    await this.stack.embedded!.restart(part);
    return copy;
  }

  /** A server's files are gone; what comes up in their place is empty, or a copy of former ones. */
  async lose(part: EmbeddedPart, copy?: string): Promise<void> {
    await this.stack.embedded!.kill(part);
    await rm(this.folderOf(part), { recursive: true });
    if (copy) await cp(copy, this.folderOf(part), { recursive: true, preserveTimestamps: true });
    await this.stack.embedded!.restart(part);
  }

  /** A command of the CLI in a process of its own, on this stack. */
  remit(...args: string[]): Promise<{ code: number; output: string }> {
    return new Promise((resolve) => {
      execFile(
        process.execPath,
        [path.join(PROJECT_ROOT, 'dist', 'cli.js'), ...args],
        { env: { ...this.stack.env, LOG_LEVEL: 'error', REMIT_DATA_DIR: this.dataDir } },
        (error, stdout, stderr) => resolve({ code: Number(error?.code ?? 0), output: `${stdout}${stderr}` }),
      );
    });
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all([...this.running.values()].map((child) => child.stop()));
    await this.db.close();
    await this.stack.stop();
    await rm(this.dataDir, { recursive: true, force: true });
  }
}
