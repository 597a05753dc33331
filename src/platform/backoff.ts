import { setTimeout as sleep } from 'node:timers/promises';

/**
 * The pause after the `failures`th failure in a row, in milliseconds: doubling from `baseMs` up to `capMs`. Half of it is
 * certain, half is chance: callers that failed together do not come back together.
 */
export function backoffMs(failures: number, baseMs: number, capMs: number): number {
  const longest = Math.min(capMs, baseMs * 2 ** Math.min(failures - 1, 30));
  return longest / 2 + (Math.random() * longest) / 2;
}

/** Pauses of one caller that grow with its failures. */
export class Backoff {
  private failures = 0;

  constructor(
    private readonly baseMs: number,
    private readonly capMs: number,
  ) {}

  /** Resolves after the next pause, or at once when the signal is given. */
  async pause(signal?: AbortSignal): Promise<void> {
    this.failures += 1;
    const pauseMs = backoffMs(this.failures, this.baseMs, this.capMs);
    await sleep(pauseMs, undefined, signal && { signal }).catch(() => undefined);
  }

  reset(): void {
    this.failures = 0;
  }
}
