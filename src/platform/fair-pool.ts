import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { LRUCache } from 'lru-cache';
import { Piscina } from 'piscina';

/** At least two, so that one that is busy does not stop the others; more than a machine's cores would only take turns. */
const THREADS = Math.max(2, Math.min(4, availableParallelism()));
/** Whatever one owner gives it to do, and all slow ones together: the other half is there for those that are quick. */
const HALF_OF_THREADS = Math.floor(THREADS / 2);
/** An owner whose tasks have taken this much time lately is slow, in milliseconds. */
const SLOW_MS = 500;
const MAX_WAITING = 2_000;
const MAX_WAITING_PER_OWNER = 200;
/** What has waited this long is answered: its caller is about to give up anyway. */
const MAX_WAIT_MS = 15_000;
/** A thread begins within this time, or the machine can't start any; its start does not count against the task. */
const MAX_START_MS = 20_000;
/** Time that an owner has had counts half after this long. */
const USED_HALF_LIFE_MS = 10_000;
const MAX_OWNERS_REMEMBERED = 10_000;

/** What a thread may take; beyond it the thread ends, and nothing else does. */
const THREAD_LIMITS = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 32, stackSizeMb: 16 };

/** A task took longer, or more memory, than it may. */
export class OverrunError extends Error {
  constructor(
    readonly limit: 'time' | 'memory',
    /** How far the task had come, as it reported it. */
    readonly progress: number,
  ) {
    super(`the task took more ${limit} than it may`);
    this.name = 'OverrunError';
  }
}

/** The task was not begun: its owner, or all together, have too many waiting. */
export class CrowdedError extends Error {
  constructor(readonly who: 'owner' | 'all') {
    super(`too many tasks are waiting (${who})`);
    this.name = 'CrowdedError';
  }
}

/** What the thread's function gets: the task, and two counters that the main thread reads while it runs. */
export interface FairTask<T> {
  payload: T;
  /** Shared: when the task began (`process.hrtime.bigint()`, 0 before), and how far it is. */
  state: BigInt64Array;
}

interface Waiting {
  owner: string;
  payload: unknown;
  deadlineMs: number;
  sinceMs: number;
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
}

/**
 * Runs tasks in worker threads, each within a time that holds: a thread that overruns is ended in the middle of
 * whatever it does, and another takes its place. Fair between owners: none has more than half of the threads, nor have
 * all together whose tasks have taken long lately; and of those that wait the one comes first whose tasks have taken the
 * least. So who keeps threads busy waits behind everybody else. Threads are started with the first task.
 */
export class FairPool {
  private threads: Piscina | undefined;
  private readonly waiting: Waiting[] = [];
  private readonly running = new Map<string, number>();
  private readonly used = new LRUCache<string, { ms: number; atMs: number }>({ max: MAX_OWNERS_REMEMBERED });
  private inFlight = 0;
  private slowInFlight = 0;
  private closed = false;

  /**
   * @param modulePath a module without its extension: .js when it was compiled, .ts when tsx or jest runs the sources.
   * @param exported its function that takes a FairTask.
   */
  constructor(
    private readonly modulePath: string,
    private readonly exported: string,
    private readonly workerData: unknown = undefined,
  ) {}

  /**
   * @param deadlineMs how long it may run, from the moment that a thread begins it.
   * @throws OverrunError, CrowdedError; whatever the function throws.
   */
  run(owner: string, payload: unknown, deadlineMs: number): Promise<unknown> {
    if (this.closed) return Promise.reject(new CrowdedError('all'));
    const ofOwner = this.waiting.reduce((sum, each) => sum + (each.owner === owner ? 1 : 0), 0);
    if (ofOwner >= MAX_WAITING_PER_OWNER) return Promise.reject(new CrowdedError('owner'));
    if (this.waiting.length >= MAX_WAITING) return Promise.reject(new CrowdedError('all'));
    return new Promise((resolve, reject) => {
      this.waiting.push({ owner, payload, deadlineMs, sinceMs: performance.now(), resolve, reject });
      this.pump();
    });
  }

  /** Ends all threads, in the middle of what they do. */
  async close(): Promise<void> {
    this.closed = true;
    for (const each of this.waiting.splice(0)) each.reject(new CrowdedError('all'));
    await this.threads?.destroy();
  }

  private startThreads(): Piscina {
    const extension = path.extname(__filename);
    const threads = new Piscina({
      filename: this.modulePath + extension,
      name: this.exported,
      // One that was ended is replaced at once, not when the next task needs it.
      minThreads: THREADS,
      maxThreads: THREADS,
      maxQueue: THREADS,
      resourceLimits: THREAD_LIMITS,
      workerData: this.workerData,
      ...(extension === '.ts' && {
        execArgv: ['--import', pathToFileURL(createRequire(__filename).resolve('tsx')).href],
      }),
    });
    // A thread that ends between two tasks takes nothing with it.
    threads.on('error', () => undefined);
    return threads;
  }

  private pump(): void {
    while (this.inFlight < THREADS) {
      const next = this.takeNext();
      if (!next) return;
      void this.start(next);
    }
  }

  /** The first task of the owner that has had the least time, among those that may have another thread. */
  private takeNext(): Waiting | undefined {
    const now = performance.now();
    let best: { index: number; usedMs: number } | undefined;
    for (let index = 0; index < this.waiting.length; index += 1) {
      const { owner, sinceMs, reject } = this.waiting[index]!;
      if (now - sinceMs > MAX_WAIT_MS) {
        this.waiting.splice(index, 1);
        index -= 1;
        reject(new CrowdedError('all'));
        continue;
      }
      if ((this.running.get(owner) ?? 0) >= HALF_OF_THREADS) continue;
      const usedMs = this.usedMs(owner, now);
      if (usedMs >= SLOW_MS && this.slowInFlight >= HALF_OF_THREADS) continue;
      if (!best || usedMs < best.usedMs) best = { index, usedMs };
    }
    return best && this.waiting.splice(best.index, 1)[0];
  }

  private async start(task: Waiting): Promise<void> {
    const { owner } = task;
    const state = new BigInt64Array(new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT));
    const slow = this.usedMs(owner, performance.now()) >= SLOW_MS;
    this.inFlight += 1;
    if (slow) this.slowInFlight += 1;
    this.running.set(owner, (this.running.get(owner) ?? 0) + 1);
    try {
      task.resolve(await this.within(task, state));
    } catch (error) {
      task.reject(error as Error);
    } finally {
      const atMs = performance.now();
      this.used.set(owner, { ms: this.usedMs(owner, atMs) + (runMs(state) ?? 0), atMs });
      if (slow) this.slowInFlight -= 1;
      const left = this.running.get(owner)! - 1;
      if (left > 0) this.running.set(owner, left);
      else this.running.delete(owner);
      this.inFlight -= 1;
      this.pump();
    }
  }

  private usedMs(owner: string, now: number): number {
    const used = this.used.get(owner);
    return used ? used.ms * 2 ** ((used.atMs - now) / USED_HALF_LIFE_MS) : 0;
  }

  private async within({ payload, deadlineMs }: Waiting, state: BigInt64Array): Promise<unknown> {
    const task: FairTask<unknown> = { payload, state };
    try {
      return await this.once(task, deadlineMs);
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      // A thread remembers things from task to task: only one that fills a fresh thread as well is too large.
      state.fill(0n);
      return await this.once(task, deadlineMs).catch((again: unknown) => {
        throw isOutOfMemory(again) ? new OverrunError('memory', progressOf(state)) : again;
      });
    }
  }

  private async once(task: FairTask<unknown>, deadlineMs: number): Promise<unknown> {
    const { state } = task;
    const abort = new AbortController();
    const givenMs = performance.now();
    let overran = false;
    let over = false;
    let timer: NodeJS.Timeout;
    const look = (): void => {
      if (over) return;
      const ranMs = runMs(state);
      const leftMs =
        ranMs === undefined
          ? Math.min(deadlineMs, givenMs + MAX_START_MS - performance.now())
          : deadlineMs - ranMs;
      if (leftMs > 0) {
        timer = setTimeout(check, leftMs);
        return;
      }
      overran = ranMs !== undefined;
      abort.abort();
    };
    // A result that came while this thread was busy is read before the timer is believed.
    const check = (): void => void setImmediate(look);
    timer = setTimeout(check, deadlineMs);
    try {
      this.threads ??= this.startThreads();
      return await this.threads.run(task, { signal: abort.signal });
    } catch (error) {
      if (overran) throw new OverrunError('time', progressOf(state));
      if (abort.signal.aborted) throw new CrowdedError('all');
      throw error;
    } finally {
      over = true;
      clearTimeout(timer);
    }
  }
}

/** How long a task has been running; undefined when no thread has begun it. */
function runMs(state: BigInt64Array): number | undefined {
  const began = Atomics.load(state, 0);
  return began === 0n ? undefined : Number(process.hrtime.bigint() - began) / 1e6;
}

const progressOf = (state: BigInt64Array): number => Number(Atomics.load(state, 1));

const isOutOfMemory = (error: unknown): boolean =>
  (error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY';
