import { mkdtemp } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { migratePostgres } from '../../src/platform/postgres-migrations';
import { SEARCH_ATTRIBUTES } from '../../src/contracts/workflows';
import { startEmbeddedStack, type EmbeddedStack } from '../../src/embedded/stack';
import { SERVICE_LOGIN, TEMPLATE_DATABASE, withDatabase, type SharedStack } from './shared-stack';

declare global {
  var remitTestStack: EmbeddedStack | undefined;
  var remitTestDataDir: string | undefined;
}

/** Starts one real PostgreSQL, Kafka, Temporal and ClickHouse for all tests; each test file gets its own space in them. */
export default async function globalSetup(): Promise<void> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), 'remit-test-'));
  globalThis.remitTestDataDir = dataDir;
  const stack = await startEmbeddedStack({
    dataDir,
    outside: {},
    ports: 'free',
    searchAttributes: SEARCH_ATTRIBUTES,
    report: (line) => process.stderr.write(`  ${line}\n`),
  });
  globalThis.remitTestStack = stack;
  const shared: SharedStack = { ...stack.endpoints, dataDir };
  process.env['REMIT_TEST_STACK'] = JSON.stringify(shared);
  await withDatabase(shared.postgres, (client) => client.query(`CREATE DATABASE ${TEMPLATE_DATABASE}`));
  const template = new URL(shared.postgres);
  template.pathname = TEMPLATE_DATABASE;
  await migratePostgres(template.toString());
  const { user, password } = SERVICE_LOGIN;
  await withDatabase(shared.postgres, (client) =>
    client.query(`CREATE ROLE ${user} LOGIN PASSWORD '${password}' IN ROLE remit_app`),
  );
}
