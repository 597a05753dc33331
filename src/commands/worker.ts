import { Option, type Command } from 'commander';
import { TASK_QUEUES, type TaskQueue } from '../contracts/workflows/names';
import { runAsRole } from './command';

export function register(program: Command): void {
  program
    .command('worker')
    .description('runs workflows and activities')
    .addOption(
      new Option('--queue <names...>', 'task queues to serve')
        .choices(Object.keys(TASK_QUEUES))
        .default(Object.keys(TASK_QUEUES)),
    )
    .action(async ({ queue }: { queue: TaskQueue[] }) => {
      const { startWorker } = await import('../roles/worker.js');
      await runAsRole('worker', (context) => startWorker(context, queue));
    });
}
