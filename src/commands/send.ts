import { Option, type Command } from 'commander';
import type { SendOptions } from '../operations/send';
import { dataDir, say } from './command';

export function register(program: Command): void {
  program
    .command('send')
    .description('plays a provider: signs one of its webhooks and posts it to the API')
    .argument('[provider]', 'whose webhook; DeCard’s for --transaction when left out')
    .argument('[sample]', 'what it says: see --list')
    .option('--list', 'the samples of all providers, or of the one', false)
    .option('--id <id>', 'id of the payment, payout or order that the sample is about')
    .option('--user <id>', 'its user, for providers that say so', 'user123')
    .option('--transaction <id>', 'without a sample: id of the payment or payout')
    .addOption(new Option('--type <type>', 'what it is').choices(['payment', 'payout']).default('payment'))
    .addOption(
      new Option('--status <status>', 'what became of it')
        .choices(['pending', 'success', 'failed', 'expired'])
        .default('success'),
    )
    .option('--amount <amount>', 'in major units: 100 is 100.00')
    .option('--currency <code>', 'ISO 4217', 'TRY')
    .option('--event-id <id>', 'the event’s id; a fresh one when left out (repeat one to play a duplicate)')
    .option('--url <url>', 'the API; the local one when left out')
    .option('--secret <secret>', 'as PROVIDER_SECRET_… has it; the local one when left out')
    .action(async (provider: string | undefined, sample: string | undefined, options: SendOptions) => {
      const { runSend } = await import('../operations/send.js');
      process.exitCode = await runSend(dataDir(), [provider, sample], options, say);
    });
}
