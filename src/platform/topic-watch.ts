import type { Kafka } from 'kafkajs';
import { TopicIdentityReader } from './topic-identity';

/** Told that a topic's name stands for another log now. */
export type LogReplaced = (topic: string, identity: string) => void;

/** How soon it is noticed that a topic was created again when nothing else shows it; one small request for all topics. */
const INTERVAL_MS = 10_000;
/** Identities of former logs that are remembered of each topic. */
const FORMER_MAX = 100;

/**
 * Knows which log the name of each watched topic stands for (see topic-identity.ts), asks the brokers again and again,
 * and tells when a topic was deleted and created again, or the cluster is another one. One for all consumers of a client.
 *
 * Brokers learn of a change one after another; an identity that was left behind is not believed again.
 */
export class TopicWatch {
  private static readonly watches = new WeakMap<Kafka, TopicWatch>();
  private reader: TopicIdentityReader | undefined;
  private timer: NodeJS.Timeout | undefined;
  private readonly listeners = new Map<string, Set<LogReplaced>>();
  private readonly known = new Map<string, string>();
  private readonly former = new Map<string, string[]>();

  private constructor(private readonly kafka: Kafka) {}

  static of(kafka: Kafka): TopicWatch {
    let watch = this.watches.get(kafka);
    if (!watch) this.watches.set(kafka, (watch = new TopicWatch(kafka)));
    return watch;
  }

  /** Watches the topics until the function that it returns is called; the last one to leave closes the connection. */
  watch(topics: readonly string[], onReplaced: LogReplaced): () => Promise<void> {
    for (const topic of topics) {
      const listeners = this.listeners.get(topic) ?? new Set();
      this.listeners.set(topic, listeners.add(onReplaced));
    }
    this.timer ??= setInterval(() => {
      // Brokers that are away are not this watch's concern: whoever fetches from them notices.
      this.identify([...this.listeners.keys()]).catch(() => undefined);
    }, INTERVAL_MS).unref();
    return async () => {
      for (const topic of topics) {
        const listeners = this.listeners.get(topic);
        listeners?.delete(onReplaced);
        if (listeners?.size === 0) this.listeners.delete(topic);
      }
      if (this.listeners.size === 0) await this.close();
    };
  }

  /**
   * Asks the brokers now. Resolves with the identity of each of these topics that exists, after those who watch a topic
   * that was replaced have been told. Rejects as TopicIdentityReader.read does.
   */
  async identify(topics: readonly string[]): Promise<Map<string, string>> {
    this.reader ??= new TopicIdentityReader(this.kafka);
    const found = await this.reader.read(topics);
    const result = new Map<string, string>();
    for (const [topic, identity] of found) result.set(topic, this.learn(topic, identity));
    return result;
  }

  /** What is known without asking; undefined when it was never asked for, or no such topic was ever there. */
  identityOf(topic: string): string | undefined {
    return this.known.get(topic);
  }

  private learn(topic: string, identity: string): string {
    const known = this.known.get(topic);
    if (known === undefined || known === identity) {
      this.known.set(topic, identity);
      return identity;
    }
    const former = this.former.get(topic) ?? [];
    if (former.includes(identity)) return known;
    this.former.set(topic, [...former, known].slice(-FORMER_MAX));
    this.known.set(topic, identity);
    for (const onReplaced of [...(this.listeners.get(topic) ?? [])]) onReplaced(topic, identity);
    return identity;
  }

  private async close(): Promise<void> {
    clearInterval(this.timer);
    this.timer = undefined;
    const { reader } = this;
    this.reader = undefined;
    await reader?.close();
  }
}
