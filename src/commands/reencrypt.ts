import type { Command } from 'commander';
import { dataDir, say } from './command';

export function register(program: Command): void {
  program
    .command('reencrypt')
    .description(
      're-encrypts every secret in PostgreSQL with ENCRYPTION_KEY; Temporal’s histories keep the key of their time',
    )
    .action(async () => {
      const { runReencrypt } = await import('../operations/reencrypt.js');
      await runReencrypt(dataDir(), say);
    });
}
