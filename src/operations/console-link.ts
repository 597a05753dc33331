import path from 'node:path';
import type { ConsoleRole } from '../contracts/console';
import { TenantId, UserId } from '../contracts/http';
import { createConsoleLink } from '../domain/console-sessions';
import { loadConfig, type Config } from '../platform/config';
import { createLogger } from '../platform/logging';
import { openDatabase, type Database } from '../platform/postgres';
import { localAccess } from './local-access';

export interface ConsoleLinkCommand {
  subject: string;
  tenant?: string;
  role: ConsoleRole;
  platform: boolean;
  /** Seconds within which the link must be used. */
  expiresS: number;
}

const MAX_EXPIRY_S = 24 * 3_600;

/**
 * A link that logs in to the console once. The code is in its fragment, which browsers send to nobody.
 * @throws Error that says which part of the request is not usable.
 */
export async function consoleLink(
  config: Pick<Config, 'DEFAULT_TENANT' | 'CONSOLE_URL'>,
  database: Pick<Database, 'pool'>,
  api: string,
  { subject, tenant, role, platform, expiresS }: ConsoleLinkCommand,
): Promise<string> {
  const tenantId = tenant ?? config.DEFAULT_TENANT;
  if (!UserId.safeParse(subject).success) throw new Error(`subject ${JSON.stringify(subject)} is not usable`);
  if (!TenantId.safeParse(tenantId).success)
    throw new Error(`tenant ${JSON.stringify(tenantId)} is not usable`);
  if (expiresS < 1 || expiresS > MAX_EXPIRY_S)
    throw new Error(`the link must expire within 1 to ${MAX_EXPIRY_S} seconds`);
  const code = await createConsoleLink(database, { tenantId, subject, role, platform }, expiresS * 1_000);
  const url = new URL('/console/login', config.CONSOLE_URL ?? api);
  url.hash = code;
  return url.toString();
}

/**
 * `remit console-link`: a link to the console of the environment's database, or of the local installation.
 * @throws ConfigError without a database, and Error that says what is not usable.
 */
export async function runConsoleLink(dataDir: string, command: ConsoleLinkCommand): Promise<string> {
  const { config, endpoints } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const env = { ...process.env, DATABASE_URL: config.DATABASE_URL ?? endpoints.postgres };
  const { DATABASE_URL } = loadConfig(env, ['DATABASE_URL']);
  const database = openDatabase({ ...config, DATABASE_URL }, createLogger(config, 'console-link'));
  try {
    const api = endpoints.api ?? `http://${config.API_HOST}:${config.API_PORT}`;
    return await consoleLink(config, database, api, command);
  } finally {
    await database.close();
  }
}
