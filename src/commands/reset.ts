import type { Command } from 'commander';
import { confirmUnless, dataDir, say } from './command';

const HELP = `
Only a folder that bears remit's own marker (.remit-data-dir), only what remit itself makes in it, and never while a stack
runs on it. What others have put there stays.`;

export function register(program: Command): void {
  program
    .command('reset')
    .description('deletes the data of the local stack (.remit/); says what, and asks first unless --yes')
    .addHelpText('after', HELP)
    .option('--yes', 'do not ask')
    .action(async ({ yes }: { yes?: boolean }) => {
      const { inspectDataDir } = await import('../platform/data-dir.js');
      const { describeReset, resetDataDir } = await import('../embedded/reset.js');
      const contents = inspectDataDir(dataDir());
      if (contents === undefined) return say(`There is no ${dataDir()}: nothing to delete.`);
      say(describeReset(contents));
      if (!(await confirmUnless(yes)('Delete this?'))) return say('Nothing was deleted.');
      await resetDataDir(dataDir());
      say('Deleted.');
    });
}
