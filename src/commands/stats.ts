import type { Command } from 'commander';
import type { StatsOptions } from '../operations/stats';
import { dataDir, integer, say } from './command';

export function register(program: Command): void {
  program
    .command('stats')
    .description('what ingest has stored, in tables and plots: revenue, top products, ingest lag')
    .option('--days <days>', 'days of revenue and products', integer, 30)
    .option('--minutes <minutes>', 'minutes of ingest lag', integer, 60)
    .option('--products <number>', 'longest list of products', integer, 10)
    .option('--json', 'one JSON object', false)
    .action(async (options: StatsOptions) => {
      const { runStats } = await import('../operations/stats.js');
      await runStats(dataDir(), options, say);
    });
}
