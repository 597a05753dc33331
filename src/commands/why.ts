import type { Command } from 'commander';
import type { WhyCommand } from '../operations/why';
import { dataDir, say } from './command';

export function register(program: Command): void {
  program
    .command('why')
    .description('everything that happened to one thing, and what will happen to it and when')
    .argument(
      '<id>',
      'of a payment, payout, order, dispute, event, delivery, subscription, replay or user; a provider’s reference, or a workflow’s id',
    )
    .option('--json', 'one JSON document', false)
    .option('--tenant <id>', 'whose it is; DEFAULT_TENANT when left out')
    .option('--url <url>', 'the API; the local one when left out')
    .option('--token <token>', 'a bearer token; one is signed with AUTH_JWT_SECRET when left out')
    .action(async (id: string, options: WhyCommand) => {
      const { runWhy } = await import('../operations/why.js');
      process.exitCode = await runWhy(dataDir(), id, options, say);
    });
}
