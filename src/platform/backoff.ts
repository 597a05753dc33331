import { setTimeout as sleep } from 'node:timers/promises';

/** Doubling pauses with jitter, up to a cap. */
export class Backoff {
  private attempt = 0;

  constructor(
    private readonly baseMs: number,
    private readonly capMs: number,
  ) {}

  /** Resolves after the next pause, or at once when the signal is given. */
  async pause(signal?: AbortSignal): Promise<void> {
    const longest = Math.min(this.capMs, this.baseMs * 2 ** Math.min(this.attempt++, 20));
    await sleep(longest / 2 + (Math.random() * longest) / 2, undefined, signal && { signal }).catch(
      () => undefined,
    );
  }

  reset(): void {
    this.attempt = 0;
  }
}
