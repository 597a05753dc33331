import { writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { SEARCH_ATTRIBUTES } from '../contracts/workflows';
import type { EmbeddedPart, EmbeddedStack } from '../embedded/stack';
import { loadConfig, ROLE_NEEDS, type Config } from '../platform/config';
import { claimDataDir, holderOf, lockDataDir } from '../platform/data-dir';
import type { FileLock } from '../platform/lock';
import { localSecrets } from './secrets-file';

/** Where everything of a local installation answers; written to `.remit/endpoints.json`. */
export interface Endpoints {
  api: string;
  temporal: string;
  temporalUi: string;
  kafka: string;
  postgres: string;
  clickhouse: string;
  metrics: string;
}

export interface LocalStack {
  /** The environment that roles run with, here or as processes of their own. */
  env: NodeJS.ProcessEnv;
  config: Config;
  endpoints: Endpoints;
  /** The embedded parts; undefined when every part is outside. */
  embedded: EmbeddedStack | undefined;
  stop(): Promise<void>;
}

export interface LocalStackOptions {
  env: NodeJS.ProcessEnv;
  dataDir: string;
  /** 'standard' takes 8080, 9464, 5432, … when they are free; 'free' never does. */
  ports: 'standard' | 'free';
  /** Which embedded parts to start; all by default. */
  parts?: EmbeddedPart[];
  report: (line: string) => void;
}

/** The variable that replaces each embedded part by an outside one. */
const OUTSIDE: Record<EmbeddedPart, keyof Config> = {
  postgres: 'DATABASE_URL',
  kafka: 'KAFKA_BROKERS',
  temporal: 'TEMPORAL_ADDRESS',
  clickhouse: 'CLICKHOUSE_URL',
};
const ALL_PARTS = Object.keys(OUTSIDE) as EmbeddedPart[];

/** What is on this machine alone is there to be looked at: the UI shows what workflows are given without asking the API. */
export const CLEAR_PAYLOADS = { TEMPORAL_ENCRYPT_PAYLOADS: 'false' } as const;

/**
 * Starts the embedded parts that no variable replaces, and makes the configuration that all roles share.
 * Starts no role and migrates nothing.
 * @throws ConfigError on bad configuration, and when another process uses the data folder; EmbeddedError when a part can't
 *   start or a prerequisite is missing.
 */
export async function startLocalStack(options: LocalStackOptions): Promise<LocalStack> {
  const dataDir = claimDataDir(options.dataDir);
  const lock = lockUnlessShared(dataDir);
  try {
    const stack = await startLocked({ ...options, dataDir }, lock);
    return {
      ...stack,
      async stop() {
        await stack.stop();
        lock?.release();
      },
    };
  } catch (error) {
    lock?.release();
    throw error;
  }
}

/** The variable by which `npm run dev` tells the roles that it starts and stops that it holds the lock for them. */
export const SERVERS_PID = 'REMIT_SERVERS_PID';

function lockUnlessShared(dataDir: string): FileLock | undefined {
  const servers = Number(process.env[SERVERS_PID]);
  return holderOf(dataDir)?.pid === servers ? undefined : lockDataDir(dataDir);
}

/** Under the lock: what is written to the folder, its endpoints above all, is of one installation. */
async function startLocked(options: LocalStackOptions, lock: FileLock | undefined): Promise<LocalStack> {
  const { dataDir, report } = options;
  const parts = options.parts ?? ALL_PARTS;
  const outside: Partial<Record<EmbeddedPart, string>> = {};
  for (const part of ALL_PARTS) {
    const address =
      options.env[OUTSIDE[part]] || (part === 'kafka' ? options.env['KAFKA_BROKER'] : undefined);
    if (address) outside[part] = address;
  }
  // Mistakes in what is set are told before anything is made or started.
  const { providers } = loadConfig(options.env, []);
  const secrets = await localSecrets(dataDir, providers);
  const base: NodeJS.ProcessEnv = {
    ...secrets,
    TRUST_USER_ID_HEADER: 'true',
    USERS_MAY_TOP_UP: 'true',
    WEBHOOK_ALLOWED_PRIVATE_CIDRS: '127.0.0.1/32,::1/128',
    API_PORT: String(await chosenPort(8080, options.ports)),
    METRICS_PORT: String(await chosenPort(9464, options.ports)),
    ...(outside.temporal === undefined && CLEAR_PAYLOADS),
    ...withoutEmpty(options.env),
  };

  const wanted = parts.filter((part) => outside[part] === undefined);
  const embedded =
    wanted.length > 0
      ? await (
          await import('../embedded/stack.js')
        ).startEmbeddedStack({
          dataDir,
          ...(lock && { lock }),
          outside,
          parts,
          ports: options.ports,
          searchAttributes: SEARCH_ATTRIBUTES,
          report,
        })
      : undefined;
  const address = (part: EmbeddedPart) => outside[part] ?? embedded?.endpoints[part] ?? '';
  const temporalUi = embedded?.endpoints.temporalUi || base['TEMPORAL_UI_URL'] || '';
  const env: NodeJS.ProcessEnv = { ...base, ...(temporalUi ? { TEMPORAL_UI_URL: temporalUi } : {}) };
  for (const part of parts) env[OUTSIDE[part]] = address(part);

  const config = loadConfig(
    env,
    parts.length === ALL_PARTS.length ? [...ROLE_NEEDS.api, ...ROLE_NEEDS.migrate] : [],
  );
  const endpoints: Endpoints = {
    api: `http://${config.API_HOST}:${config.API_PORT}`,
    temporal: address('temporal'),
    temporalUi,
    kafka: address('kafka'),
    postgres: address('postgres'),
    clickhouse: address('clickhouse'),
    metrics: `http://${config.METRICS_HOST}:${config.METRICS_PORT}/metrics`,
  };
  // The database URL carries its password.
  await writeFile(path.join(dataDir, 'endpoints.json'), `${JSON.stringify(endpoints, null, 2)}\n`, {
    mode: 0o600,
  });
  return { env, config, endpoints, embedded, stop: async () => embedded?.stop() };
}

/** An environment that names no part outside, so that every part is embedded. */
export function withoutAddresses(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const outside = new Set<string>([...Object.values(OUTSIDE), 'KAFKA_BROKER']);
  return Object.fromEntries(Object.entries(env).filter(([name]) => !outside.has(name)));
}

function withoutEmpty(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
}

/** The standard port when it is free, otherwise one that the system picks. */
async function chosenPort(standard: number, ports: 'standard' | 'free'): Promise<number> {
  if (ports === 'standard' && (await freePort(standard)) === standard) return standard;
  return freePort(0);
}

function freePort(wanted: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(-1) : reject(error),
    );
    server.listen(wanted, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
