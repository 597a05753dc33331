import type { Command } from 'commander';
import { runAsRole } from './command';

export function register(program: Command): void {
  program
    .command('relay')
    .description('publishes the outbox to Kafka; replicas stand by')
    .action(() => runAsRole('relay'));
}
