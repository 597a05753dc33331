import { Client } from 'pg';
import type { EmbeddedEndpoints } from '../../src/embedded/stack';

/** The database that every test database is cloned from. */
export const TEMPLATE_DATABASE = 'remit_template';

/** The login that roles have in tests: what compose gives them (deploy/postgres), the rights of `remit_app` and no more. */
export const SERVICE_LOGIN = { user: 'remit_service', password: 'of-tests' };

export interface SharedStack extends EmbeddedEndpoints {
  dataDir: string;
}

/** Where the servers that the global setup started answer. @throws when a test runs without the global setup. */
export function sharedStack(): SharedStack {
  const text = process.env['REMIT_TEST_STACK'];
  if (!text) throw new Error('this test needs the stack that test/support/global-setup.ts starts');
  return JSON.parse(text) as SharedStack;
}

/** Runs something on one connection to a database and closes it. */
export async function withDatabase<T>(url: string, run: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await run(client);
  } finally {
    await client.end();
  }
}
