import path from 'node:path';
import { InvalidArgumentError } from 'commander';
import { loadConfig, ROLE_NEEDS } from '../platform/config';
import { Lifecycle } from '../platform/lifecycle';
import { createLogger, type Logger } from '../platform/logging';
import { callerPath, PROJECT_ROOT } from '../platform/project';
import { NO_TRACES, startTracing, stopTracing } from '../platform/tracing';
import type { RoleContext } from '../roles/context';
import type { Role } from '../roles/start';

/**
 * What commands share. Everything here and at the top of a command's own file is loaded for every `remit`, `--help` too:
 * what takes time to load (clients, roles, operations) is imported by the action that needs it.
 */

/** Prints one line. */
export type Say = (line: string) => void;
export const say: Say = (line) => void process.stdout.write(`${line}\n`);

/** The folder of the local installation. */
export const dataDir = (): string =>
  callerPath(process.env['REMIT_DATA_DIR'] || path.join(PROJECT_ROOT, '.remit'));

/** @throws InvalidArgumentError, as the other parsers of options do. */
export function integer(value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw new InvalidArgumentError('a whole number is needed');
  return Number(value);
}

/** Where none of something would be nothing, or no end. @throws InvalidArgumentError. */
export function atLeastOne(value: string): number {
  const number = integer(value);
  if (number < 1) throw new InvalidArgumentError('at least 1 is needed');
  return number;
}

const ISO_TIME = /^\d{4}-\d\d-(\d\d)T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)$/i;

/** A time with its zone: a local one would be another time on another machine. */
export function moment(value: string): Date {
  const at = new Date(value);
  const day = ISO_TIME.exec(value)?.[1];
  // JavaScript takes the 30th of February for the 2nd of March.
  const exists = new Date(`${value.slice(0, 10)}T00:00:00Z`).getUTCDate() === Number(day);
  if (Number.isNaN(at.getTime()) || day === undefined || !exists)
    throw new InvalidArgumentError('a time with its zone is needed, such as 2026-11-26T05:00:00Z');
  if (at.getTime() > Date.now()) throw new InvalidArgumentError('a time in the past is needed');
  return at;
}

export function share(value: string): number {
  const number = Number(value);
  if (!(number >= 0 && number <= 1)) throw new InvalidArgumentError('a number from 0 to 1 is needed');
  return number;
}

/** How a command asks before it destroys something: not at all with `--yes`, else at the terminal. */
export function confirmUnless(yes: boolean | undefined): (question: string) => Promise<boolean> {
  return yes ? () => Promise.resolve(true) : confirm;
}

/** @throws Error when there is no terminal. */
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

/** One role as this process, stopped in order by SIGINT or SIGTERM. */
export async function runAsRole(
  name: Role,
  start?: (context: RoleContext) => Promise<unknown>,
): Promise<void> {
  const config = loadConfig(process.env, ROLE_NEEDS[name]);
  await startTracing(config, `remit-${name}`, (error) => log.warn({ err: error }, NO_TRACES));
  const log: Logger = createLogger(config, name);
  const lifecycle = new Lifecycle(log, config.SHUTDOWN_TIMEOUT_MS);
  lifecycle.onStop('close', 'traces', stopTracing);
  lifecycle.installProcessHandlers();
  const { createRoleContext } = await import('../roles/context.js');
  const { runRole } = await import('../roles/start.js');
  await runRole(name, createRoleContext(config, log, lifecycle), start);
}
