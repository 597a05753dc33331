import { setTimeout as sleep } from 'node:timers/promises';

const SECOND_MS = 1_000;
/** For clocks that tick apart: two that are sent a second apart must not be received within one. */
const MARGIN_MS = 20;
/** An attempt without an answer counts as received by then: connections take no longer as a rule. */
const RECEIVED_WITHIN_MS = 2_000;

interface Sent {
  startedAt: number;
  /** Set once its answer is there: it was received before that. */
  endedAt: number | undefined;
}

/**
 * Starts attempts evenly, never more than `perSecond` in any second as the subscriber sees it: between a start and the
 * end of the one `perSecond` before it there is a second. For one sender; it says what it sends.
 */
export class Pacer {
  private readonly sent: Sent[];
  private turns: Promise<unknown> = Promise.resolve();
  /** Those that wait for their turn. */
  waiting = 0;

  /** @param before whose rate this one's takes the place of. */
  constructor(
    readonly perSecond: number,
    before?: Pacer,
  ) {
    this.sent = before?.sent.slice(-perSecond) ?? [];
  }

  /**
   * Waits for its turn, then begins. One after another.
   * @param begin undefined when it could not begin after all: the turn is the next one's.
   * @returns what was begun; undefined also when `mayWait` had become false.
   */
  turn<T>(
    begin: () => Promise<T | undefined>,
    mayWait: () => boolean,
  ): Promise<{ value: T; ended: () => void } | undefined> {
    this.waiting += 1;
    const mine = this.turns.then(async () => {
      for (let waitMs = this.waitMs(); waitMs > 0; waitMs = this.waitMs()) {
        if (!mayWait()) return undefined;
        await sleep(Math.min(waitMs, SECOND_MS));
      }
      const value = await begin();
      if (value === undefined) return undefined;
      const sent: Sent = { startedAt: performance.now(), endedAt: undefined };
      this.sent.push(sent);
      if (this.sent.length > this.perSecond) this.sent.shift();
      return { value, ended: () => void (sent.endedAt ??= performance.now()) };
    });
    this.turns = mine.catch(() => undefined).finally(() => (this.waiting -= 1));
    return mine;
  }

  /** In how many milliseconds the next one may start. */
  waitMs(): number {
    const now = performance.now();
    const last = this.sent.at(-1);
    const even = last === undefined ? now : last.startedAt + SECOND_MS / this.perSecond;
    const oldest = this.sent.length < this.perSecond ? undefined : this.sent[0];
    const window = oldest === undefined ? now : this.receivedBy(oldest) + SECOND_MS + MARGIN_MS;
    return Math.max(0, Math.ceil(Math.max(even, window) - now));
  }

  /** In how many milliseconds somebody else may send without knowing of what was sent here. */
  freeInMs(): number {
    const now = performance.now();
    const latest = Math.max(0, ...this.sent.map((sent) => this.receivedBy(sent)));
    return latest === 0 ? 0 : Math.max(0, Math.ceil(latest + SECOND_MS + MARGIN_MS - now));
  }

  private receivedBy({ startedAt, endedAt }: Sent): number {
    return endedAt ?? Math.min(performance.now(), startedAt + RECEIVED_WITHIN_MS);
  }
}
