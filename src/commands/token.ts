import { Option, type Command } from 'commander';
import { atLeastOne, dataDir, say } from './command';

export function register(program: Command): void {
  program
    .command('token')
    .description(
      'prints a bearer token for the API, signed with AUTH_JWT_SECRET (or the one of the local .remit/)',
    )
    .option('--subject <id>', 'the user or client', 'operator')
    .option('--tenant <id>', 'tenant; DEFAULT_TENANT when left out')
    .addOption(
      new Option('--scope <scopes...>', 'what it may do')
        .choices(['read', 'write', 'topup', 'admin', 'platform'])
        .default(['read', 'write']),
    )
    .option('--expires-s <seconds>', 'lifetime in seconds', atLeastOne, 3_600)
    .action(async (options: { subject: string; tenant?: string; scope: string[]; expiresS: number }) => {
      const { runToken } = await import('../operations/token.js');
      say(await runToken(dataDir(), options));
    });
}
