#!/usr/bin/env node
import { Command } from 'commander';
import * as api from './commands/api';
import * as backup from './commands/backup';
import * as bridge from './commands/bridge';
import * as consoleLink from './commands/console-link';
import * as demo from './commands/demo';
import * as dlq from './commands/dlq';
import * as ingest from './commands/ingest';
import * as listen from './commands/listen';
import * as migrate from './commands/migrate';
import * as portalLink from './commands/portal-link';
import * as produce from './commands/produce';
import * as reconcile from './commands/reconcile';
import * as recover from './commands/recover';
import * as reencrypt from './commands/reencrypt';
import * as relay from './commands/relay';
import * as replay from './commands/replay';
import * as reset from './commands/reset';
import * as restore from './commands/restore';
import * as rollout from './commands/rollout';
import * as send from './commands/send';
import * as start from './commands/start';
import * as stats from './commands/stats';
import * as token from './commands/token';
import * as why from './commands/why';
import * as worker from './commands/worker';
import { ConfigError } from './platform/config';
import { VERSION } from './platform/project';
import { endQuietlyWithoutReader } from './platform/terminal';

/** `remit <command>`, in the order in which `--help` lists them. */
const COMMANDS: readonly { register(program: Command): void }[] = [
  start,
  api,
  bridge,
  worker,
  relay,
  ingest,
  migrate,
  reconcile,
  backup,
  restore,
  recover,
  token,
  consoleLink,
  portalLink,
  send,
  produce,
  why,
  stats,
  demo,
  dlq,
  listen,
  reencrypt,
  replay,
  rollout,
  reset,
];

const program = new Command('remit')
  .description('Payments and orders on Temporal. Configuration comes from the environment: see .env.example.')
  .version(VERSION)
  .showHelpAfterError('(add --help for what this command takes)');
for (const command of COMMANDS) command.register(program);

endQuietlyWithoutReader();
program.parseAsync().catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`${message}\n`);
  if (process.env['LOG_LEVEL'] === 'debug' && error instanceof Error)
    process.stderr.write(`${error.stack ?? ''}\n`);
  process.exit(error instanceof ConfigError ? error.exitCode : 1);
});
