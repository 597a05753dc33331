import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { Connection } from '@temporalio/client';
import { Client } from 'pg';
import { stringify } from 'yaml';
import type { PartCommand, PartServer } from '../../../src/embedded/part-process';
import { ports } from './ports';

const SERVICES = ['frontend', 'history', 'matching', 'worker'] as const;
const DATABASES = { temporal: 'temporal', visibility: 'temporal_visibility' } as const;
const SHARDS = 32;
const HEALTH = 'temporal.api.workflowservice.v1.WorkflowService';
/** grpc.health.v1.HealthCheckResponse.ServingStatus */
const SERVING = 1;
const run = promisify(execFile);

/** Creates Temporal's two databases with the schema of this version. */
export async function createTemporalDatabases(sqlTool: string, url: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  for (const name of Object.values(DATABASES)) {
    await client.query(`CREATE DATABASE ${name}`);
    // As deploy/postgres/10-roles.sh has it for the login.
    await client.query(`ALTER DATABASE ${name} SET idle_in_transaction_session_timeout = '10s'`);
  }
  await client.end();
  const { hostname, port, username, password } = new URL(url);
  for (const [schema, name] of Object.entries(DATABASES)) {
    const tool = (...args: string[]) =>
      run(sqlTool, [
        '--plugin', 'postgres12', '--ep', hostname, '--port', port, '--user', username, '--password', password,
        '--database', name, ...args,
      ]); // prettier-ignore
    await tool('setup-schema', '--version', '0.0');
    await tool('update-schema', '--schema-name', `postgresql/v12/${schema}`);
  }
}

/** One node of Temporal with all four services, of several that share a database and find each other through it. */
export class TemporalNode implements PartServer {
  readonly part = 'temporal';
  private readonly of: Record<string, number> = {};

  constructor(
    private readonly server: string,
    private readonly dir: string,
    private readonly database: { address: string; user: string; password: string },
  ) {}

  /** Of the frontend; known after the first start. */
  get address(): string {
    return `127.0.0.1:${this.of['frontend']}`;
  }

  async prepare(): Promise<void> {
    mkdirSync(path.join(this.dir, 'config'), { recursive: true });
    if (Object.keys(this.of).length === 0)
      for (const service of [...SERVICES, ...SERVICES.map((each) => `${each} membership`), 'http'])
        this.of[service] = await ports.free();
    const limits = path.join(this.dir, 'config', 'dynamic.yaml');
    // A ring with a node that is gone is noticed by its neighbours within seconds, as the server's defaults have it.
    writeFileSync(limits, stringify({ 'frontend.namespaceRPS': [{ value: 100_000 }] }));
    writeFileSync(path.join(this.dir, 'config', 'node.yaml'), stringify(this.config(limits)));
  }

  command(): PartCommand {
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('TEMPORAL_')),
    );
    return {
      command: this.server,
      args: ['--root', this.dir, '--config', 'config', '--env', 'node', '--allow-no-auth', 'start'],
      cwd: this.dir,
      env,
      stopSignal: 'SIGTERM',
      stopGraceMs: 20_000,
    };
  }

  isReady(): Promise<boolean> {
    return isFrontendUp(this.address);
  }

  advice(): string {
    return 'look at the log.';
  }

  private config(limits: string): unknown {
    const sql = (databaseName: string, maxConns: number) => ({
      sql: {
        pluginName: 'postgres12',
        databaseName,
        connectAddr: this.database.address,
        connectProtocol: 'tcp',
        user: this.database.user,
        password: this.database.password,
        maxConns,
        maxIdleConns: maxConns,
        maxConnLifetime: '1h',
      },
    });
    return {
      log: { stdout: true, level: 'warn' },
      persistence: {
        defaultStore: 'default',
        visibilityStore: 'visibility',
        numHistoryShards: SHARDS,
        datastores: { default: sql(DATABASES.temporal, 20), visibility: sql(DATABASES.visibility, 5) },
      },
      global: { membership: { maxJoinDuration: '30s', broadcastAddress: '127.0.0.1' } },
      services: Object.fromEntries(
        SERVICES.map((service) => [
          service,
          {
            rpc: {
              grpcPort: this.of[service],
              membershipPort: this.of[`${service} membership`],
              bindOnLocalHost: true,
              ...(service === 'frontend' && { httpPort: this.of['http'] }),
            },
          },
        ]),
      ),
      clusterMetadata: {
        enableGlobalNamespace: false,
        failoverVersionIncrement: 10,
        masterClusterName: 'active',
        currentClusterName: 'active',
        clusterInformation: {
          active: {
            enabled: true,
            initialFailoverVersion: 1,
            rpcName: 'frontend',
            rpcAddress: this.address,
          },
        },
      },
      dcRedirectionPolicy: { policy: 'noop' },
      dynamicConfigClient: { filepath: limits, pollInterval: '60s' },
    };
  }
}

/** What a load balancer asks a frontend. */
export async function isFrontendUp(address: string): Promise<boolean> {
  const connection = Connection.lazy({ address, connectTimeout: 1_500 });
  try {
    const { status } = await connection.withDeadline(Date.now() + 1_500, () =>
      connection.healthService.check({ service: HEALTH }),
    );
    return Number(status) === SERVING;
  } catch {
    return false;
  } finally {
    await connection.close().catch(() => undefined);
  }
}
