import { spawn } from 'node:child_process';
import { EmbeddedError } from './types';
import { lastLines } from './log-file';

const TICK_MS = 5_000;
const KEPT_OUTPUT_BYTES = 256 * 1024;

export interface ProgressOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** What is being done, for the progress lines: "building the Temporal server". */
  title: string;
  /** The command is ended after this; without it, it may take as long as it likes. */
  maxMs?: number;
  /** Looks at each output line; what it returns is shown with the elapsed time. */
  status?: (line: string) => string | undefined;
  report: (line: string) => void;
}

/** Runs a command that takes long, saying every five seconds how far it is. Throws with its last lines. */
export function runWithProgress(
  command: string,
  args: readonly string[],
  options: ProgressOptions,
): Promise<string> {
  const { title, report, status, cwd, env, maxMs } = options;
  return new Promise((resolve, reject) => {
    const startedAt = Date.now();
    const seconds = (): number => Math.round((Date.now() - startedAt) / 1000);
    let output = '';
    let rest = '';
    let latest: string | undefined;
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(cwd === undefined ? {} : { cwd }),
      ...(env === undefined ? {} : { env }),
      ...(maxMs === undefined ? {} : { timeout: maxMs }),
    });
    const onData = (chunk: Buffer): void => {
      const text = chunk.toString('utf8');
      output = (output + text).slice(-KEPT_OUTPUT_BYTES);
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) latest = status?.(line) ?? latest;
    };
    child.stdout.on('data', onData);
    child.stderr.on('data', onData);
    const timer = setInterval(
      () => report(`${title}: ${seconds()} s${latest === undefined ? '' : `, ${latest}`}`),
      TICK_MS,
    );
    child.once('error', (error) => {
      clearInterval(timer);
      reject(
        new EmbeddedError(`${title}: ${command} could not be started: ${error.message}`, { cause: error }),
      );
    });
    child.once('close', (code, signal) => {
      clearInterval(timer);
      if (code === 0) return resolve(output);
      const tail = lastLines(output, 20).replace(/^/gm, '  | ');
      reject(
        new EmbeddedError(
          `${title} failed (${command} ${signal ? `was ended by ${signal} after ${seconds()} s` : `exited with ${code}`}):\n${tail}`,
        ),
      );
    });
  });
}
