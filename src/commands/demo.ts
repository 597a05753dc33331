import type { Command } from 'commander';
import { say } from './command';

export function register(program: Command): void {
  program
    .command('demo')
    .description('plays samples/ through the real interfaces of a throw-away stack and checks the results')
    .option('--endpoints <file>', 'play against a running remit: its .remit/endpoints.json')
    .option(
      '--receiver-host <address>',
      'with --endpoints: the address of this machine at which that remit reaches the webhooks’ receiver',
      '127.0.0.1',
    )
    .option('--keep', 'leave the stack running until Ctrl-C, to look around in the Temporal UI')
    .action(async (options: { endpoints?: string; receiverHost: string; keep?: boolean }) => {
      const { runDemo } = await import('../demo/demo.js');
      process.exit(await runDemo(options, say));
    });
}
