import { InvalidArgumentError, type Command } from 'commander';
import type { Client } from '@temporalio/client';
import type * as Operations from '../operations/rollout';
import { dataDir, say } from './command';

const HELP = `
A version of the workers is a hash of their workflow code. With TEMPORAL_WORKER_VERSIONING=true new workers get nothing until
they are given a share:

  remit replay            do the histories that exist replay on the new code?
  remit rollout ramp 10   a tenth of what begins
  remit rollout promote   everything that begins
  remit rollout rollback  ends a ramp, or goes back to the version before

Payments and orders end on the version that they began on; what lives for days goes over. docs/rollouts.md`;

function percent(value: string): number {
  const number = Number(value);
  if (!/^\d{1,3}(\.\d+)?$/.test(value) || number > 100)
    throw new InvalidArgumentError('a share from 0 to 100 is needed');
  return number;
}

export function register(program: Command): void {
  const rollout = program
    .command('rollout')
    .description('shows and changes which version of the workers gets new workflows')
    .addHelpText('after', HELP);
  const run = async (operation: (operations: typeof Operations, client: Client) => Promise<void>) => {
    const operations = await import('../operations/rollout.js');
    await operations.withTemporal(dataDir(), (client) => operation(operations, client));
  };
  rollout
    .command('status')
    .description('the versions, their share, and what still runs on each')
    .option('--json', 'one JSON document')
    .action((options: Operations.RolloutCommand) =>
      run((of, client) => of.rolloutStatus(client, options, say)),
    );
  const changing = (name: string, description: string) =>
    rollout
      .command(name)
      .description(description)
      .option(
        '--force',
        'also when no worker of the version polls, or it lacks a task queue of the current one',
        false,
      );
  changing('ramp', 'gives a version a share of what begins')
    .argument('<percent>', 'from 0 to 100', percent)
    .option('--build <id>', 'the version; that of this remit when left out')
    .action((share: number, options: Operations.RolloutCommand) =>
      run((of, client) => of.rolloutRamp(client, share, options, say)),
    );
  changing('promote', 'gives a version all that begins')
    .option('--build <id>', 'the version; that of this remit when left out')
    .action((options: Operations.RolloutCommand) =>
      run((of, client) => of.rolloutPromote(client, options, say)),
    );
  changing('rollback', 'ends a ramp; without one, makes the version before the current one again').action(
    (options: Operations.RolloutCommand) => run((of, client) => of.rolloutRollback(client, options, say)),
  );
}
