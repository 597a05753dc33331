import type { Command } from 'commander';
import type { ListenCommand } from '../operations/listen';
import { dataDir, integer, say } from './command';

export function register(program: Command): void {
  program
    .command('listen')
    .description(
      'subscribes, prints the webhooks that arrive and forwards them to a local URL; unsubscribes at the end',
    )
    .option('--events <types...>', 'event types or wildcards', ['*'])
    .option('--forward <url>', 'forward verified webhooks to it, and answer as it does')
    .option('--port <port>', 'of 127.0.0.1; 0 takes a free one', integer, 0)
    .option('--public-url <url>', 'where remit reaches this listener, when it is not on this machine')
    .option('--url <url>', 'the API; the local one when left out')
    .option('--token <token>', 'a bearer token; one is signed with AUTH_JWT_SECRET when left out')
    .action(async (options: ListenCommand) => {
      const { runListen } = await import('../operations/listen.js');
      await runListen(dataDir(), options, say);
    });
}
