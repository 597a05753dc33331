import { closeSync, openSync } from 'node:fs';
import { PortAllocator } from '../../src/embedded/ports';
import { eventually } from './harness';
import { startRole, type Child } from './processes';

/** How long a role may take to come back on a loaded machine whose servers are being killed. */
const RESTART_MS = 300_000;

/** Outside the range of outgoing connections, of which there are many where roles are supervised: none has it meanwhile. */
const ports = new PortAllocator();

/** A role in a process of its own that is started again when it ends, as every supervisor does. */
export class SupervisedRole {
  private child: Child | undefined;
  private wanted = false;
  /** How it ended by itself, each time. */
  readonly ended: string[] = [];

  constructor(
    readonly name: string,
    private readonly args: string[],
    private readonly env: NodeJS.ProcessEnv,
    /** Takes what it says; without one it says nothing, as what a killed server makes it say is as expected as it is long. */
    private readonly logFile?: string,
  ) {}

  get pid(): number | undefined {
    return this.child?.process.pid;
  }

  /** Resolves when it is ready. */
  start(): Promise<void> {
    this.wanted = true;
    return this.run();
  }

  /** The same while servers that it needs may be away: it is tried again. */
  restart(): Promise<void> {
    this.wanted = true;
    return eventually(() => this.run(), RESTART_MS);
  }

  /** SIGKILL. It stays away until it is started. */
  async kill(): Promise<void> {
    await this.leave()?.kill();
  }

  /** SIGTERM. */
  async stop(): Promise<void> {
    await this.leave()?.stop();
  }

  private leave(): Child | undefined {
    const { child } = this;
    this.wanted = false;
    this.child = undefined;
    return child;
  }

  private async run(): Promise<void> {
    const output = this.logFile === undefined ? undefined : openSync(this.logFile, 'a');
    const level = this.logFile === undefined ? 'fatal' : 'warn';
    const child = await startRole(this.args, this.env, await ports.free(), level, output).finally(() => {
      if (output !== undefined) closeSync(output);
    });
    if (!this.wanted) return child.kill();
    this.child = child;
    child.process.once('exit', () => {
      if (this.child !== child) return;
      this.ended.push(`${this.name}: code ${child.process.exitCode}, signal ${child.process.signalCode}`);
      void this.restart().catch(() => undefined);
    });
  }
}
