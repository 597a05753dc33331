import type { Command } from 'commander';
import { loadConfig, ROLE_NEEDS } from '../platform/config';
import { createLogger } from '../platform/logging';

export function register(program: Command): void {
  program
    .command('migrate')
    .description(
      'brings PostgreSQL, Kafka topics, Temporal search attributes and ClickHouse to this version; safe to repeat',
    )
    .action(async () => {
      const config = loadConfig(process.env, ROLE_NEEDS.migrate);
      const { migrate } = await import('../roles/migrate.js');
      await migrate(config, createLogger(config, 'migrate'));
      process.exit(0);
    });
}
