import { mkdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Kafka } from 'kafkajs';
import { ClickHouseServer } from '../../../src/embedded/clickhouse';
import { ensureDownloads } from '../../../src/embedded/downloads';
import { PartProcess } from '../../../src/embedded/part-process';
import { ensureTemporalServer } from '../../../src/embedded/temporal-server';
import type { Config } from '../../../src/platform/config';
import { createKafka } from '../../../src/platform/kafka';
import { createLogger, type Logger } from '../../../src/platform/logging';
import { openDatabase, type Database } from '../../../src/platform/postgres';
import { startLocalStack, type LocalStack } from '../../../src/roles/local-stack';
import { migrate } from '../../../src/roles/migrate';
import { createNamespace } from '../../support/harness';
import { family, runCommand, signalAll } from '../../support/processes';
import { SupervisedRole } from '../../support/supervised-role';
import { Balancer } from './balancer';
import { KafkaCluster } from './kafka-cluster';
import { ports } from './ports';
import { PostgresPair } from './postgres-pair';
import { createTemporalDatabases, isFrontendUp, TemporalNode } from './temporal-node';

/** Two of each. */
const ROLES: Readonly<Record<string, string[]>> = {
  api: ['api'],
  bridge: ['bridge'],
  worker: ['worker', '--queue', 'payments', 'orders', 'events'],
  deliveries: ['worker', '--queue', 'deliveries'],
  relay: ['relay'],
  ingest: ['ingest'],
};
const REPLICAS = 2;
const TEMPORAL_NODES = 2;

/** Something that runs, and can be killed, frozen and brought back. */
export interface Member {
  name: string;
  pids(): number[];
  kill(): Promise<void>;
  /** After a kill. */
  back(): Promise<void>;
}

export const freeze = (member: Member) => signalAll(member.pids(), 'SIGSTOP');
export const thaw = (member: Member) => signalAll(member.pids(), 'SIGCONT');

/**
 * Three brokers, a PostgreSQL primary with its standby, two nodes of Temporal upon it, a ClickHouse engine and two of every
 * role, each a process of its own on this machine, with load balancers where a cluster has them.
 */
export class Cluster {
  private constructor(
    private readonly dir: string,
    private readonly local: LocalStack,
    readonly log: Logger,
    readonly db: Database,
    readonly pair: PostgresPair,
    readonly kafka: KafkaCluster,
    private readonly nodes: readonly PartProcess[],
    private readonly clickhouse: PartProcess,
    readonly roles: readonly SupervisedRole[],
    private readonly balancers: readonly Balancer[],
    /** Base URL that leads to either API. */
    readonly api: string,
  ) {}

  static async start(report: (line: string) => void): Promise<Cluster> {
    await ensureDownloads(['postgres', 'kafka', 'clickhouse'], report);
    const built = await ensureTemporalServer(report);
    const dir = await mkdtemp(path.join(os.tmpdir(), 'remit-cluster-'));
    report(`in ${dir}`);

    const [pair, kafka] = await Promise.all([PostgresPair.start(dir), KafkaCluster.start(dir)]);
    const primary = await Balancer.open(
      () => pair.addresses,
      (address) => pair.isPrimary(address),
    );
    report('PostgreSQL and Kafka are there');
    const url = new URL(pair.url);
    await createTemporalDatabases(built.sqlTool, pair.url);
    const database = { address: primary.address, user: url.username, password: url.password };
    const servers = Array.from({ length: TEMPORAL_NODES }, (_, index) => {
      const folder = path.join(dir, `temporal-${index + 1}`);
      return { server: new TemporalNode(built.server, folder, database), folder };
    });
    const nodes = servers.map(({ server, folder }) => new PartProcess(server, folder, () => undefined));
    await primary.untilUp();
    // One after the other: the first writes what the others find.
    for (const node of nodes) await node.start();
    const frontend = await Balancer.open(() => servers.map(({ server }) => server.address), isFrontendUp);
    report('Temporal is there');
    const folder = path.join(dir, 'clickhouse-1');
    mkdirSync(folder);
    const clickhousePort = await ports.free();
    const clickhouse = new PartProcess(new ClickHouseServer(folder, clickhousePort), folder, () => undefined);
    await clickhouse.start();

    const apiPorts = await Promise.all(Array.from({ length: REPLICAS }, () => ports.free()));
    const apis = await Balancer.open(
      () => apiPorts.map((port) => `127.0.0.1:${port}`),
      async (address) =>
        (await fetch(`http://${address}/healthz`, { signal: AbortSignal.timeout(1_500) })).ok,
    );
    url.host = primary.address;
    const local = await startLocalStack({
      env: {
        ...process.env,
        LOG_LEVEL: 'fatal',
        DATABASE_URL: url.toString(),
        DATABASE_POOL_CONNECTIONS: '6',
        DATABASE_MONEY_POOL_CONNECTIONS: '6',
        KAFKA_BROKERS: kafka.brokers,
        KAFKA_REPLICATION_FACTOR: '3',
        TEMPORAL_ADDRESS: frontend.address,
        CLICKHOUSE_URL: `http://127.0.0.1:${clickhousePort}`,
        WEBHOOK_SCHEDULE_MS: '0,500,1000,2000,4000,8000,16000,32000,64000',
      },
      dataDir: path.join(dir, 'remit'),
      ports: 'free',
      report: () => undefined,
    });
    const log = createLogger(local.config, 'cluster');
    await frontend.untilUp();
    await createNamespace(local.config);
    await migrate(local.config, log);
    report('everything is migrated');

    const roles = Object.entries(ROLES).flatMap(([name, args]) =>
      Array.from({ length: REPLICAS }, (_, index) => {
        const env = { ...local.env, ...(name === 'api' && { API_PORT: String(apiPorts[index]) }) };
        return new SupervisedRole(
          `${name} ${index + 1}`,
          args,
          env,
          path.join(dir, `${name}-${index + 1}.log`),
        );
      }),
    );
    await Promise.all(roles.map((role) => role.start()));
    await apis.untilUp();
    const db = openDatabase(local.config, log);
    report('two of every role are there');
    const api = `http://${apis.address}`;
    const balancers = [primary, frontend, apis];
    return new Cluster(dir, local, log, db, pair, kafka, nodes, clickhouse, roles, balancers, api);
  }

  get config(): Config {
    return this.local.config;
  }

  kafkaClient(): Kafka {
    return createKafka(this.config, this.log);
  }

  role(name: string): Member {
    const role = this.roles.find((each) => each.name === name);
    if (!role) throw new Error(`there is no ${name}`);
    return {
      name,
      pids: () => (role.pid === undefined ? [] : [role.pid]),
      kill: () => role.kill(),
      back: () => role.restart(),
    };
  }

  broker(nodeId: number): Member {
    return serverMember(`broker ${nodeId}`, this.kafka.process(nodeId));
  }

  temporal(node: number): Member {
    return serverMember(`Temporal node ${node}`, this.nodes[node - 1]!);
  }

  clickhouseServer(): Member {
    return serverMember('ClickHouse', this.clickhouse);
  }

  /** A primary that was lost comes back as a new standby of the one that took its place. */
  postgres(which: 'primary' | 'standby'): Member {
    return {
      name: `PostgreSQL ${which}`,
      pids: () => {
        const pid = this.pair.pid(which);
        return pid === undefined ? [] : family(pid);
      },
      kill: () => this.pair.kill(which),
      back: () => (which === 'primary' ? this.pair.addStandby() : this.pair.restartStandby()),
    };
  }

  /** Processes by what they are part of, two of a role together. */
  parts(): Record<string, number[]> {
    const of = (processes: readonly { pid: number | undefined }[]) =>
      processes.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
    return {
      ...Object.fromEntries(
        Object.keys(ROLES).map((name) => [
          name,
          of(this.roles.filter((role) => role.name.startsWith(`${name} `))),
        ]),
      ),
      kafka: of(this.kafka.nodeIds.map((id) => this.kafka.process(id))),
      temporal: of(this.nodes),
      'postgres primary': of([{ pid: this.pair.pid('primary') }]),
      'postgres standby': of([{ pid: this.pair.pid('standby') }]),
      clickhouse: of([this.clickhouse]),
    };
  }

  /** A command of the CLI in a process of its own, on this cluster. */
  remit(...args: string[]): Promise<{ code: number; output: string }> {
    return runCommand(args, { ...this.local.env, REMIT_DATA_DIR: path.join(this.dir, 'remit') });
  }

  async stop(keep = false): Promise<void> {
    await Promise.all(this.roles.map((role) => role.stop()));
    await this.db.close();
    await Promise.all([...this.nodes.map((node) => node.stop()), this.clickhouse.stop()]);
    await Promise.all([this.kafka.stop(), this.pair.stop()]);
    for (const balancer of this.balancers) balancer.close();
    await this.local.stop();
    if (!keep) await rm(this.dir, { recursive: true, force: true });
  }
}

function serverMember(name: string, server: PartProcess): Member {
  return {
    name,
    pids: () => (server.pid === undefined ? [] : family(server.pid)),
    kill: () => server.kill(),
    back: () => server.start(),
  };
}
