import type { Command } from 'commander';
import { runAsRole } from './command';

export function register(program: Command): void {
  program
    .command('bridge')
    .description('Kafka to Temporal: starts or signals one workflow per payment and order')
    .action(() => runAsRole('bridge'));
}
