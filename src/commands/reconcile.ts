import type { Command } from 'commander';
import type { ReconcileCommand } from '../operations/reconcile';
import { dataDir, integer, say } from './command';

export function register(program: Command): void {
  program
    .command('reconcile')
    .description(
      'proves balances, entries, holds, orders and provider totals against each other; exits 1 when not clean',
    )
    .option('--tenant <id>', 'one tenant, without a look at its workflows; all of them when left out')
    .option(
      '--margin <minutes>',
      'work that has waited for longer counts as stalled (60 when left out)',
      integer,
    )
    .option('--json', 'one JSON document')
    .action(async (options: ReconcileCommand) => {
      const { runReconcile } = await import('../operations/reconcile.js');
      process.exit(await runReconcile(dataDir(), options, say));
    });
}
