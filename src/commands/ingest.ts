import type { Command } from 'commander';
import { runAsRole } from './command';

export function register(program: Command): void {
  program
    .command('ingest')
    .description('purchases from Kafka into ClickHouse, in batches')
    .action(() => runAsRole('ingest'));
}
