import { setTimeout as sleep } from 'node:timers/promises';
import { claimDataDir, lockDataDir } from '../platform/data-dir';
import { ClickHouseServer } from './clickhouse';
import { ensureDownloads } from './downloads';
import { KafkaServer } from './kafka';
import type { FileLock } from '../platform/lock';
import { seconds } from './maven';
import { PartProcess, stopOrphans, type PartServer } from './part-process';
import { PortAllocator } from './ports';
import { PostgresServer } from './postgres';
import { TemporalServer } from './temporal';
import {
  EMBEDDED_PARTS,
  EmbeddedError,
  type EmbeddedEndpoints,
  type EmbeddedOptions,
  type EmbeddedPart,
  type EmbeddedStack,
  type PartExit,
} from './types';

export { embeddedCacheDir } from './cache';
export { ensureDownloads } from './downloads';
export { EmbeddedError } from './types';
export type { EmbeddedEndpoints, EmbeddedOptions, EmbeddedPart, EmbeddedStack } from './types';

const HOST = '127.0.0.1';
const STANDARD = { postgres: 5432, kafka: 9092, temporal: 7233, temporalUi: 8233, clickhouse: 8123 } as const;
/** No stop takes longer: each part's own grace time is shorter than this. */
const STOP_LIMIT_MS = 30_000;

/**
 * Starts the wanted parts side by side and resolves when all of them are ready. Data of an earlier start is
 * kept, and what an earlier start left running when it was killed is stopped first.
 *
 * Throws an EmbeddedError, having stopped what it had started, when a prerequisite is missing, when another
 * process uses the data folder, or when a part does not start; a ConfigError when the data folder is not remit's.
 */
export async function startEmbeddedStack(options: EmbeddedOptions): Promise<EmbeddedStack> {
  const wanted = (options.parts ?? EMBEDDED_PARTS).filter((part) => options.outside[part] === undefined);
  const parts = EMBEDDED_PARTS.filter((part) => wanted.includes(part));
  const dataDir = claimDataDir(options.dataDir);
  await ensureDownloads(parts, options.report);
  const lock = parts.length === 0 ? undefined : (options.lock ?? lockDataDir(dataDir));
  try {
    // Without the lock, what runs on this folder is somebody's.
    if (lock !== undefined) await stopOrphans(dataDir, options.report);
    return await startParts(options, dataDir, parts, lock);
  } catch (error) {
    lock?.release();
    throw error;
  }
}

interface Started {
  servers: Map<EmbeddedPart, PartProcess>;
  endpoints: EmbeddedEndpoints;
}

async function startParts(
  options: EmbeddedOptions,
  dataDir: string,
  parts: readonly EmbeddedPart[],
  lock: FileLock | undefined,
): Promise<EmbeddedStack> {
  let tellExit: (exit: PartExit) => void = () => undefined;
  const exited = new Promise<PartExit>((resolve) => (tellExit = resolve));
  let started: Started | undefined;
  for (let attempt = 1; started === undefined; attempt++) {
    try {
      started = await startOnce(options, dataDir, parts, (exit) => tellExit(exit));
    } catch (error) {
      // Between the choice of a free port and its use another program may have taken it.
      const portTaken =
        error instanceof EmbeddedError && /in use|EADDRINUSE|BindException/.test(error.message);
      if (!portTaken || attempt === 3) throw error;
      options.report('a port was taken meanwhile, choosing others');
    }
  }
  const { servers, endpoints } = started;
  const one = (part: EmbeddedPart): PartProcess => {
    const server = servers.get(part);
    if (server === undefined) throw new EmbeddedError(`${part} is not an embedded part of this stack`);
    return server;
  };
  let stopping: Promise<void> | undefined;
  return {
    endpoints,
    get processes() {
      return [...servers].flatMap(([part, { pid }]) => (pid === undefined ? [] : [{ part, pid }]));
    },
    kill: (part) => one(part).kill(),
    restart: async (part) => {
      if (stopping !== undefined) throw new EmbeddedError('the embedded stack is stopping');
      await one(part).stop();
      await one(part).start();
    },
    stop: () => {
      stopping ??= stopAll(servers).finally(() => lock?.release());
      return stopping;
    },
    exited,
  };
}

async function startOnce(
  options: EmbeddedOptions,
  dataDir: string,
  parts: readonly EmbeddedPart[],
  onExit: (exit: PartExit) => void,
): Promise<Started> {
  const { endpoints, made } = await makeServers(options, dataDir, parts);
  const servers = new Map(made.map((server) => [server.part, new PartProcess(server, dataDir, onExit)]));
  const results = await Promise.allSettled(
    [...servers].map(async ([part, server]) => {
      const startedAt = Date.now();
      await server.start();
      options.report(`${part} is ready (${seconds(startedAt)} s)`);
    }),
  );
  const failure = results.find((result) => result.status === 'rejected');
  if (failure !== undefined) {
    await stopAll(servers);
    throw failure.reason;
  }
  const postgres = made.find((server) => server instanceof PostgresServer);
  return {
    servers,
    endpoints: postgres === undefined ? endpoints : { ...endpoints, postgres: postgres.url },
  };
}

async function makeServers(
  options: EmbeddedOptions,
  dataDir: string,
  parts: readonly EmbeddedPart[],
): Promise<{ endpoints: EmbeddedEndpoints; made: PartServer[] }> {
  const allocator = new PortAllocator();
  const port = (standard: number): Promise<number> =>
    options.ports === 'standard' ? allocator.prefer(standard) : allocator.free();
  const { outside } = options;
  const endpoints: EmbeddedEndpoints = {
    postgres: outside.postgres ?? '',
    kafka: outside.kafka ?? '',
    temporal: outside.temporal ?? '',
    temporalUi: '',
    clickhouse: outside.clickhouse ?? '',
  };
  const made: PartServer[] = [];
  if (parts.includes('postgres')) made.push(new PostgresServer(dataDir, await port(STANDARD.postgres)));
  if (parts.includes('kafka')) {
    const kafka = await port(STANDARD.kafka);
    endpoints.kafka = `${HOST}:${kafka}`;
    made.push(new KafkaServer(dataDir, kafka, await allocator.free()));
  }
  if (parts.includes('temporal')) {
    const temporal = await port(STANDARD.temporal);
    const uiPort = await port(STANDARD.temporalUi);
    endpoints.temporal = `${HOST}:${temporal}`;
    endpoints.temporalUi = `http://${HOST}:${uiPort}`;
    const ports = {
      port: temporal,
      uiPort,
      httpPort: await allocator.free(),
      metricsPort: await allocator.free(),
    };
    made.push(new TemporalServer(dataDir, ports, options.searchAttributes));
  }
  if (parts.includes('clickhouse')) {
    const clickhouse = await port(STANDARD.clickhouse);
    endpoints.clickhouse = `http://${HOST}:${clickhouse}`;
    made.push(new ClickHouseServer(dataDir, clickhouse));
  }
  return { endpoints, made };
}

/** The parts don't know each other, so they stop side by side; what uses them has been stopped before. */
async function stopAll(servers: ReadonlyMap<EmbeddedPart, PartProcess>): Promise<void> {
  const limit = new AbortController();
  const all = Promise.all([...servers.values()].map((server) => server.stop()));
  await Promise.race([all, sleep(STOP_LIMIT_MS, undefined, { signal: limit.signal }).catch(() => undefined)]);
  limit.abort();
  await Promise.all([...servers.values()].map((server) => server.kill()));
}
