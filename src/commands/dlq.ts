import type { Command } from 'commander';
import type { ApiOptions } from '../operations/api-call';
import { confirmUnless, dataDir, integer, say } from './command';

const HELP = `
The usual way: remit dlq ls, remit dlq show <topic>, fix the cause, remit dlq redrive <topic>, remit dlq purge <topic>.`;

const operations = async () => ({
  ...(await import('../operations/dlq.js')),
  ...(await import('../operations/dlq-access.js')),
});

export function register(program: Command): void {
  const dlq = program
    .command('dlq')
    .description('what could not be handled: look at it, put it back, delete it')
    .addHelpText('after', HELP);
  const DLQ_TOPIC = ['<topic>', 'the dead-letter topic, or the topic it belongs to'] as const;

  dlq
    .command('ls')
    .description('every dead-letter topic, how much lies in it, and why')
    .action(async () => {
      const { atDlqs, listDlqs } = await operations();
      await atDlqs(dataDir(), say, listDlqs);
    });

  dlq
    .command('show')
    .description('the messages of a dead-letter topic that were not redriven, and why they are there')
    .argument(...DLQ_TOPIC)
    .option('--limit <messages>', 'at most so many', integer, 50)
    .option('--values', 'their headers and values too', false)
    .option('--all', 'also what was redriven', false)
    .option('--json', 'one JSON object a line, with the exact bytes in base64', false)
    .action(
      async (
        topic: string,
        options: { limit: number; values: boolean; all: boolean; json: boolean },
      ): Promise<void> => {
        const { atDlqs, showDlq } = await operations();
        await atDlqs(dataDir(), say, (access) => showDlq(access, { topic, ...options }));
      },
    );

  dlq
    .command('redrive')
    .description(
      'puts dead letters back where they came from, each once; exhausted deliveries are sent again',
    )
    .argument(...DLQ_TOPIC)
    .option('--limit <messages>', 'at most so many', integer, 1_000)
    .option('--url <url>', 'for deliveries: the API; the local one when left out')
    .option(
      '--token <token>',
      'for deliveries: a bearer token; one is signed with AUTH_JWT_SECRET when left out',
    )
    .action(async (topic: string, { limit, ...api }: { limit: number } & ApiOptions) => {
      const { atDlqs, redriveDlq } = await operations();
      const { untilStopped } = await import('../operations/until-stopped.js');
      const signal = untilStopped();
      await atDlqs(dataDir(), say, (access) => redriveDlq(access, { topic, limit, signal }), api);
    });

  dlq
    .command('purge')
    .description('deletes what was redriven from a dead-letter topic, or everything; asks first unless --yes')
    .argument(...DLQ_TOPIC)
    .option('--all', 'also what was not redriven', false)
    .option('--yes', 'do not ask', false)
    .action(async (topic: string, { all, yes }: { all: boolean; yes: boolean }) => {
      const { atDlqs, purgeDlq } = await operations();
      const options = { topic, all, confirm: confirmUnless(yes) };
      await atDlqs(dataDir(), say, (access) => purgeDlq(access, options));
    });
}
