import { Option, type Command } from 'commander';
import { callerPath } from '../platform/project';
import { atLeastOne, confirmUnless, dataDir, moment, say } from './command';

const HELP = `
  remit restore /backup --to 2026-11-26T05:00:00Z                        the embedded PostgreSQL, stopped
  remit restore /backup --to 2026-11-26T05:00:00Z --into /var/lib/…/data  a folder for a PostgreSQL of yours to start on

Every file, and every page and record of the log, is checked before. What was there before is moved aside, never deleted. With the embedded one the
log is applied at once, and its next start brings Kafka and Temporal to agree; with yours, stop all roles first, and then:
remit migrate, remit recover --restored-to <the time>, start the roles, remit reconcile.
A time too early? Restore again from the same backups: what the restored server wrote meanwhile is on a timeline of its own, and
--timeline names the one to follow. docs/backup.md has the whole procedure, and what can not come back.`;

export function register(program: Command): void {
  program
    .command('restore')
    .description('builds PostgreSQL’s data folder as it was at a point in time')
    .addHelpText('after', HELP)
    .argument('<folder>', 'of backups, made by remit backup')
    .addOption(
      new Option(
        '--to <time>',
        'the state of this time (2026-11-26T05:00:00Z); the newest when left out',
      ).argParser(moment),
    )
    .option(
      '--into <folder>',
      'build it here, for a PostgreSQL of the same major version; empty or not there',
    )
    .option('--timeline <number>', 'follow this timeline; the newest when left out', atLeastOne)
    .option('--yes', 'do not ask', false)
    .option('--json', 'one JSON document', false)
    .action(
      async (
        folder: string,
        {
          yes,
          into,
          ...options
        }: { to?: Date; into?: string; timeline?: number; yes: boolean; json: boolean },
      ) => {
        const { runRestore } = await import('../operations/backup/run-restore.js');
        const { untilStopped } = await import('../operations/until-stopped.js');
        const embedded = into === undefined ? await embeddedServer() : undefined;
        process.exit(
          await runRestore(
            dataDir(),
            {
              ...options,
              embedded,
              folder: callerPath(folder),
              ...(into !== undefined && { into: callerPath(into) }),
              confirm: confirmUnless(yes),
              signal: untilStopped(),
            },
            say,
          ),
        );
      },
    );
}

/** The image has no embedded servers. */
async function embeddedServer() {
  try {
    const [{ runRecovery, LogEndedEarly, stopServerOn }, { stopOrphans }] = await Promise.all([
      import('../embedded/postgres-recovery.js'),
      import('../embedded/part-process.js'),
    ]);
    return { runRecovery, LogEndedEarly, stopOrphans, stopServerOn };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}
