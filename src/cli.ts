#!/usr/bin/env node
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { TASK_QUEUES, type TaskQueue } from './contracts/workflows';
import { ConfigError, loadConfig, ROLE_NEEDS } from './platform/config';
import { Lifecycle } from './platform/lifecycle';
import { createLogger } from './platform/logging';
import { callerPath, PROJECT_ROOT, VERSION } from './platform/project';
import { endQuietlyWithoutReader } from './platform/terminal';
import type { RoleContext } from './roles/context';
import type { SendOptions } from './operations/local-access';
import type { ConsoleLinkCommand } from './operations/console-link';
import type { ProduceCommand } from './operations/produce';
import type { ReconcileCommand } from './operations/reconcile';
import type { RecoverCommand } from './operations/recover';
import type { Role } from './roles/start';
import type { ApiOptions, ListenCommand } from './operations/webhook-commands';
import type { StatsOptions } from './operations/stats';

/** `remit <role|command>`: each command loads only what it needs, so that `--help` is instant. */
const program = new Command('remit')
  .description('Payments and orders on Temporal. Configuration comes from the environment: see .env.example.')
  .version(VERSION)
  .showHelpAfterError('(add --help for what this command takes)');

const dataDir = () => callerPath(process.env['REMIT_DATA_DIR'] || path.join(PROJECT_ROOT, '.remit'));
const say = (line: string): void => void process.stdout.write(`${line}\n`);

function integer(value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw new InvalidArgumentError('a whole number is needed');
  return Number(value);
}

/** A time with its zone: a local one would be another time on another machine. */
function moment(value: string): Date {
  const at = new Date(value);
  if (Number.isNaN(at.getTime()) || !/\d(Z|[+-]\d\d:?\d\d)$/i.test(value))
    throw new InvalidArgumentError('a time with its zone is needed, such as 2026-11-26T05:00:00Z');
  if (at.getTime() > Date.now()) throw new InvalidArgumentError('a time in the past is needed');
  return at;
}

function share(value: string): number {
  const number = Number(value);
  if (!(number >= 0 && number <= 1)) throw new InvalidArgumentError('a number from 0 to 1 is needed');
  return number;
}

/** One role as this process, stopped in order by SIGINT or SIGTERM. */
async function role(name: Role, start?: (context: RoleContext) => Promise<unknown>): Promise<void> {
  const config = loadConfig(process.env, ROLE_NEEDS[name]);
  const log = createLogger(config, name);
  const lifecycle = new Lifecycle(log, config.SHUTDOWN_TIMEOUT_MS);
  lifecycle.installProcessHandlers();
  const { createRoleContext } = await import('./roles/context.js');
  const { runRole } = await import('./roles/start.js');
  await runRole(name, createRoleContext(config, log, lifecycle), start);
}

program
  .command('start')
  .description(
    'everything on this machine: the embedded stack (PostgreSQL, Kafka, Temporal with UI, ClickHouse) and all roles',
  )
  .addHelpText(
    'after',
    `
Data is kept in .remit/ and survives a restart. A part is replaced by an outside one when its variable is set:
DATABASE_URL, KAFKA_BROKERS, TEMPORAL_ADDRESS, CLICKHOUSE_URL. Stop with Ctrl-C.`,
  )
  .action(async () => {
    const { runStart } = await import('./commands/start.js');
    await runStart(dataDir(), say);
  });

program
  .command('api')
  .description('HTTP in: provider webhooks, accounts, orders, /api/v1; OpenAPI at /openapi.json')
  .action(() => role('api'));

program
  .command('bridge')
  .description('Kafka to Temporal: starts or signals one workflow per payment and order')
  .action(() => role('bridge'));

program
  .command('worker')
  .description('runs workflows and activities')
  .addOption(
    new Option('--queue <names...>', 'task queues to serve')
      .choices(Object.keys(TASK_QUEUES))
      .default(Object.keys(TASK_QUEUES)),
  )
  .action(async ({ queue }: { queue: TaskQueue[] }) => {
    const { startWorker } = await import('./roles/worker.js');
    await role('worker', (context) => startWorker(context, queue));
  });

program
  .command('relay')
  .description('publishes the outbox to Kafka; replicas stand by')
  .action(() => role('relay'));

program
  .command('ingest')
  .description('purchases from Kafka into ClickHouse, in batches')
  .action(() => role('ingest'));

program
  .command('migrate')
  .description(
    'brings PostgreSQL, Kafka topics, Temporal search attributes and ClickHouse to this version; safe to repeat',
  )
  .action(async () => {
    const config = loadConfig(process.env, ROLE_NEEDS.migrate);
    const { migrate } = await import('./roles/migrate.js');
    await migrate(config, createLogger(config, 'migrate'));
    process.exit(0);
  });

program
  .command('reconcile')
  .description(
    'proves balances, entries, holds, orders and provider totals against each other; exits 1 when not clean',
  )
  .option('--tenant <id>', 'one tenant, without a look at its workflows; all of them when left out')
  .option('--margin <minutes>', 'work that has waited for longer stands still (60 when left out)', integer)
  .option('--json', 'one JSON document')
  .action(async (options: ReconcileCommand) => {
    const { runReconcile } = await import('./operations/reconcile.js');
    process.exit(await runReconcile(dataDir(), options, say));
  });

program
  .command('recover')
  .description(
    'finds work that stands still, as after a restore or the loss of a server, and starts it again',
  )
  .addHelpText(
    'after',
    `
By itself it is safe at any time, and safe to repeat: it sends the payment requests of undecided orders and the events that
were not handed out once more, and starts the workflows of open disputes, replays and pending deliveries that have none.
What is running, or was decided, stays as it is. Begin with --dry-run.

  Kafka lost         remit migrate, start the roles, remit recover
  Temporal lost      stop the roles, remit migrate, remit recover --replay-from <when it was lost>, start the roles
  PostgreSQL restored  stop the roles, remit migrate, remit recover --restored-to <the restored time>, start the roles

With a time, the bridge's consumer groups go back to the messages since then, less a margin for what was read and not
decided yet; handled once more, messages that were applied change nothing. With --restored-to, running workflows are ended
too: they remember what the database does not. Then wait until consumer lag and outbox are empty, and remit reconcile.
docs/operations.md has each procedure, and what can not be brought back.`,
  )
  .option('--dry-run', 'say what would be done; change nothing', false)
  .addOption(
    new Option('--restored-to <time>', 'PostgreSQL was restored to this time (2026-11-26T05:00:00Z)')
      .argParser(moment)
      .conflicts('replayFrom'),
  )
  .addOption(
    new Option('--replay-from <time>', 'handle the messages since this time once more').argParser(moment),
  )
  .option(
    '--margin <minutes>',
    'begin so much before that time (UNKNOWN_TRANSACTION_WAIT_MS and an hour when left out)',
    integer,
  )
  .option('--yes', 'do not ask', false)
  .option('--json', 'one JSON document', false)
  .action(async ({ yes, ...options }: Omit<RecoverCommand, 'confirm'> & { yes: boolean }) => {
    const { runRecover } = await import('./operations/recover.js');
    const asking = (question: string) => (yes ? Promise.resolve(true) : confirm(question));
    process.exit(await runRecover(dataDir(), { ...options, confirm: asking }, say));
  });

program
  .command('token')
  .description(
    'prints a bearer token for the API, signed with AUTH_JWT_SECRET (or the one of the local .remit/)',
  )
  .option('--subject <id>', 'the user or client', 'operator')
  .option('--tenant <id>', 'tenant; DEFAULT_TENANT when left out')
  .addOption(
    new Option('--scope <scopes...>', 'what it may do')
      .choices(['read', 'write', 'topup', 'admin', 'platform'])
      .default(['read', 'write']),
  )
  .option('--expires-s <seconds>', 'lifetime in seconds', integer, 3_600)
  .action(async (options: { subject: string; tenant?: string; scope: string[]; expiresS: number }) => {
    const { runToken } = await import('./operations/local-access.js');
    say(await runToken(dataDir(), options));
  });

program
  .command('console-link')
  .description('prints a link that logs in to the console once; it needs access to the database')
  .option('--subject <id>', 'who logs in, as the audit log names them', 'operator')
  .option('--tenant <id>', 'tenant; DEFAULT_TENANT when left out')
  .addOption(
    new Option('--role <role>', 'what they may do').choices(['viewer', 'operator', 'admin']).default('admin'),
  )
  .option('--no-platform', 'without what belongs to no tenant: dead letters, lag, purchases')
  .option('--expires-s <seconds>', 'the link must be used within so many seconds', integer, 900)
  .action(async (options: ConsoleLinkCommand) => {
    const { runConsoleLink } = await import('./operations/console-link.js');
    say(await runConsoleLink(dataDir(), options));
  });

program
  .command('send')
  .description('plays a provider: signs one of its webhooks and posts it to the API')
  .argument('[provider]', 'whose webhook; DeCard’s for --transaction when left out')
  .argument('[sample]', 'what it says: see --list')
  .option('--list', 'the samples of all providers, or of the one', false)
  .option('--id <id>', 'id of the payment, payout or order that the sample is about')
  .option('--user <id>', 'its user, for providers that say so', 'user123')
  .option('--transaction <id>', 'without a sample: id of the payment or payout')
  .addOption(new Option('--type <type>', 'what it is').choices(['payment', 'payout']).default('payment'))
  .addOption(
    new Option('--status <status>', 'what became of it')
      .choices(['pending', 'success', 'failed', 'expired'])
      .default('success'),
  )
  .option('--amount <amount>', 'in major units: 100 is 100.00')
  .option('--currency <code>', 'ISO 4217', 'TRY')
  .option('--event-id <id>', 'the event’s id; a fresh one when left out (repeat one to play a duplicate)')
  .option('--url <url>', 'the API; the local one when left out')
  .option('--secret <secret>', 'as PROVIDER_SECRET_… has it; the local one when left out')
  .action(async (provider: string | undefined, sample: string | undefined, options: SendOptions) => {
    const { runSend } = await import('./operations/local-access.js');
    process.exitCode = await runSend(dataDir(), [provider, sample], options, say);
  });

program
  .command('produce')
  .description('plays the producer of purchases: lines of files, or generated messages')
  .argument('[files...]', 'one message a line, as in samples/purchases/; generated when left out')
  .option('--count <messages>', 'how many to generate', integer, 10_000)
  .option('--rate <per second>', 'messages a second; 0 is as fast as Kafka takes them', integer, 0)
  .option('--bad <share>', 'share of generated messages that are broken, 0 to 1', share, 0.001)
  .option('--seed <number>', 'the same seed gives the same messages', integer, 1)
  .option('--topic <name>', 'TOPIC_PURCHASES when left out')
  .action(async (files: string[], options: ProduceCommand) => {
    const { runProduce } = await import('./operations/produce.js');
    await runProduce(dataDir(), files, options, say);
  });

program
  .command('stats')
  .description('what ingest has stored, in tables and plots: revenue, top products, ingest lag')
  .option('--days <days>', 'days of revenue and products', integer, 30)
  .option('--minutes <minutes>', 'minutes of ingest lag', integer, 60)
  .option('--products <number>', 'longest list of products', integer, 10)
  .option('--json', 'one JSON object', false)
  .action(async (options: StatsOptions) => {
    const { runStats } = await import('./operations/stats.js');
    await runStats(dataDir(), options, say);
  });

program
  .command('demo')
  .description('plays samples/ through the real doors of a throw-away stack and checks what comes out')
  .option('--endpoints <file>', 'play against a running remit: its .remit/endpoints.json')
  .option('--keep', 'leave the stack running until Ctrl-C, to look around in the Temporal UI')
  .action(async (options: { endpoints?: string; keep?: boolean }) => {
    const { runDemo } = await import('./demo/demo.js');
    process.exit(await runDemo(options, say));
  });

const dlq = program
  .command('dlq')
  .description('what could not be handled: look at it, put it back, delete it')
  .addHelpText(
    'after',
    `
The usual way: remit dlq ls, remit dlq show <topic>, mend the cause, remit dlq redrive <topic>, remit dlq purge <topic>.`,
  );
const DLQ_TOPIC = ['<topic>', 'the dead-letter topic, or the topic it belongs to'] as const;

dlq
  .command('ls')
  .description('every dead-letter topic, how much lies in it, and why')
  .action(async () => {
    const { runDlqLs } = await import('./operations/webhook-commands.js');
    await runDlqLs(dataDir(), say);
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
      const { runDlqShow } = await import('./operations/webhook-commands.js');
      await runDlqShow(dataDir(), { topic, ...options }, say);
    },
  );

dlq
  .command('redrive')
  .description('puts dead letters back where they came from, each once; exhausted deliveries are sent again')
  .argument(...DLQ_TOPIC)
  .option('--limit <messages>', 'at most so many', integer, 1_000)
  .option('--url <url>', 'for deliveries: the API; the local one when left out')
  .option(
    '--token <token>',
    'for deliveries: a bearer token; one is signed with AUTH_JWT_SECRET when left out',
  )
  .action(async (topic: string, options: { limit: number } & ApiOptions) => {
    const { runDlqRedrive } = await import('./operations/webhook-commands.js');
    await runDlqRedrive(dataDir(), { topic, ...options }, say);
  });

dlq
  .command('purge')
  .description('deletes what was redriven from a dead-letter topic, or everything; asks first unless --yes')
  .argument(...DLQ_TOPIC)
  .option('--all', 'also what was not redriven', false)
  .option('--yes', 'do not ask', false)
  .action(async (topic: string, { all, yes }: { all: boolean; yes: boolean }) => {
    const { runDlqPurge } = await import('./operations/webhook-commands.js');
    const asking = (question: string) => (yes ? Promise.resolve(true) : confirm(question));
    await runDlqPurge(dataDir(), { topic, all, confirm: asking }, say);
  });

program
  .command('listen')
  .description(
    'subscribes, prints the webhooks that come and hands them on to a local URL; unsubscribes at the end',
  )
  .option('--events <types...>', 'event types or wildcards', ['*'])
  .option('--forward <url>', 'hand verified webhooks on to it, and answer as it does')
  .option('--port <port>', 'of 127.0.0.1; 0 takes a free one', integer, 0)
  .option('--public-url <url>', 'where remit reaches this listener, when it is not on this machine')
  .option('--url <url>', 'the API; the local one when left out')
  .option('--token <token>', 'a bearer token; one is signed with AUTH_JWT_SECRET when left out')
  .action(async (options: ListenCommand) => {
    const { runListen } = await import('./operations/webhook-commands.js');
    await runListen(dataDir(), options, say);
  });

program
  .command('reencrypt')
  .description(
    'encrypts every secret anew with ENCRYPTION_KEY, after which ENCRYPTION_KEYS_OLD can be emptied',
  )
  .action(async () => {
    const { runReencrypt } = await import('./operations/webhook-commands.js');
    await runReencrypt(dataDir(), say);
  });

program
  .command('reset')
  .description('deletes the data of the local stack (.remit/); says what, and asks first unless --yes')
  .addHelpText(
    'after',
    `
Only a folder that bears remit's own marker (.remit-data-dir), only what remit itself makes in it, and never while a stack
runs on it. What others have put there stays.`,
  )
  .option('--yes', 'do not ask')
  .action(async ({ yes }: { yes?: boolean }) => {
    const { inspectDataDir } = await import('./platform/data-dir.js');
    const { describeReset, resetDataDir } = await import('./embedded/reset.js');
    const contents = inspectDataDir(dataDir());
    if (contents === undefined) return say(`There is no ${dataDir()}: nothing to delete.`);
    say(describeReset(contents));
    if (!yes && !(await confirm('Delete this?'))) return say('Nothing was deleted.');
    await resetDataDir(dataDir());
    say('Deleted.');
  });

async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY)
    throw new Error(`${question} There is no terminal to ask: add --yes if that is what you want.`);
  const { createInterface } = await import('node:readline/promises');
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return /^y(es)?$/i.test((await prompt.question(`${question} [y/N] `)).trim());
  } finally {
    prompt.close();
  }
}

endQuietlyWithoutReader();
program.parseAsync().catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`${message}\n`);
  if (process.env['LOG_LEVEL'] === 'debug' && error instanceof Error)
    process.stderr.write(`${error.stack ?? ''}\n`);
  process.exit(error instanceof ConfigError ? error.exitCode : 1);
});
