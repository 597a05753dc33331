import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from '@temporalio/client';
import type { Client as PgClient } from 'pg';
import type { Config } from '../../src/platform/config';
import { createKafka, ensureTopics } from '../../src/platform/kafka';
import { Lifecycle } from '../../src/platform/lifecycle';
import { createLogger, type Logger } from '../../src/platform/logging';
import { openDatabase, type Database } from '../../src/platform/postgres';
import { connectTemporal, registerSearchAttributes } from '../../src/platform/temporal';
import { allTopics } from '../../src/platform/topics';
import { createRoleContext, type RoleContext } from '../../src/roles/context';
import { testConfig } from './test-config';
import { SERVICE_LOGIN, sharedStack, TEMPLATE_DATABASE, withDatabase } from './shared-stack';

export interface TestSpace {
  /** Unique in this run. */
  name: string;
  /** The environment of a role in this space; child processes take it as it is. */
  env: Record<string, string>;
  config: Config;
  log: Logger;
  /** Its database as the owner of the tables, for what remit itself may not do. Roles have the rights of `remit_app`. */
  ownerUrl: string;
}

export interface SpaceOptions {
  /** Variables, and settings that no variable sets; child processes get the variables alone. */
  env?: Record<string, string>;
  /** Create this space's topics in Kafka. */
  topics?: boolean;
  /** Create a Temporal namespace of this space's own, so that no other test's worker takes its tasks. */
  temporal?: boolean;
}

/** A database, topics, consumer groups and (when asked for) a Temporal namespace that no other test uses. */
export async function createTestSpace(options: SpaceOptions = {}): Promise<TestSpace> {
  const stack = sharedStack();
  const name = `t${randomBytes(5).toString('hex')}`;
  const database = new URL(stack.postgres);
  await withDatabase(stack.postgres, (client) => cloneTemplate(client, name));
  database.pathname = name;
  const ownerUrl = database.toString();
  database.username = SERVICE_LOGIN.user;
  database.password = SERVICE_LOGIN.password;
  const { config, env } = testConfig({
    NODE_ENV: 'test',
    LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'fatal',
    DATABASE_URL: database.toString(),
    // Machines that run tests are slower than a statement should ever be.
    DATABASE_CONNECT_TIMEOUT_MS: '10000',
    DATABASE_STATEMENT_TIMEOUT_MS: '15000',
    // And late for reasons of their own, in which they are answered all the same.
    API_EVENT_LOOP_DELAY_MAX_MS: '60000',
    KAFKA_BROKERS: stack.kafka,
    KAFKA_TOPIC_PARTITIONS: '3',
    KAFKA_GROUP_PREFIX: name,
    TEMPORAL_ADDRESS: stack.temporal,
    TEMPORAL_NAMESPACE: options.temporal ? name : 'default',
    CLICKHOUSE_URL: stack.clickhouse,
    CLICKHOUSE_DATABASE: name,
    API_PORT: '0',
    METRICS_PORT: '0',
    TRUST_USER_ID_HEADER: 'true',
    USERS_MAY_TOP_UP: 'true',
    WEBHOOK_ALLOWED_PRIVATE_CIDRS: '127.0.0.1/32,::1/128',
    AUTH_JWT_SECRET: 'a key for tests only, 32 characters or more',
    PROVIDER_SECRET_DECARD: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
    ORDER_WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 8).toString('base64')}`,
    ENCRYPTION_KEY: Buffer.alloc(32, 9).toString('base64'),
    KAFKA_TOPIC_PREFIX: `${name}.`,
    TOPIC_PAYMENT_WEBHOOK_PREFIX: `${name}.payment.webhook.`,
    TOPIC_PURCHASES: `${name}.purchases`,
    ...options.env,
  });
  const log = createLogger(config, 'test');
  await Promise.all([
    options.topics ? ensureTopics(createKafka(config, log), allTopics(config), config) : undefined,
    options.temporal ? createNamespace(config) : undefined,
  ]);
  return { name, env, config, log, ownerUrl };
}

/** CREATE DATABASE … TEMPLATE fails while another clone of the template is being made: wait for one's turn. */
async function cloneTemplate(client: PgClient, name: string): Promise<void> {
  await client.query('SELECT pg_advisory_lock(1)');
  await client.query(`CREATE DATABASE ${name} TEMPLATE ${TEMPLATE_DATABASE}`);
}

/** Registers the namespace of a configuration, and waits until it can be used. */
export async function createNamespace(config: Config): Promise<void> {
  const client = await connectTemporal(config);
  try {
    await client.workflowService.registerNamespace({
      namespace: config.TEMPORAL_NAMESPACE,
      workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
    });
    // The frontend learns of a new namespace by refreshing its cache.
    await eventually(() => registerSearchAttributes(client), 30_000);
    await eventually(
      () =>
        client.workflowService.listWorkflowExecutions({
          namespace: config.TEMPORAL_NAMESPACE,
          query: 'RemitStatus = "x"',
        }),
      30_000,
    );
  } finally {
    await (client.connection as Connection).close();
  }
}

/** The pools of a space's database. */
export function openTestDatabase(space: TestSpace): Database {
  return openDatabase(space.config, space.log);
}

/** The same as the owner of the tables: for tests that tamper, or look after what a migration does. */
export function openOwnerDatabase(space: TestSpace): Database {
  return openDatabase({ ...space.config, DATABASE_URL: space.ownerUrl }, space.log);
}

export interface RunningRoles<T> {
  context: RoleContext;
  lifecycle: Lifecycle;
  started: T;
  stop(): Promise<void>;
}

/** Runs roles in this process, with the shutdown order that processes have. */
export async function runRoles<T>(
  space: TestSpace,
  start: (context: RoleContext) => Promise<T>,
): Promise<RunningRoles<T>> {
  const lifecycle = new Lifecycle(space.log, 30_000);
  const context = createRoleContext(space.config, space.log, lifecycle);
  const started = await start(context);
  return { context, lifecycle, started, stop: () => lifecycle.stop() };
}

/** Tries until it does not throw, for at most `timeoutMs`; then throws the last error. */
export async function eventually<T>(
  attempt: () => Promise<T> | T,
  timeoutMs = 60_000,
  pauseMs = 50,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(pauseMs);
    }
  }
}

/** A port that was free a moment ago, for a child process that must be told one. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
