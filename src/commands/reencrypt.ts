import type { Command } from 'commander';
import { dataDir, say } from './command';

export function register(program: Command): void {
  program
    .command('reencrypt')
    .description(
      're-encrypts every secret with ENCRYPTION_KEY, after which ENCRYPTION_KEYS_OLD can be emptied',
    )
    .action(async () => {
      const { runReencrypt } = await import('../operations/reencrypt.js');
      await runReencrypt(dataDir(), say);
    });
}
