import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Kafka } from 'kafkajs';
import { KafkaServer, newClusterId } from '../../../src/embedded/kafka';
import { PartProcess } from '../../../src/embedded/part-process';
import { withAdmin } from '../../../src/platform/topic-reader';
import { ports } from './ports';

const BROKERS = 3;

/** Three brokers in one cluster, each of them a controller too. */
export class KafkaCluster {
  private constructor(
    private readonly dir: string,
    private readonly processes: readonly PartProcess[],
    /** `host:port`, comma separated. */
    readonly brokers: string,
  ) {}

  static async start(dir: string): Promise<KafkaCluster> {
    const ids = Array.from({ length: BROKERS }, (_, index) => index + 1);
    const places = await Promise.all(
      ids.map(async () => ({ port: await ports.free(), at: await ports.free() })),
    );
    const clusterId = newClusterId();
    const voters = ids.map((id, index) => `${id}@127.0.0.1:${places[index]!.at}`).join(',');
    const processes = ids.map((nodeId, index) => {
      const { port, at } = places[index]!;
      const folder = path.join(dir, `kafka-${nodeId}`);
      const server = new KafkaServer(folder, port, at, { clusterId, nodeId, voters });
      return new PartProcess(server, folder, () => undefined);
    });
    await Promise.all(processes.map((each) => each.start()));
    return new KafkaCluster(dir, processes, places.map(({ port }) => `127.0.0.1:${port}`).join(','));
  }

  process(nodeId: number): PartProcess {
    return this.processes[nodeId - 1]!;
  }

  get nodeIds(): number[] {
    return this.processes.map((_, index) => index + 1);
  }

  /** The node that is the active controller, by what the nodes noted of their last election. */
  controller(): number {
    const notes = this.nodeIds.map((id) => {
      const file = path.join(this.dir, `kafka-${id}`, 'kafka', '__cluster_metadata-0', 'quorum-state');
      return JSON.parse(readFileSync(file, 'utf8')) as { leaderId: number; leaderEpoch: number };
    });
    return notes.reduce((last, each) => (each.leaderEpoch >= last.leaderEpoch ? each : last)).leaderId;
  }

  /** @throws when a partition lacks a replica that is in sync. */
  async expectComplete(kafka: Kafka): Promise<void> {
    const { topics } = await withAdmin(kafka, (admin) => admin.fetchTopicMetadata());
    const behind = topics.filter(({ partitions }) =>
      partitions.some(({ isr, leader }) => leader < 0 || isr.length < BROKERS),
    );
    if (behind.length > 0) throw new Error(`not in sync: ${behind.map(({ name }) => name).join(', ')}`);
  }

  async stop(): Promise<void> {
    await Promise.all(this.processes.map((each) => each.stop()));
  }
}
