import type { Command } from 'commander';
import type { ReplayCommand } from '../operations/replay-histories';
import { atLeastOne, dataDir, say } from './command';

const HISTORIES_MAX = 1_000;

export function register(program: Command): void {
  program
    .command('replay')
    .description(
      'replays histories of the namespace on the workflow code of this remit, before it is rolled out; exits 1 when one does not fit, or can’t be read',
    )
    .option(
      '--query <query>',
      "which, in the words of Temporal’s lists (WorkflowType = 'paymentWorkflow'); what runs, and what ended in the last day, when left out",
    )
    .option('--limit <count>', 'histories at most, the latest first', atLeastOne, HISTORIES_MAX)
    .option('--json', 'one JSON document')
    .action(async (options: ReplayCommand) => {
      const { withTemporal } = await import('../operations/rollout.js');
      const { runReplay } = await import('../operations/replay-histories.js');
      process.exit(
        await withTemporal(dataDir(), (client, config) => runReplay(client, config, options, say)),
      );
    });
}
