import type { Command } from 'commander';
import type { ProduceCommand } from '../operations/produce';
import { dataDir, integer, say, share } from './command';

export function register(program: Command): void {
  program
    .command('produce')
    .description('plays the producer of purchases: lines of files, or generated messages')
    .argument('[files...]', 'one message a line, as in samples/purchases/; generated when left out')
    .option('--count <messages>', 'how many to generate', integer, 10_000)
    .option('--rate <per second>', 'messages a second; 0 is as fast as Kafka takes them', integer, 0)
    .option('--bad <share>', 'share of generated messages that are broken, 0 to 1', share, 0.001)
    .option('--seed <number>', 'the same seed gives the same messages', integer, 1)
    .option('--topic <name>', 'TOPIC_PURCHASES when left out')
    .action(async (files: string[], options: ProduceCommand) => {
      const { runProduce } = await import('../operations/produce.js');
      await runProduce(dataDir(), files, options, say);
    });
}
