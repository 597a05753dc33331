import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { loadConfig } from '../platform/config';
import { findJava, type Java } from './java';
import { classPath, jarSetDir, type JarSet } from './maven';
import { refuseUnknownContent, type PartCommand, type PartServer } from './part-process';
import { EmbeddedError } from './types';

export const KAFKA_JARS: JarSet = { asset: 'kafka', version: '4.1.0', title: 'Kafka' };

const run = promisify(execFile);

export interface KafkaPlace {
  /** Logs of topics and the metadata log. */
  dir: string;
  port: number;
  controllerPort: number;
  /** Set for one of several brokers. */
  member?: KafkaMember;
}

/** A broker's place in a cluster of brokers, each of which votes on the controller too. */
export interface KafkaMember {
  /** 22 characters, the same for all (`newClusterId`). */
  clusterId: string;
  nodeId: number;
  /** `id@host:port` of every controller, comma separated. */
  voters: string;
}

/** Fast to start: C1 only, the serial collector for small heaps, and shared class data when it is there. */
function javaFlags(heapMb: number): string[] {
  return [
    `-Xmx${heapMb}m`,
    `-Xms${Math.min(heapMb, 256)}m`,
    '-XX:TieredStopAtLevel=1',
    '-XX:+UseSerialGC',
    '-Djava.awt.headless=true',
  ];
}

/** Only warnings are logged, and the one line that says that the broker is up. */
const LOG_FLAGS = [
  '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
  '-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info',
  '-Dorg.slf4j.simpleLogger.showDateTime=true',
  '-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS',
];

export const KAFKA_STARTED = /KafkaRaftServer.*Kafka Server started/;

/** The class-data archive of this Java build: it halves the time to start. */
export function kafkaArchive(java: Java): string {
  return path.join(jarSetDir(KAFKA_JARS), `classes-${java.key}.jsa`);
}

/** Arguments of the broker's JVM. */
export function kafkaArguments(propertiesFile: string, heapMb: number, shared: string[]): string[] {
  return [...javaFlags(heapMb), ...shared, ...LOG_FLAGS, 'kafka.Kafka', propertiesFile];
}

/** Writes server.properties for this place, and formats the folder once. Returns the properties file. */
export async function prepareKafka(place: KafkaPlace, java: Java): Promise<string> {
  const properties = path.join(`${place.dir}.properties`);
  writeFileSync(properties, serverProperties(place));
  if (existsSync(path.join(place.dir, 'meta.properties'))) return properties;
  refuseUnknownContent(place.dir, 'meta.properties');
  // Formatted aside: a kill in the middle leaves nothing that looks like a finished folder.
  const aside = `${place.dir}.format`;
  const asideProperties = `${aside}.properties`;
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  writeFileSync(asideProperties, serverProperties({ ...place, dir: aside }));
  const clusterId = place.member?.clusterId ?? newClusterId();
  try {
    await run(
      java.executable,
      ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto', ...LOG_FLAGS,
       'kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', asideProperties], // prettier-ignore
      { encoding: 'utf8', env: kafkaEnv() },
    );
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new EmbeddedError(
      `Kafka could not format its data folder ${place.dir}:\n${`${stdout}\n${stderr}`.trim()}`,
    );
  } finally {
    rmSync(asideProperties, { force: true });
  }
  // In place of nothing, or of an empty folder.
  renameSync(aside, place.dir);
  return properties;
}

/** A random UUID in Kafka's text form; one that begins with a dash would be read as an option. */
export function newClusterId(): string {
  for (;;) {
    const id = randomBytes(16).toString('base64url');
    if (!id.startsWith('-')) return id;
  }
}

/** The class path travels in the environment: as an argument it would fill every process list. */
export function kafkaEnv(): NodeJS.ProcessEnv {
  return { ...process.env, CLASSPATH: classPath(KAFKA_JARS) };
}

function serverProperties({ dir, port, controllerPort, member }: KafkaPlace): string {
  const settings: Record<string, string | number> = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    'controller.listener.names': 'CONTROLLER',
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
    'log.dirs': dir,
    'auto.create.topics.enable': 'false',
    'default.replication.factor': 1,
    'min.insync.replicas': 1,
    'offsets.topic.replication.factor': 1,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    // One broker: few partitions of the inner topics mean few files to open and recover.
    'offsets.topic.num.partitions': 4,
    'transaction.state.log.num.partitions': 4,
    'share.coordinator.state.topic.num.partitions': 1,
    'group.initial.rebalance.delay.ms': 0,
    'log.retention.hours': 168,
    'log.cleaner.dedupe.buffer.size': 33_554_432,
    'log.index.size.max.bytes': 2_097_152,
    'num.network.threads': 2,
    'num.io.threads': 4,
    'num.recovery.threads.per.data.dir': 2,
    // A restarted broker is the same one: its former self, killed, must not be waited for.
    'broker.session.timeout.ms': 3_000,
    'broker.heartbeat.interval.ms': 500,
    ...(member && memberSettings(member)),
  };
  return `${Object.entries(settings)
    .map(([name, value]) => `${name}=${value}`)
    .join('\n')}\n`;
}

/** One of three brokers or more: what is acknowledged is on two of them. A broker that is silent is given up after Kafka's default time. */
function memberSettings({ nodeId, voters }: KafkaMember): Record<string, string | number> {
  return {
    'node.id': nodeId,
    'controller.quorum.voters': voters,
    'default.replication.factor': 3,
    'min.insync.replicas': 2,
    'offsets.topic.replication.factor': 3,
    'transaction.state.log.replication.factor': 3,
    'transaction.state.log.min.isr': 2,
    'share.coordinator.state.topic.replication.factor': 3,
    'share.coordinator.state.topic.min.isr': 2,
    'broker.session.timeout.ms': 9_000,
    'broker.heartbeat.interval.ms': 2_000,
  };
}

/** An Apache Kafka broker, KRaft, broker and controller in one process. */
export class KafkaServer implements PartServer {
  readonly part = 'kafka';
  readonly #place: KafkaPlace;
  #java: Java | undefined;
  #properties = '';

  constructor(
    private readonly dataDir: string,
    port: number,
    controllerPort: number,
    member?: KafkaMember,
  ) {
    this.#place = { dir: path.join(dataDir, 'kafka'), port, controllerPort, ...(member && { member }) };
  }

  async prepare(): Promise<void> {
    this.#java = findJava();
    if (this.#java === undefined)
      throw new EmbeddedError('Java is gone: Kafka needs Java 17 or later in PATH or JAVA_HOME.');
    this.#properties = await prepareKafka(this.#place, this.#java);
  }

  command(): PartCommand {
    const java = this.#java;
    if (java === undefined) throw new Error('prepare() comes first');
    const archive = kafkaArchive(java);
    // -Xshare:auto: an archive that does not fit is ignored, not fatal.
    const shared = existsSync(archive)
      ? ['-Xshare:auto', `-XX:SharedArchiveFile=${archive}`]
      : ['-Xshare:auto'];
    return {
      command: java.executable,
      args: kafkaArguments(
        this.#properties,
        loadConfig(process.env, []).REMIT_EMBEDDED_KAFKA_HEAP_MB,
        shared,
      ),
      cwd: this.dataDir,
      env: kafkaEnv(),
      stopSignal: 'SIGTERM',
      stopGraceMs: 15_000,
    };
  }

  isReady(log: () => string): Promise<boolean> {
    return Promise.resolve(KAFKA_STARTED.test(log()));
  }

  isTransientFailure(log: string): boolean {
    return /Failed to acquire lock on file \.lock/.test(log);
  }

  advice(log: string): string {
    if (/Address already in use|BindException/.test(log))
      return `free port ${this.#place.port}, or set KAFKA_BROKERS to a broker of yours.`;
    if (/OutOfMemoryError/.test(log)) return 'raise REMIT_EMBEDDED_KAFKA_HEAP_MB (512 by default).';
    if (/No space left/.test(log)) return 'free some disk space.';
    return 'if the data is not worth keeping, `remit reset` starts from scratch; or set KAFKA_BROKERS to a broker of yours; or use `docker compose up`.';
  }
}
