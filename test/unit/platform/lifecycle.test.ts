import { spawnSync } from 'node:child_process';
import path from 'node:path';
import pino from 'pino';
import { Lifecycle, SHUTDOWN_PHASES } from '../../../src/platform/lifecycle';

const silent = pino({ level: 'silent' });
const SOURCE = path.join(__dirname, '../../../src/platform/lifecycle');
const LOG = '{ info() {}, warn() {}, error() {}, fatal() {}, debug() {} }';

/** Runs a process that has the handlers installed. @returns its exit code. */
function exitCodeOf(script: string): number | null {
  const code = `
    const { Lifecycle } = require(${JSON.stringify(SOURCE)});
    const lifecycle = new Lifecycle(${LOG}, 1_000);
    lifecycle.installProcessHandlers();
    ${script}`;
  const child = spawnSync(process.execPath, ['--import', 'tsx', '-e', code], {
    timeout: 30_000,
    encoding: 'utf8',
  });
  if (child.signal) throw new Error(`it was ended by ${child.signal}: ${child.stderr}`);
  return child.status;
}

describe('the shutdown', () => {
  it('runs phase after phase, whatever order the parts were registered in', async () => {
    const lifecycle = new Lifecycle(silent, 1_000);
    const stopped: string[] = [];
    for (const phase of [...SHUTDOWN_PHASES].reverse())
      lifecycle.onStop(phase, phase, async () => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        stopped.push(phase);
      });
    await Promise.all([lifecycle.stop(), lifecycle.stop()]);
    expect(stopped).toEqual([...SHUTDOWN_PHASES]);
  });

  it('goes on when a part does not stop cleanly', async () => {
    const lifecycle = new Lifecycle(silent, 1_000);
    let closed = false;
    lifecycle.onStop('drain', 'broken', () => Promise.reject(new Error('broken')));
    lifecycle.onStop('close', 'client', () => void (closed = true));
    await lifecycle.stop();
    expect(closed).toBe(true);
  });

  it('gives up when its time is over', async () => {
    const lifecycle = new Lifecycle(silent, 20);
    lifecycle.onStop('drain', 'hanging', () => new Promise(() => undefined));
    await expect(lifecycle.stop()).rejects.toThrow('longer than 20 ms');
  });
});

describe('the exit code', () => {
  const keepAlive = 'setInterval(() => {}, 1_000);';

  it('is 0 after a signal and a clean stop', () => {
    expect(exitCodeOf(`${keepAlive} process.kill(process.pid, 'SIGTERM');`)).toBe(0);
  });

  it('is 1 when a part did not stop cleanly', () => {
    const broken = "lifecycle.onStop('flush', 'producer', () => Promise.reject(new Error('not flushed')));";
    expect(exitCodeOf(`${keepAlive} ${broken} process.kill(process.pid, 'SIGTERM');`)).toBe(1);
  });

  it('is 1 after an uncaught error, also while a signal is being handled', () => {
    const slow =
      "lifecycle.onStop('drain', 'slow', () => new Promise((resolve) => setTimeout(resolve, 200)));";
    const crash = "setTimeout(() => { throw new Error('defect'); }, 50);";
    expect(exitCodeOf(`${keepAlive} ${crash}`)).toBe(1);
    expect(exitCodeOf(`${keepAlive} ${slow} ${crash} process.kill(process.pid, 'SIGTERM');`)).toBe(1);
  });

  it('is 1 after an unhandled rejection, also when a part hangs on nothing', () => {
    const hanging = "lifecycle.onStop('drain', 'hanging', () => new Promise(() => {}));";
    expect(exitCodeOf(`${hanging} void Promise.reject(new Error('defect'));`)).toBe(1);
  });

  it('is 130 after a second signal', () => {
    const hanging = "lifecycle.onStop('drain', 'hanging', () => new Promise(() => {}));";
    const signals =
      "process.kill(process.pid, 'SIGINT'); setTimeout(() => process.kill(process.pid, 'SIGINT'), 50);";
    expect(exitCodeOf(`${keepAlive} ${hanging} ${signals}`)).toBe(130);
  });
});
