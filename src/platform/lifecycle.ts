import type { Logger } from './logging';

/**
 * Shutdown runs these in order: stop taking in, finish what is in flight, flush, close our clients, and last the
 * embedded servers that they talked to.
 */
export const SHUTDOWN_PHASES = ['intake', 'drain', 'flush', 'close', 'parts'] as const;
export type ShutdownPhase = (typeof SHUTDOWN_PHASES)[number];

/** Reports whether a dependency can be used; rejects with the reason when it can't. */
export type ReadinessCheck = () => Promise<void>;

const CRASH_GRACE_MS = 5_000;

interface Stopper {
  phase: ShutdownPhase;
  name: string;
  stop: () => Promise<void> | void;
}

/**
 * What a running process owns: how to stop each part, and what its readiness depends on. One per process; roles
 * register themselves, so that they run together (`remit start`) or apart with the same ordered shutdown.
 */
export class Lifecycle {
  readonly checks = new Map<string, ReadinessCheck>();
  private readonly stoppers: Stopper[] = [];
  private readonly abort = new AbortController();
  private stopping: Promise<void> | undefined;
  private failed = false;

  constructor(
    private readonly log: Logger,
    private readonly timeoutMs: number,
  ) {}

  /** Aborted as soon as the process is to stop: for what waits, and would wait forever. */
  get stopped(): AbortSignal {
    return this.abort.signal;
  }

  get isStopping(): boolean {
    return this.stopping !== undefined;
  }

  onStop(phase: ShutdownPhase, name: string, stop: Stopper['stop']): void {
    this.stoppers.push({ phase, name, stop });
  }

  addCheck(name: string, check: ReadinessCheck): void {
    this.checks.set(name, check);
  }

  /** Stops everything once, in phase order and, within a phase, all at a time. Idempotent. Rejects when the time runs out. */
  stop(): Promise<void> {
    this.stopping ??= this.runStop();
    this.abort.abort();
    return this.stopping;
  }

  private async runStop(): Promise<void> {
    const deadline = new Promise<never>((_, reject) =>
      setTimeout(
        () => reject(new Error(`shutdown took longer than ${this.timeoutMs} ms`)),
        this.timeoutMs,
      ).unref(),
    );
    for (const phase of SHUTDOWN_PHASES) {
      const here = this.stoppers.filter((stopper) => stopper.phase === phase);
      await Promise.race([deadline, Promise.all(here.map((stopper) => this.stopOne(stopper)))]);
    }
  }

  private async stopOne({ phase, name, stop }: Stopper): Promise<void> {
    const startedAt = Date.now();
    try {
      await stop();
      this.log.debug({ phase, part: name, durationMs: Date.now() - startedAt }, 'stopped');
    } catch (error) {
      this.failed = true;
      this.log.error({ err: error, phase, part: name }, 'did not stop cleanly');
    }
  }

  /**
   * SIGINT and SIGTERM start the ordered shutdown; a second signal forces. An uncaught error is logged and ends the
   * process non-zero after a bounded attempt to stop: a process in an unknown state must not go on handling money.
   */
  installProcessHandlers(): void {
    let signals = 0;
    const onSignal = (signal: NodeJS.Signals) => {
      signals += 1;
      if (signals > 1) {
        this.log.warn({ signal }, 'second signal, exiting at once');
        process.exit(130);
      }
      this.log.info({ signal }, 'shutting down; signal again to force');
      this.exitWhenStopped();
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
    const onCrash = (error: unknown) => {
      this.log.fatal({ err: error }, 'crashed');
      this.crash();
    };
    process.on('uncaughtException', onCrash);
    process.on('unhandledRejection', onCrash);
  }

  /** Ends the process with code 1 after trying to stop in order, for at most five seconds. */
  crash(): void {
    this.failed = true;
    // Also when nothing keeps the event loop alive any more, the code is not 0.
    process.exitCode = 1;
    setTimeout(() => process.exit(1), CRASH_GRACE_MS);
    this.exitWhenStopped();
  }

  /** Exits 0 only when every part stopped cleanly and in time, and nothing crashed meanwhile. */
  private exitWhenStopped(): void {
    this.stop().then(
      () => process.exit(this.failed ? 1 : 0),
      (error: unknown) => {
        this.log.error({ err: error }, 'forced exit');
        process.exit(1);
      },
    );
  }
}
