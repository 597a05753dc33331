import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { findExecutable } from '../../../src/embedded/cache';
import { containerTool } from '../../../src/embedded/container-tools';
import { runWithProgress } from '../../../src/embedded/progress';
import { PROJECT_ROOT } from '../../../src/platform/project';

const run = promisify(execFile);
const OUTPUT_MAX_BYTES = 64 * 1024 * 1024;
const COMPOSE_MS = 600_000;
const SERVICE_READY_MS = 20_000;

/** For the message of who finds neither. */
export const NO_ENGINE =
  'There is neither a Docker engine that answers (docker info) nor podman. Install Docker Engine with Compose 2 ' +
  '(https://docs.docker.com/engine/install), or, on Debian: apt-get install podman runc netavark aardvark-dns debootstrap.';

export interface ContainerState {
  Id: string;
  Name: string;
  RestartCount: number;
  State: {
    Status: string;
    Pid: number;
    StartedAt: string;
    ExitCode: number;
    Health?: { Status: string };
  };
  Config: { Image: string; Healthcheck?: { Test?: string[]; Interval?: number } };
  NetworkSettings: {
    Networks: Record<string, { IPAddress: string; Gateway: string; Aliases?: string[] | null }>;
    Ports: Record<string, { HostPort: string }[] | null>;
  };
}

/** Docker, or podman behind the same commands; Compose 2 talks to either. */
export class Engine {
  private service: ChildProcess | undefined;
  private checks: HealthChecks | undefined;

  /** Whether it has less than a machine's own limits and timers. */
  get confined(): boolean {
    return this.name === 'podman' && !hasSystemd();
  }

  private constructor(
    readonly name: 'docker' | 'podman',
    private readonly compose: string[],
    private readonly env: NodeJS.ProcessEnv,
    private readonly report: (line: string) => void,
  ) {}

  /**
   * The engine of this machine, ready to be used; undefined when there is none. Docker is taken before podman.
   * @throws EmbeddedError when Compose can be neither found nor built.
   */
  static async start(dir: string, report: (line: string) => void): Promise<Engine | undefined> {
    if (await answers('docker', ['info', '--format', '{{.ServerVersion}}'])) {
      if (!(await answers('docker', ['compose', 'version'])))
        throw new Error(
          'Docker answers, but `docker compose` does not: install the Compose plugin (docker-compose-plugin).',
        );
      return new Engine('docker', ['docker', 'compose'], process.env, report);
    }
    if (findExecutable('podman') === undefined) return undefined;
    mkdirSync(dir, { recursive: true });
    const socket = path.join(dir, 'podman.sock');
    const env = { ...process.env, ...podmanSettings(dir), DOCKER_HOST: `unix://${socket}` };
    const engine = new Engine('podman', [await containerTool('compose', report)], env, report);
    await engine.serve(socket);
    return engine;
  }

  /** Compose speaks Docker's API, which podman serves on a socket. */
  private async serve(socket: string): Promise<void> {
    rmSync(socket, { force: true });
    const args = ['system', 'service', '--time', '0', `unix://${socket}`];
    this.service = spawn('podman', args, { env: this.env, stdio: 'ignore' });
    const deadline = Date.now() + SERVICE_READY_MS;
    while (!existsSync(socket)) {
      if (Date.now() > deadline || this.service.exitCode !== null)
        throw new Error('`podman system service` does not start; does `podman info` work for this user?');
      await sleep(100);
    }
    if (this.confined) this.checks = new HealthChecks(this);
  }

  /** Ends what this process has started; containers go on. */
  stop(): void {
    this.checks?.stop();
    this.service?.kill();
  }

  /** @returns stdout. @throws Error with stderr when the command fails. */
  async ask(args: readonly string[], timeoutMs = 120_000): Promise<string> {
    const { stdout } = await run(this.name, args, {
      env: this.env,
      maxBuffer: OUTPUT_MAX_BYTES,
      timeout: timeoutMs,
    });
    return stdout.trim();
  }

  /** The same for what takes long: says every five seconds how far it is. */
  async work(title: string, args: readonly string[]): Promise<void> {
    const status = (line: string) => line.trim().slice(0, 100) || undefined;
    await runWithProgress(this.name, args, {
      title,
      env: this.env,
      cwd: PROJECT_ROOT,
      status,
      report: this.report,
    });
  }

  /** @returns whether the image is on this machine. */
  async has(image: string): Promise<boolean> {
    return answers(this.name, ['image', 'inspect', '--format', '{{.Id}}', image], this.env);
  }

  /** podman keeps a HEALTHCHECK in Docker's image format alone. */
  build(title: string, args: readonly string[]): Promise<void> {
    return this.work(title, [
      'build',
      ...(this.name === 'podman' ? ['--format', 'docker'] : []),
      ...(this.confined ? ['--network', 'host'] : []),
      ...args,
    ]);
  }

  composeCommand(title: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const [command = '', ...first] = this.compose;
    return runWithProgress(command, [...first, ...args], {
      title,
      env: { ...this.env, ...env },
      cwd: PROJECT_ROOT,
      // It waits without end for what is started again and again.
      maxMs: COMPOSE_MS,
      status: (line) => line.trim().slice(0, 100) || undefined,
      report: this.report,
    });
  }

  async inspect(...names: string[]): Promise<ContainerState[]> {
    if (names.length === 0) return [];
    return JSON.parse(await this.ask(['container', 'inspect', ...names])) as ContainerState[];
  }

  /** Ids of the project's containers, of one service when it is named. */
  async containers(project: string, service?: string): Promise<string[]> {
    const labels = [
      `com.docker.compose.project=${project}`,
      ...(service === undefined ? [] : [`com.docker.compose.service=${service}`]),
    ];
    const filters = labels.flatMap((label) => ['--filter', `label=${label}`]);
    return (await this.ask(['ps', '--all', '--quiet', '--no-trunc', ...filters])).split('\n').filter(Boolean);
  }

  /** For health checks that nobody else asks for. */
  watch(project: string): void {
    this.checks?.start(project);
  }

  unwatch(): void {
    this.checks?.stop();
  }
}

/**
 * podman leaves a container's health checks to systemd's timers. Where there is no systemd, this asks instead, at the
 * interval that the container names.
 */
class HealthChecks {
  private readonly due = new Map<string, number>();
  private readonly busy = new Set<string>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly engine: Engine) {}

  start(project: string): void {
    this.timer ??= setInterval(() => void this.tick(project).catch(() => undefined), 2_000);
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private async tick(project: string): Promise<void> {
    for (const { Id: id, State, Config } of await this.engine.inspect(
      ...(await this.engine.containers(project)),
    )) {
      const { Test: test, Interval: interval = 30e9 } = Config.Healthcheck ?? {};
      if (State.Status !== 'running' || !test || test[0] === 'NONE' || this.busy.has(id)) continue;
      if ((this.due.get(id) ?? 0) > Date.now()) continue;
      this.due.set(id, Date.now() + interval / 1e6);
      this.busy.add(id);
      void this.engine
        .ask(['healthcheck', 'run', id], 30_000)
        .catch(() => undefined)
        .finally(() => this.busy.delete(id));
    }
  }
}

const hasSystemd = () => existsSync('/run/systemd/system');

/**
 * podman's defaults are for a machine with systemd. In a virtual machine or container without it, control groups are files,
 * limits stay below the caller's own, and builds run in a chroot.
 */
function podmanSettings(dir: string): NodeJS.ProcessEnv {
  if (hasSystemd()) return {};
  const file = path.join(dir, 'containers.conf');
  const runtime = findExecutable('runc') === undefined ? '' : 'runtime = "runc"\n';
  writeFileSync(
    file,
    `[containers]\ndefault_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]\n` +
      `[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n${runtime}[network]\nnetwork_backend = "netavark"\n`,
  );
  return { CONTAINERS_CONF: file, BUILDAH_ISOLATION: 'chroot', DISABLE_HC_SYSTEMD: 'true' };
}

async function answers(command: string, args: readonly string[], env = process.env): Promise<boolean> {
  try {
    await run(command, args, { env, timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}
