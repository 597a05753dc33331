import { Option, type Command } from 'commander';
import { callerPath } from '../platform/project';
import { atLeastOne, dataDir, say } from './command';

const HELP = `
A base backup and the write-ahead log, from which remit restore builds PostgreSQL as it was at any time after the backup:

  remit backup /backup                       one base backup, and the log up to now
  remit backup /backup --follow --every 24   keeps receiving the log, and makes a base backup each day
  remit backup ls /backup                    what is there, and which times can be restored
  remit backup verify /backup                reads every file, and every page and record of the log

The folder may be anywhere but on the disk that it is there to outlive. Between two calls the server keeps what was not received
yet (replication slot remit_backup); --follow loses at most the last half second. DATABASE_URL needs a login with REPLICATION;
without it, the embedded PostgreSQL is backed up. The files are those of pg_basebackup and pg_receivewal, and their tools read them.
Not in it: ENCRYPTION_KEY and the other secrets, Kafka, Temporal, ClickHouse (docs/backup.md).`;

export function register(program: Command): void {
  const backup = program
    .command('backup')
    .description('backs PostgreSQL up: base backups and the write-ahead log, for any point in time')
    .addHelpText('after', HELP)
    .enablePositionalOptions()
    .argument('<folder>', 'of the backups of this server; made when it is not there')
    .option(
      '--keep <count>',
      'keep the newest base backups and what they need; all when left out',
      atLeastOne,
    )
    .option('--follow', 'go on receiving the log until Ctrl-C', false)
    .addOption(
      new Option('--every <hours>', 'with --follow: the next base backup after so long').argParser(
        atLeastOne,
      ),
    )
    .action(async (folder: string, options: { keep?: number; follow: boolean; every?: number }) => {
      if (options.every !== undefined && !options.follow)
        backup.error('error: --every needs --follow: without it there is one base backup');
      const { runBackup } = await import('../operations/backup/backup.js');
      process.exit(await runBackup(dataDir(), { ...options, folder: callerPath(folder) }, say));
    });
  for (const [name, verify, what] of [
    [
      'ls',
      false,
      'what is there, and which times can be restored; exits 1 when there is nothing, or the log has a gap',
    ],
    [
      'verify',
      true,
      'reads every file, and every page and record of the log; exits 1 when something is missing or damaged',
    ],
  ] as const)
    backup
      .command(name)
      .description(what)
      .argument('<folder>', 'of backups')
      .option('--json', 'one JSON document', false)
      .action(async (folder: string, { json }: { json: boolean }) => {
        const { runInspect } = await import('../operations/backup/backup.js');
        process.exit(await runInspect(callerPath(folder), { verify, json }, say));
      });
}
