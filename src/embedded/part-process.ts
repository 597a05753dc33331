import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeFileAtomic } from './cache';
import { lastLines, logSize, openLog, readLogFrom } from './log-file';
import { processCommand, processIdentity, signalProcess, stopProcess } from '../platform/processes';
import { EmbeddedError, EMBEDDED_PARTS, type EmbeddedPart, type PartExit } from './types';

/** How to run one part; everything that differs between PostgreSQL, Kafka, Temporal and ClickHouse. */
export interface PartServer {
  readonly part: EmbeddedPart;
  /** Before the process starts: data folder, configuration. Safe to repeat. */
  prepare(): Promise<void>;
  command(): PartCommand;
  /** True when clients can work. `log` is what this start has logged so far. Must not throw while it is starting. */
  isReady(log: () => string): Promise<boolean>;
  /** Once after each start. */
  afterReady?(): Promise<void>;
  /** True when a failed start is worth another attempt, as when the remains of a killed process still fade. */
  isTransientFailure?(log: string): boolean;
  /** What a person can do about this failure. */
  advice(log: string): string;
}

export interface PartCommand {
  command: string;
  args: string[];
  cwd: string;
  env?: NodeJS.ProcessEnv;
  uid?: number;
  gid?: number;
  /** The signal of an orderly stop, and how long it may take (ms) before SIGKILL. */
  stopSignal: NodeJS.Signals;
  stopGraceMs: number;
}

interface PidFile {
  pid: number;
  identity: string;
  stopSignal: NodeJS.Signals;
  /** A piece of the command line that names this data folder. */
  marker: string;
}

const READY_TIMEOUT_MS = 90_000;
const READY_POLL_MS = 20;
const TRANSIENT_RETRY_MS = 20_000;
const ORPHAN_GRACE_MS = 10_000;

const pidFile = (dataDir: string, part: EmbeddedPart): string => path.join(dataDir, 'run', `${part}.json`);

/** The log of a part: `<dataDir>/logs/<part>.log`. */
export const logFile = (dataDir: string, part: EmbeddedPart): string =>
  path.join(dataDir, 'logs', `${part}.log`);

/**
 * A part's folder that has content, but not the file by which its server knows it, is damaged or another's: it is neither
 * used nor replaced by a new one.
 * @throws EmbeddedError
 */
export function refuseUnknownContent(dir: string, expected: string): void {
  if (!existsSync(dir) || readdirSync(dir).length === 0) return;
  throw new EmbeddedError(
    `${dir} has content but no ${expected}: it is damaged, or not of this server. Put the file back from a copy, move the folder away, or run \`remit reset\` to start from scratch. Nothing in it was changed.`,
  );
}

/** Children that run now: when this process ends without having stopped them, they end with it. */
const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) if (child.pid !== undefined) signalProcess(child.pid, 'SIGKILL');
});

/** Runs one part: start until ready, kill, stop, and notice of an unexpected end. */
export class PartProcess {
  #child: ChildProcess | undefined;
  #expectedEnd = false;
  #ready = false;
  #stopSignal: NodeJS.Signals = 'SIGTERM';
  #stopGraceMs = 10_000;

  constructor(
    readonly server: PartServer,
    private readonly dataDir: string,
    private readonly onUnexpectedExit: (exit: PartExit) => void,
  ) {}

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts the part and waits until it is ready. Throws an EmbeddedError with the last log lines. */
  async start(): Promise<void> {
    mkdirSync(path.join(this.dataDir, 'logs'), { recursive: true });
    await this.server.prepare();
    const retryUntil = Date.now() + TRANSIENT_RETRY_MS;
    for (;;) {
      try {
        await this.#startOnce();
        await this.server.afterReady?.();
        return;
      } catch (error) {
        await this.stop();
        const transient =
          error instanceof StartFailure && this.server.isTransientFailure?.(error.log) === true;
        if (!transient || Date.now() > retryUntil)
          throw error instanceof StartFailure ? this.#explain(error) : error;
        await sleep(250);
      }
    }
  }

  async #startOnce(): Promise<void> {
    const { command, args, cwd, env, uid, gid, stopSignal, stopGraceMs } = this.server.command();
    const log = logFile(this.dataDir, this.server.part);
    const fd = openLog(log);
    const offset = logSize(log);
    const output = (): string => readLogFrom(log, offset);
    this.#expectedEnd = false;
    this.#ready = false;
    this.#stopSignal = stopSignal;
    this.#stopGraceMs = stopGraceMs;
    let ended: string | undefined;
    try {
      // A process group of its own: Ctrl-C in the terminal reaches remit alone, which stops the parts last.
      const child = spawn(command, args, {
        cwd,
        env: env ?? process.env,
        detached: true,
        stdio: ['ignore', fd, fd],
        ...(uid === undefined ? {} : { uid }),
        ...(gid === undefined ? {} : { gid }),
      });
      this.#child = child;
      running.add(child);
      child.once('error', (error) => {
        ended = error.message;
        this.#gone(child, null);
      });
      child.once('exit', (code, signal) => {
        ended = signal === null ? `it exited with code ${code}` : `it was ended by ${signal}`;
        this.#gone(child, code);
      });
    } finally {
      closeSync(fd);
    }
    this.#writePidFile();
    const deadline = Date.now() + READY_TIMEOUT_MS;
    for (;;) {
      if (ended !== undefined) throw new StartFailure(ended, output());
      if (await this.server.isReady(output)) break;
      if (Date.now() > deadline)
        throw new StartFailure(`it was not ready after ${READY_TIMEOUT_MS / 1000} s`, output());
      await sleep(READY_POLL_MS);
    }
    this.#ready = true;
  }

  #gone(child: ChildProcess, code: number | null): void {
    running.delete(child);
    if (this.#child === child) this.#child = undefined;
    rmSync(pidFile(this.dataDir, this.server.part), { force: true });
    if (!this.#expectedEnd && this.#ready) this.onUnexpectedExit({ part: this.server.part, code });
  }

  #writePidFile(): void {
    const pid = this.#child?.pid;
    const identity = pid === undefined ? undefined : processIdentity(pid);
    if (pid === undefined || identity === undefined) return;
    const content: PidFile = { pid, identity, stopSignal: this.#stopSignal, marker: this.dataDir };
    writeFileAtomic(pidFile(this.dataDir, this.server.part), JSON.stringify(content));
  }

  #explain(failure: StartFailure): EmbeddedError {
    const log = logFile(this.dataDir, this.server.part);
    const tail = lastLines(failure.log, 15);
    return new EmbeddedError(
      [
        `The embedded ${this.server.part} did not start: ${failure.reason}.`,
        tail === ''
          ? `It logged nothing to ${log}.`
          : `The last lines of ${log}:\n${tail.replace(/^/gm, '  | ')}`,
        `What to do: ${this.server.advice(failure.log)}`,
      ].join('\n'),
      { cause: failure },
    );
  }

  /** SIGKILL; resolves when the process is gone. Nothing happens when it does not run. */
  async kill(): Promise<void> {
    const pid = this.#child?.pid;
    if (pid === undefined) return;
    this.#expectedEnd = true;
    await this.#end(pid, 'SIGKILL', 0);
  }

  /** Orderly stop, SIGKILL after the grace time. Nothing happens when it does not run. */
  async stop(): Promise<void> {
    const pid = this.#child?.pid;
    if (pid === undefined) return;
    this.#expectedEnd = true;
    await this.#end(pid, this.#stopSignal, this.#stopGraceMs);
  }

  async #end(pid: number, signal: NodeJS.Signals, graceMs: number): Promise<void> {
    const child = this.#child;
    const identity = processIdentity(pid);
    if (identity !== undefined) await stopProcess(pid, identity, signal, graceMs);
    // The exit event comes a moment after the process is gone; the state is right only then.
    while (
      child !== undefined &&
      this.#child === child &&
      child.exitCode === null &&
      child.signalCode === null
    ) {
      await sleep(5);
    }
  }
}

class StartFailure extends Error {
  constructor(
    readonly reason: string,
    readonly log: string,
  ) {
    super(reason);
  }
}

/**
 * Stops what an earlier process left running on this data folder when it was killed. A pid is believed only
 * when start time and command line are still those of that part.
 */
export async function stopOrphans(dataDir: string, report: (line: string) => void): Promise<void> {
  await Promise.all(
    EMBEDDED_PARTS.map(async (part) => {
      const file = pidFile(dataDir, part);
      const orphan = readPidFile(file);
      if (orphan !== undefined && processIdentity(orphan.pid) === orphan.identity) {
        if (processCommand(orphan.pid)?.includes(orphan.marker) === true) {
          report(`stopping ${part} (process ${orphan.pid}), left over from a start that was killed`);
          await stopProcess(orphan.pid, orphan.identity, orphan.stopSignal, ORPHAN_GRACE_MS);
        }
      }
      rmSync(file, { force: true });
    }),
  );
}

function readPidFile(file: string): PidFile | undefined {
  try {
    const parsed = JSON.parse(readFileSync(file, 'utf8')) as Partial<PidFile>;
    if (typeof parsed.pid !== 'number' || typeof parsed.identity !== 'string') return undefined;
    if (typeof parsed.marker !== 'string' || parsed.marker === '') return undefined;
    return {
      pid: parsed.pid,
      identity: parsed.identity,
      marker: parsed.marker,
      stopSignal: parsed.stopSignal ?? 'SIGTERM',
    };
  } catch {
    return undefined;
  }
}
