import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { say, StepError } from './output.mjs';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const TICK_MS = 5_000;
const KEPT_OUTPUT = 64 * 1024;
// Ctrl-C under `npm start` arrives twice, from the terminal and from npm, milliseconds apart. A second signal
// forces the stop, so only one that comes later is taken for a second one.
const SAME_SIGNAL_MS = 700;
const KILL_AFTER_MS = 10_000;
const TIMED_OUT = 124;
const PARENT_POLL_MS = 500;
/** The shell that npm runs us through. */
const shell = process.env.npm_lifecycle_event === undefined ? undefined : process.ppid;

/** Runs a tool quietly, with a line every five seconds; its output is shown when it fails. */
export function quiet(title, command, args, { env = {}, next = '' } = {}) {
  return new Promise((resolve, reject) => {
    const startedAt = Date.now();
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    const keep = (chunk) => (output = (output + chunk).slice(-KEPT_OUTPUT));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    const timer = setInterval(
      () => say(`  ${title}: ${Math.round((Date.now() - startedAt) / 1000)} s`),
      TICK_MS,
    );
    const stop = forwardSignals(child);
    child.once('error', (error) =>
      finish(new StepError(`${title}: ${command} could not be started: ${error.message}`)),
    );
    child.once('close', (code, signal) => {
      if (code === 0) return finish();
      finish(
        new StepError(
          `${output.trimEnd()}\n\n${title} failed (${signal ?? `exit code ${code}`}).${next === '' ? '' : ` ${next}`}`,
        ),
      );
    });
    function finish(error) {
      clearInterval(timer);
      stop();
      if (error === undefined) resolve(output);
      else reject(error);
    }
  });
}

/**
 * Runs the command itself with our stdio and resolves to its exit code.
 *
 * `ordered`: it gets a process group of its own, so that Ctrl-C reaches only us, and we hand it on once; it
 * stops in its order and we wait. Otherwise it shares the terminal (for tools that read keys).
 *
 * `maxMs`: it is asked to stop after this long, killed ten seconds later, and the exit code is that of `timeout` (124).
 */
export function foreground(args, { env = {}, ordered, maxMs }) {
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [...(ordered ? ['--require', path.join(root, 'scripts/lib/follow-launcher.cjs')] : []), ...args],
      {
        cwd: root,
        env: { ...process.env, ...env, ...(ordered ? { REMIT_LAUNCHER_PID: String(process.pid) } : {}) },
        stdio: 'inherit',
        detached: ordered,
      },
    );
    const stopForwarding = forwardSignals(child, ordered);
    const stopFollowing = followNpm();
    const limit = maxMs === undefined ? undefined : endAfter(child, maxMs);
    const stop = () => {
      stopForwarding();
      stopFollowing();
    };
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      stop();
      limit?.clear();
      resolve(limit?.reached ? TIMED_OUT : (code ?? 128 + (constants.signals[signal] ?? 0)));
    });
  });
}

function endAfter(child, maxMs) {
  const limit = { reached: false, clear: () => timers.forEach(clearTimeout) };
  const end = () => {
    limit.reached = true;
    say(
      `\n✖ Still running after ${Math.round(maxMs / 1_000)} s: ended. Something hangs; the last lines above say where.`,
    );
    child.kill('SIGTERM');
    timers.push(setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS));
  };
  const timers = [setTimeout(end, maxMs)];
  return limit;
}

/**
 * `kill` of npm reaches its shell, which dies of it without a word to us: that it is gone is the signal. Without npm
 * nothing is read into a parent that goes: with nohup it is meant to.
 */
function followNpm() {
  if (shell === undefined) return () => undefined;
  const timer = setInterval(() => {
    if (process.ppid === shell) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, PARENT_POLL_MS);
  return () => clearInterval(timer);
}

/** Hands signals on, each once; returns what ends that. */
function forwardSignals(child, ownGroup = false) {
  let last = 0;
  const listeners = ['SIGINT', 'SIGTERM', 'SIGHUP'].map((signal) => {
    const listener = () => {
      // The terminal has sent its Ctrl-C to the whole group, the child included.
      if (signal === 'SIGINT' && !ownGroup && process.stdin.isTTY) return;
      if (Date.now() - last < SAME_SIGNAL_MS) return;
      last = Date.now();
      child.kill(signal === 'SIGHUP' ? 'SIGTERM' : signal);
    };
    process.on(signal, listener);
    return [signal, listener];
  });
  return () => listeners.forEach(([signal, listener]) => process.off(signal, listener));
}
