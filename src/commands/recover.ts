import { Option, type Command } from 'commander';
import type { RecoverCommand } from '../operations/recover';
import { confirmUnless, dataDir, integer, moment, say } from './command';

const HELP = `
By itself it is safe at any time, and safe to repeat: it sends the payment requests of undecided orders and the events that
were not handed out once more, and starts the workflows of open disputes, replays and pending deliveries that have none.
What is running, or was decided, stays as it is. Begin with --dry-run.

  Kafka lost         remit migrate, start the roles, remit recover
  Temporal lost      stop the roles, remit migrate, remit recover --replay-from <when it was lost>, start the roles
  PostgreSQL restored  stop the roles, remit migrate, remit recover --restored-to <the restored time>, start the roles

With a time, the bridge's consumer groups go back to the messages since then, less a margin for what was read and not
decided yet; handled once more, messages that were applied change nothing. With --restored-to, running workflows are ended
too: they remember what the database does not. Then wait until consumer lag and outbox are empty, and remit reconcile.
docs/operations.md has each procedure, and what can not be brought back.`;

export function register(program: Command): void {
  program
    .command('recover')
    .description('finds stalled work, as after a restore or the loss of a server, and starts it again')
    .addHelpText('after', HELP)
    .option('--dry-run', 'say what would be done; change nothing', false)
    .addOption(
      new Option('--restored-to <time>', 'PostgreSQL was restored to this time (2026-11-26T05:00:00Z)')
        .argParser(moment)
        .conflicts('replayFrom'),
    )
    .addOption(
      new Option('--replay-from <time>', 'process the messages since this time again').argParser(moment),
    )
    .option(
      '--margin <minutes>',
      'start this much before that time (UNKNOWN_TRANSACTION_WAIT_MS and an hour when left out)',
      integer,
    )
    .option('--yes', 'do not ask', false)
    .option('--json', 'one JSON document', false)
    .action(async ({ yes, ...options }: Omit<RecoverCommand, 'confirm'> & { yes: boolean }) => {
      const { runRecover } = await import('../operations/recover.js');
      process.exit(await runRecover(dataDir(), { ...options, confirm: confirmUnless(yes) }, say));
    });
}
