import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createLogger } from '../../src/platform/logging';
import { openDatabase, type Database } from '../../src/platform/postgres';
import type { EmbeddedPart } from '../../src/embedded/stack';
import { startLocalStack, type LocalStack } from '../../src/roles/local-stack';
import { migrate } from '../../src/roles/migrate';
import { eventually, freePort } from '../support/harness';
import { startRole, type Child } from '../support/processes';

const ROLES = ['api', 'bridge', 'worker', 'relay'] as const;
export type RoleName = (typeof ROLES)[number];

/**
 * A remit of a test's own whose servers and roles can be killed: nothing that other tests use is touched. Roles are
 * processes, started anew when they end, as every supervisor does.
 */
export class FaultStack {
  private readonly running = new Map<RoleName, Child>();
  private stopping = false;
  /** How often a role ended by itself and was started again. */
  restarts = 0;

  private constructor(
    readonly stack: LocalStack,
    readonly db: Database,
    private readonly dataDir: string,
  ) {}

  static async start(): Promise<FaultStack> {
    const dataDir = await mkdtemp(path.join(os.tmpdir(), 'remit-faults-'));
    const stack = await startLocalStack({
      env: {
        ...process.env,
        LOG_LEVEL: 'fatal',
        KAFKA_TOPIC_PARTITIONS: '3',
        UNKNOWN_TRANSACTION_WAIT_MS: '5000',
      },
      dataDir,
      ports: 'free',
      report: () => undefined,
    });
    const log = createLogger(stack.config, 'faults');
    await migrate(stack.config, log);
    const started = new FaultStack(stack, openDatabase(stack.config, log), dataDir);
    await Promise.all(ROLES.map((role) => started.run(role)));
    return started;
  }

  get api(): string {
    return this.stack.endpoints.api;
  }

  private async run(role: RoleName): Promise<void> {
    // What a killed server makes them say is as expected as it is long.
    const child = await startRole([role], this.stack.env, await freePort(), 'fatal');
    this.running.set(role, child);
    child.process.once('exit', () => {
      if (this.stopping || this.running.get(role) !== child) return;
      this.restarts += 1;
      void eventually(() => this.run(role), 60_000).catch(() => undefined);
    });
  }

  /** SIGKILL, and a new process. */
  async killRole(role: RoleName): Promise<void> {
    const child = this.running.get(role);
    this.running.delete(role);
    await child?.kill();
    await eventually(() => this.run(role), 60_000);
  }

  /** SIGKILL, some time without it, and back with its data. */
  async killPart(part: EmbeddedPart, awayMs: number): Promise<void> {
    await this.stack.embedded!.kill(part);
    await new Promise((resolve) => setTimeout(resolve, awayMs));
    await this.stack.embedded!.restart(part);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all([...this.running.values()].map((child) => child.stop()));
    await this.db.close();
    await this.stack.stop();
    await rm(this.dataDir, { recursive: true, force: true });
  }
}
