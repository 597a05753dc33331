import { cp, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createLogger } from '../../src/platform/logging';
import { openDatabase, type Database } from '../../src/platform/postgres';
import type { EmbeddedPart } from '../../src/embedded/stack';
import { startLocalStack, type LocalStack } from '../../src/roles/local-stack';
import { migrate } from '../../src/roles/migrate';
import { runCommand } from '../support/processes';
import { SupervisedRole } from '../support/supervised-role';

const ROLES = ['api', 'bridge', 'worker', 'relay'] as const;
/** A second worker can be killed while the first one starts again. */
export type RoleName = (typeof ROLES)[number] | 'ingest' | 'worker 2';

/**
 * A remit of a test's own whose servers and roles can be killed: nothing that other tests use is touched. Roles are
 * processes, restarted when they end, as every supervisor does.
 */
export class FaultStack {
  private readonly roles = new Map<RoleName, SupervisedRole>();

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
    await started.startRoles(roles);
    return started;
  }

  /** What runs now: roles by name with their process ids. */
  get processes(): { role: RoleName; pid: number }[] {
    return [...this.roles].flatMap(([role, { pid }]) => (pid === undefined ? [] : [{ role, pid }]));
  }

  /** How roles ended by themselves, to be started again. */
  get ended(): string[] {
    return [...this.roles.values()].flatMap(({ ended }) => ended);
  }

  get api(): string {
    return this.stack.endpoints.api;
  }

  private role(name: RoleName): SupervisedRole {
    const role = this.roles.get(name) ?? new SupervisedRole(name, name.split(' ', 1), this.stack.env);
    this.roles.set(name, role);
    return role;
  }

  /** SIGKILL, and a new process. */
  async killRole(name: RoleName): Promise<void> {
    await this.role(name).kill();
    await this.role(name).restart();
  }

  /** SIGKILL, some time without it, and back with its data. */
  async killPart(part: EmbeddedPart, awayMs: number): Promise<void> {
    await this.stack.embedded!.kill(part);
    await new Promise((resolve) => setTimeout(resolve, awayMs));
    await this.stack.embedded!.restart(part);
  }

  /** In order, as an operator does. */
  async stopRoles(roles: readonly RoleName[] = ROLES): Promise<void> {
    await Promise.all(roles.map((name) => this.role(name).stop()));
  }

  async startRoles(roles: readonly RoleName[] = ROLES): Promise<void> {
    await Promise.all(roles.map((name) => this.role(name).start()));
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
    return runCommand(args, { ...this.stack.env, REMIT_DATA_DIR: this.dataDir });
  }

  async stop(): Promise<void> {
    await Promise.all([...this.roles.values()].map((role) => role.stop()));
    await this.db.close();
    await this.stack.stop();
    await rm(this.dataDir, { recursive: true, force: true });
  }
}
