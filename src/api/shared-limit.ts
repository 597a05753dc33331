import { crc32 } from 'node:zlib';
import type { IncrementResponse, Store } from 'express-rate-limit';
import { LRUCache } from 'lru-cache';
import { RemitError } from '../contracts/errors';
import { takeRequests } from '../domain/rate-limits';
import { Coalescer } from '../platform/coalescer';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';

/** Share of a limit that a process asks for at a time, and that it may give before it has asked. */
const BLOCK_SHARE = 1 / 20;
/** Keys in memory. The least used go first; what they were given and did not use is lost. */
const KEYS_MAX = 50_000;
/** Windows in one statement. */
const ASKS_MAX = 200;
/** How long nobody asks after the database did not answer. */
const AWAY_MS = 1_000;
/** Times that a request asks again because others took what it had asked for. */
const TRIES_MAX = 20;

/** What this process knows of one window of one key. */
interface Window {
  key: string;
  startsAt: number;
  endsAt: number;
  /** Requests that this process let through. */
  taken: number;
  /** Requests that the database gave to this process. */
  granted: number;
  /** What the database had left when it was last asked; the whole limit before that. */
  left: number;
  /** Requests that wait for the answer. */
  waiting: number;
  /** The question that is under way. */
  asking?: Promise<void> | undefined;
}

/**
 * When a key's window began, in milliseconds since 1970. Each key's windows have a beginning of their own: not everybody
 * who has to wait comes back at once.
 */
export function windowStart(key: string, windowMs: number, now: number): number {
  const offset = crc32(key) % windowMs;
  return Math.floor((now - offset) / windowMs) * windowMs + offset;
}

interface Ask {
  key: string;
  startsAt: Date;
  /** How many are asked for. Decided when the statement is sent: until then more may come to wait. */
  wanted: () => number;
}

interface Taken {
  /** Of the window, by anybody. */
  before: number;
  /** Of the window, by this question; what is beyond the limit is not given. */
  asked: number;
}

/** Asks the database for requests: for all limits of a process in one statement at a time. */
export class SharedRequests {
  private readonly asks: Coalescer<Ask, Taken>;
  private awayUntil = 0;

  constructor(
    private readonly database: Pick<Database, 'limitsPool'>,
    private readonly log: Logger,
  ) {
    this.asks = new Coalescer<Ask, Taken>({
      run: (asks) => this.run(asks),
      maxItems: ASKS_MAX,
      mayBeOneItems: () => false,
    });
  }

  /** Whether it is of use to ask: the database has not just failed to answer. */
  get answers(): boolean {
    return Date.now() >= this.awayUntil;
  }

  /** @throws what the pool throws when the database does not answer in time. */
  take(ask: Ask): Promise<Taken> {
    return this.asks.add(ask);
  }

  private async run(asks: Ask[]): Promise<Taken[]> {
    const asked = asks.map(({ key, startsAt, wanted }) => ({ key, startsAt, asked: wanted() }));
    try {
      const before = await takeRequests(this.database, asked);
      metrics.rateLimitBlocks.inc({ outcome: 'answered' }, asks.length);
      return before.map((each, i) => ({ before: each, asked: asked[i]!.asked }));
    } catch (error) {
      metrics.rateLimitBlocks.inc({ outcome: 'failed' }, asks.length);
      this.awayUntil = Date.now() + AWAY_MS;
      this.log.warn({ err: error }, 'rate limits can’t be shared: the database does not answer');
      throw error;
    }
  }
}

/**
 * Counts of a limit that hold for all processes together (docs/adr/0018). Windows are fixed and go by the clock, each
 * key's at a time of its own. A process takes requests out of the shared window in blocks, ahead of need, and gives a
 * block's worth before it has asked: a request hardly ever waits for the database, and who sends little never causes a
 * statement. At most `limit` and a block for each process but one are let through in a window, whatever the database
 * does; with one process, the limit exactly.
 */
export class SharedLimit implements Store {
  readonly localKeys = false;
  /** Requests in a block. */
  readonly block: number;
  private readonly windows = new LRUCache<string, Window>({ max: KEYS_MAX });

  constructor(
    private readonly shared: SharedRequests,
    /** Whose limit it is, before the keys: the database has one table for all. */
    readonly prefix: string,
    private readonly limit: number,
    private readonly windowMs: number,
  ) {
    this.block = Math.ceil(limit * BLOCK_SHARE);
  }

  /**
   * Counts a request. `totalHits` is above the limit when it is refused.
   * @throws RemitError unavailable when the database would have to be asked, and does not answer.
   */
  increment(key: string): IncrementResponse | Promise<IncrementResponse> {
    const window = this.windowOf(key);
    return this.take(window) ? this.countOf(window) : this.takeAfterAsking(key);
  }

  /** Gives one back that was let through and then refused for another reason. */
  decrement(key: string): void {
    const window = this.windowOf(key);
    if (window.taken > 0) window.taken -= 1;
  }

  /** Forgets what this process knows of a key, not what the database does. */
  resetKey(key: string): void {
    this.windows.delete(key);
  }

  private windowOf(key: string): Window {
    const known = this.windows.get(key);
    const now = Date.now();
    if (known && known.startsAt <= now && now < known.endsAt) return known;
    const startsAt = windowStart(key, this.windowMs, now);
    const window: Window = {
      ...{ key: this.prefix + key, startsAt, endsAt: startsAt + this.windowMs },
      ...{ taken: 0, granted: 0, left: this.limit, waiting: 0 },
    };
    this.windows.set(key, window);
    return window;
  }

  /** Lets a request through if there is something for it here. */
  private take(window: Window): boolean {
    const room = window.granted + Math.min(this.block, window.left);
    if (window.taken >= room) return false;
    window.taken += 1;
    const low = room - window.taken <= this.block / 2;
    if (low && window.left > 0 && !window.asking && this.shared.answers)
      this.ask(window).catch(() => undefined);
    return true;
  }

  private async takeAfterAsking(key: string): Promise<IncrementResponse> {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const window = this.windowOf(key);
      if (this.take(window)) return this.countOf(window);
      if (window.left === 0) return { totalHits: this.limit + 1, resetTime: new Date(window.endsAt) };
      if (!window.asking && !this.shared.answers) break;
      window.waiting += 1;
      try {
        await this.ask(window);
      } catch {
        break;
      } finally {
        window.waiting -= 1;
      }
    }
    throw new RemitError('unavailable', 'Requests can’t be counted at the moment; try again.');
  }

  /** Asks for what was given ahead and for a block more; at most one question a window is under way. */
  private ask(window: Window): Promise<void> {
    window.asking ??= this.askNow(window).finally(() => (window.asking = undefined));
    return window.asking;
  }

  private async askNow(window: Window): Promise<void> {
    const { before, asked } = await this.shared.take({
      key: window.key,
      startsAt: new Date(window.startsAt),
      wanted: () => Math.max(0, window.taken - window.granted) + Math.max(this.block, window.waiting),
    });
    window.granted += Math.min(asked, Math.max(0, this.limit - before));
    window.left = Math.max(0, this.limit - before - asked);
  }

  /** What is left is what is here and what the database had left. */
  private countOf({ taken, granted, left, endsAt }: Window): IncrementResponse {
    const used = this.limit - (granted - taken) - left;
    return { totalHits: Math.min(this.limit, Math.max(1, used)), resetTime: new Date(endsAt) };
  }
}
