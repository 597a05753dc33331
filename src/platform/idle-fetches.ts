import { LRUCache } from 'lru-cache';

/** What a fetch asks for, and how long the broker may hold back an empty answer. */
export interface AskedFetch {
  maxWaitTime?: number | undefined;
  topics: readonly { topic: string; partitions: readonly { partition: number }[] }[];
}

/**
 * For how long a broker holds back an empty answer when nothing came for so long. Also how much later an idle member stops, or
 * learns of a rebalance: it sends heartbeats between two fetches.
 */
const STEPS = [
  { silenceMs: 20_000, waitMs: 1_000 },
  { silenceMs: 2_000, waitMs: 500 },
];
const REMEMBERED_MAX = 1_000;

/**
 * Lets brokers hold back empty answers for longer while nothing comes: each answer costs a process as much as a message would,
 * and an idle installation has a dozen consumers. What comes is answered at once all the same. While there is traffic on a
 * topic, or one of its partitions has just been paused or resumed (which is another set of partitions), the consumer's own,
 * shorter wait holds: a fetch that is under way knows nothing of a partition that is resumed.
 */
export class IdleFetches {
  /** When it was first asked for, by set of partitions. */
  private readonly askedAtMs = new LRUCache<string, number>({ max: REMEMBERED_MAX });
  /** When something came last, by topic. */
  private readonly cameAtMs = new LRUCache<string, number>({ max: REMEMBERED_MAX });

  /** @returns how long, in milliseconds, the broker may hold back an empty answer to this fetch. */
  waitMs(asked: AskedFetch, nowMs = Date.now()): number | undefined {
    const key = keyOf(asked);
    const askedAtMs = this.askedAtMs.get(key);
    if (askedAtMs === undefined) this.askedAtMs.set(key, nowMs);
    if (askedAtMs === undefined || asked.maxWaitTime === undefined) return asked.maxWaitTime;
    const since = Math.max(askedAtMs, ...asked.topics.map(({ topic }) => this.cameAtMs.get(topic) ?? 0));
    const step = STEPS.find(({ silenceMs }) => nowMs - since >= silenceMs);
    return Math.max(asked.maxWaitTime, step?.waitMs ?? 0);
  }

  /** Something came of what was asked for. */
  broughtSomething({ topics }: AskedFetch, nowMs = Date.now()): void {
    for (const { topic } of topics) this.cameAtMs.set(topic, nowMs);
  }
}

/** kafkajs asks for the same partitions in another order each time. */
function keyOf({ topics }: AskedFetch): string {
  return topics
    .flatMap(({ topic, partitions }) => partitions.map(({ partition }) => `${topic}/${partition}`))
    .sort()
    .join();
}
