import type { Admin, Kafka } from 'kafkajs';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';

/**
 * Measures how far a group is behind on its topics, every so often, with a connection of its own. All partitions are
 * reported, also those that another process (or none) reads: what nobody reads is what an alert is for.
 */
export class ConsumerLag {
  private readonly admin: Admin;
  private timer: NodeJS.Timeout | undefined;
  private connected = false;
  private measuring: Promise<void> | undefined;

  constructor(
    kafka: Kafka,
    private readonly group: string,
    private readonly topics: readonly string[],
    private readonly intervalMs: number,
    private readonly log: Logger,
  ) {
    this.admin = kafka.admin({ retry: { retries: 1 } });
  }

  start(): void {
    this.timer = setInterval(() => {
      this.measuring ??= this.measure()
        .catch((error: unknown) => this.log.debug({ err: error }, 'consumer lag could not be measured'))
        .finally(() => (this.measuring = undefined));
    }, this.intervalMs).unref();
  }

  /** Sets the gauge of every partition. Rejects when the brokers do not answer; the gauges then keep their values. */
  async measure(): Promise<void> {
    if (!this.connected) {
      await this.admin.connect();
      this.connected = true;
    }
    const committed = await this.admin.fetchOffsets({ groupId: this.group, topics: [...this.topics] });
    for (const { topic, partitions } of committed) {
      const ends = await this.admin.fetchTopicOffsets(topic);
      const offsets = new Map(partitions.map(({ partition, offset }) => [partition, BigInt(offset)]));
      for (const { partition, high, low } of ends) {
        const at = offsets.get(partition) ?? -1n;
        // Without a committed offset the group starts at the beginning of the partition.
        this.report(topic, partition, BigInt(high) - (at < 0n ? BigInt(low) : at));
      }
    }
  }

  report(topic: string, partition: number, messages: bigint): void {
    metrics.consumerLag.set(
      { group: this.group, topic, partition: String(partition) },
      Math.max(0, Number(messages)),
    );
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.measuring;
    if (this.connected) await this.admin.disconnect();
  }
}
