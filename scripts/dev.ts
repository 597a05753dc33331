import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync, watch, type FSWatcher } from 'node:fs';
import path from 'node:path';
import { callerPath } from '../src/platform/project';
import { SERVERS_PID, startLocalStack } from '../src/roles/local-stack';

/**
 * `npm run dev`: the local stack, which stays, and all roles from their TypeScript in a process that is stopped in order
 * and restarted when a source changes; a workflow too, which no role imports and every start bundles again.
 */

const root = path.resolve(__dirname, '..');
const dataDir = callerPath(process.env['REMIT_DATA_DIR'] || path.join(root, '.remit'));
const say = (line: string) => process.stdout.write(`${line}\n`);

/** Written by `prisma generate`; what it changes needs a new `npm run dev` anyway. */
const GENERATED = path.join(root, 'src', 'generated');
/** Editors save in several steps, and a checkout changes many files. */
const SETTLE_MS = 300;
/** After the ordered shutdown has had its time (SHUTDOWN_TIMEOUT_MS). */
const KILL_MARGIN_MS = 5_000;

class Roles {
  private child: ChildProcess | undefined;
  private settling: NodeJS.Timeout | undefined;
  private turn: Promise<void> = Promise.resolve();
  private ended = false;

  constructor(
    private readonly env: NodeJS.ProcessEnv,
    private readonly shutdownMs: number,
  ) {}

  start(): void {
    const follow = path.join(root, 'scripts', 'lib', 'follow-launcher.cjs');
    const child = spawn(process.execPath, ['--require', follow, '--import', 'tsx', 'src/cli.ts', 'start'], {
      cwd: root,
      env: {
        ...{ ...this.env, REMIT_DATA_DIR: dataDir },
        // The first ends them when this process is killed (and is gone before they begin), the second lets them into its folder.
        ...{ REMIT_LAUNCHER_PID: String(process.pid), [SERVERS_PID]: String(process.pid) },
      },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    this.child = child;
    child.once('exit', (code, signal) => {
      if (this.child !== child) return;
      this.child = undefined;
      say(`\n✖ The roles ended (${signal ?? `exit code ${code}`}); they start again when a source changes.`);
    });
  }

  /** Restarts them when nothing has changed for a moment. */
  changed(file: string): void {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      this.turn = this.turn.then(async () => {
        if (this.ended) return;
        say(`\n▸ ${file} changed: stopping the roles and restarting them`);
        await this.end();
        if (!this.ended) this.start();
      });
    }, SETTLE_MS);
  }

  async stop(): Promise<void> {
    this.ended = true;
    clearTimeout(this.settling);
    await this.end();
    await this.turn;
  }

  private async end(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), this.shutdownMs + KILL_MARGIN_MS);
    await gone;
    clearTimeout(timer);
  }
}

/**
 * Calls back with every file that changes in a folder and those below it. Each folder is watched by itself: Node's own
 * recursive watch loses sight, on Linux, of a file that an editor saved by putting a new one in its place.
 * @returns what ends it.
 */
function watchFolder(top: string, changed: (file: string) => void): () => void {
  const watchers = new Map<string, FSWatcher>();
  const add = (folder: string): void => {
    if (watchers.has(folder) || folder === GENERATED) return;
    const watcher = watch(folder, (_event, name) => {
      if (name === null) return;
      const file = path.join(folder, name);
      if (statSync(file, { throwIfNoEntry: false })?.isDirectory()) add(file);
      else changed(file);
    });
    // A folder that was deleted.
    watcher.once('error', () => watchers.delete(folder));
    watchers.set(folder, watcher);
    for (const entry of readdirSync(folder, { withFileTypes: true }))
      if (entry.isDirectory()) add(path.join(folder, entry.name));
  };
  add(top);
  return () => watchers.forEach((watcher) => watcher.close());
}

async function main(): Promise<void> {
  let stop: (() => void) | undefined;
  const asked = new Promise<void>((resolve) => (stop = resolve));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop?.());

  const starting = startLocalStack({
    env: { LOG_LEVEL: 'info', ...process.env, NODE_ENV: 'development' },
    dataDir,
    ports: 'standard',
    report: (line) => say(`  ${line}`),
  });
  const stack = await Promise.race([starting, asked]);
  // The parts that had started end with this process.
  if (!stack) throw new Error('interrupted while starting');
  const roles = new Roles(stack.env, stack.config.SHUTDOWN_TIMEOUT_MS);
  const unwatch = watchFolder(path.join(root, 'src'), (file) => {
    if (file.endsWith('.ts')) roles.changed(path.relative(root, file));
  });
  roles.start();
  const died = stack.embedded?.exited.then(({ part, code }) => {
    process.exitCode = 1;
    say(`\n✖ The embedded ${part} ended with ${code}; its log is under ${dataDir}/logs`);
  });
  await Promise.race([asked, ...(died ? [died] : [])]);
  unwatch();
  await roles.stop();
  await stack.stop();
}

main().then(
  () => process.exit(),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  },
);
