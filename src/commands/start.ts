import type { Command } from 'commander';
import { VERSION } from '../platform/project';
import { dataDir, say, type Say } from './command';

const HELP = `
Data is kept in .remit/ and survives a restart. A part is replaced by an outside one when its variable is set:
DATABASE_URL, KAFKA_BROKERS, TEMPORAL_ADDRESS, CLICKHOUSE_URL. Stop with Ctrl-C.`;

export function register(program: Command): void {
  program
    .command('start')
    .description(
      'everything on this machine: the embedded stack (PostgreSQL, Kafka, Temporal with UI, ClickHouse) and all roles',
    )
    .addHelpText('after', HELP)
    .action(() => runStart(dataDir(), say));
}

/** Whoever reads this terminal. */
const LOCAL_OPERATOR = { subject: 'operator', role: 'admin', platform: true, expiresS: 12 * 3_600 } as const;

/** `remit start`: runs until a signal, then stops the roles in order and the embedded parts last. */
async function runStart(dataDir: string, say: Say): Promise<void> {
  const { startLocalRemit } = await import('../roles/start.js');
  const startedAt = Date.now();
  let stopEarly: (() => void) | undefined;
  // Until the roles run, a signal has nothing to drain: the parts are stopped by their own exit handling.
  const early = new Promise<never>((_, reject) => {
    stopEarly = () => reject(new Error('interrupted while starting'));
    process.once('SIGINT', stopEarly);
    process.once('SIGTERM', stopEarly);
  });
  const report = (line: string) => say(`  ${line}`);
  const starting = startLocalRemit({
    env: { NODE_ENV: 'development', LOG_LEVEL: 'info', ...process.env },
    dataDir,
    ports: 'standard',
    report,
    beforeRoles: async (config, log) => {
      const { recoverIfRestored } = await import('../operations/restored.js');
      return recoverIfRestored(dataDir, config, log, report);
    },
  });
  const remit = await Promise.race([starting, early]);
  if (stopEarly) {
    process.removeListener('SIGINT', stopEarly);
    process.removeListener('SIGTERM', stopEarly);
  }
  remit.lifecycle.installProcessHandlers();

  const { consoleLink } = await import('../operations/console-link.js');
  const { context } = remit;
  const link = await consoleLink(context.config, context.database(), remit.endpoints.api, LOCAL_OPERATOR);
  const { api, temporal, temporalUi, kafka, postgres, clickhouse, metrics } = remit.endpoints;
  say(`
remit ${VERSION} is ready after ${((Date.now() - startedAt) / 1000).toFixed(1)} s

  Console       ${link}
                (logs in once, within 12 hours; npm run remit -- console-link prints another)
  API           ${api}          to read and try at ${api}/docs
  Temporal UI   ${temporalUi || '(outside)'}
  Temporal      ${temporal}
  Kafka         ${kafka}
  PostgreSQL    ${withoutPassword(postgres)}
  ClickHouse    ${withoutPassword(clickhouse)}
  Metrics       ${metrics}

  All addresses are in ${dataDir}/endpoints.json. Try, in another terminal:

    npm run demo -- --endpoints ${dataDir}/endpoints.json
    npm run remit -- token          a bearer token for ${api}/api/v1

  Ctrl-C stops everything in order; the data stays.
`);
}

/** An address as it may be shown. */
function withoutPassword(address: string): string {
  const url = new URL(address);
  if (url.password) url.password = '***';
  if (url.searchParams.has('password')) url.searchParams.set('password', '***');
  return url.toString();
}
