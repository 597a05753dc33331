import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROJECT_ROOT } from '../../src/platform/project';

export interface Child {
  process: ChildProcess;
  /** SIGTERM, and SIGKILL when that is not enough. Idempotent. */
  stop(): Promise<void>;
  /** SIGKILL: no goodbye. Resolves when it is gone. */
  kill(): Promise<void>;
}

const STOP_MS = 20_000;
const READY_MS = Number(process.env['REMIT_TEST_READY_MS'] ?? 60_000);

/** When this process ends without having stopped them, they end with it. */
const alive = new Set<ChildProcess>();
process.on('exit', () => {
  for (const each of alive) each.kill('SIGKILL');
});

function child(process: ChildProcess): Child {
  alive.add(process);
  process.once('exit', () => alive.delete(process));
  const ended = () => process.exitCode !== null || process.signalCode !== null;
  return {
    process,
    async kill() {
      if (ended()) return;
      const gone = once(process, 'exit');
      process.kill('SIGKILL');
      await gone;
    },
    async stop() {
      if (ended()) return;
      const gone = once(process, 'exit');
      process.kill('SIGTERM');
      const timer = setTimeout(() => process.kill('SIGKILL'), STOP_MS);
      await gone;
      clearTimeout(timer);
    },
  };
}

/** NODE_OPTIONS of the image. */
export function imageNodeOptions(): string {
  const options = /NODE_OPTIONS="([^"]+)"/.exec(readFileSync(path.join(PROJECT_ROOT, 'Dockerfile'), 'utf8'));
  if (!options?.[1]) throw new Error('the Dockerfile sets no NODE_OPTIONS');
  return options[1];
}

/** One role as production runs it: compiled, in a process of its own. Resolves when it is ready. */
export async function startRole(
  args: string[],
  env: NodeJS.ProcessEnv,
  metricsPort: number,
  logLevel = 'warn',
  /** Where it writes to; by default to where this process does. */
  output: number | 'inherit' = 'inherit',
): Promise<Child> {
  const spawned = spawn(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), ...args], {
    env: {
      ...process.env,
      NODE_OPTIONS: imageNodeOptions(),
      ...env,
      NODE_ENV: 'production',
      LOG_LEVEL: logLevel,
      METRICS_PORT: String(metricsPort),
    },
    stdio: ['ignore', output, output],
  });
  const running = child(spawned);
  try {
    await untilReady(`http://127.0.0.1:${metricsPort}/readyz`, spawned);
  } catch (error) {
    // Whoever asks again gets a new one.
    await running.kill();
    throw error;
  }
  return running;
}

/** A TypeScript file as a process; it is ready when it sends a message. */
export async function startScript(
  file: string,
  env: NodeJS.ProcessEnv,
  args: readonly string[] = [],
): Promise<Child> {
  const spawned = spawn(process.execPath, ['--import', 'tsx', file, ...args], {
    env: { ...process.env, NODE_OPTIONS: imageNodeOptions(), ...env },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const running = child(spawned);
  await Promise.race([
    once(spawned, 'message'),
    once(spawned, 'exit').then(() => {
      throw new Error(`${file} ended before it was ready`);
    }),
  ]);
  return running;
}

async function untilReady(url: string, spawned: ChildProcess): Promise<void> {
  const deadline = Date.now() + READY_MS;
  while (Date.now() < deadline) {
    if (spawned.exitCode !== null)
      throw new Error(`the role ended with code ${spawned.exitCode} before it was ready`);
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return;
    await sleep(100);
  }
  throw new Error(`${url} was not ready within ${READY_MS} ms`);
}

/** A process and all that it started. */
export function family(pid: number): number[] {
  const children = (() => {
    try {
      return execFileSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' })
        .trim()
        .split('\n')
        .filter(Boolean);
    } catch {
      return [];
    }
  })();
  return [pid, ...children.flatMap((child) => family(Number(child)))];
}

/** Freezes, wakes or kills processes; one that has ended meanwhile is none. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids)
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended meanwhile.
    }
}

/** A command of the CLI in a process of its own. */
export function runCommand(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [path.join(PROJECT_ROOT, 'dist', 'cli.js'), ...args],
      { env: { ...env, LOG_LEVEL: 'error' } },
      (error, stdout, stderr) => resolve({ code: Number(error?.code ?? 0), output: `${stdout}${stderr}` }),
    );
  });
}
