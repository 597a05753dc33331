import { Option, type Command } from 'commander';
import type { ConsoleLinkCommand } from '../operations/console-link';
import { atLeastOne, dataDir, say } from './command';

export function register(program: Command): void {
  program
    .command('console-link')
    .description('prints a link that logs in to the console once; it needs access to the database')
    .option('--subject <id>', 'who logs in, as the audit log names them', 'operator')
    .option('--tenant <id>', 'tenant; DEFAULT_TENANT when left out')
    .addOption(
      new Option('--role <role>', 'what they may do')
        .choices(['viewer', 'operator', 'admin'])
        .default('admin'),
    )
    .option('--no-platform', 'without what belongs to no tenant: dead letters, lag, purchases')
    .option('--expires-s <seconds>', 'the link must be used within so many seconds', atLeastOne, 900)
    .action(async (options: ConsoleLinkCommand) => {
      const { runConsoleLink } = await import('../operations/console-link.js');
      say(await runConsoleLink(dataDir(), options));
    });
}
