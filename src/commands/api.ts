import type { Command } from 'commander';
import { runAsRole } from './command';

export function register(program: Command): void {
  program
    .command('api')
    .description('HTTP in: provider webhooks, accounts, orders, /api/v1; OpenAPI at /openapi.json')
    .action(() => runAsRole('api'));
}
