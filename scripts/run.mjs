#!/usr/bin/env node
// What stands behind `npm start`, `npm test` and the other npm scripts. It needs nothing but Node.js, brings
// what is missing or out of date, and then runs the command itself.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { foreground, quiet, root } from './lib/child.mjs';
import { elapsed, say, step, StepError } from './lib/output.mjs';
import { chosenParts, listOfParts, nightly } from './lib/nightly.mjs';
import { build, checkNode, generate, install } from './lib/prepare.mjs';

const HELP = `remit: payments and orders on Temporal

  npm start                        everything on this machine: PostgreSQL, Kafka, Temporal, ClickHouse, all roles
  npm run demo                     plays the samples through a throw-away stack and shows what came of them
  npm test [-- ARGS]               checks (types, lint, format), then the tests; ARGS go to jest
  npm run test:fast                the unit and workflow tests alone, without the checks: under two minutes
  npm run test:nightly [-- PART …] what is too long for npm test, hours of it; --list names the parts (docs/nightly.md)
  npm run bench -- NAME [--json]   a benchmark; without NAME it lists them
  npm run dev                      like start; the roles restart when a source changes
  npm run build                    compiles to dist/
  npm run containers [-- STEP …]   builds the image and runs docker-compose.yml, with podman or Docker; see --help
  npm run remit -- COMMAND         any command of the CLI; try: npm run remit -- --help

Each of them first installs npm packages, generates the database client, compiles and builds the console, but
only what has changed. What the embedded servers need (see docs/embedded-stack.md) is brought once, to a cache in your home
folder (XDG_CACHE_HOME is respected).

Environment:
  DATABASE_URL, KAFKA_BROKERS, TEMPORAL_ADDRESS, CLICKHOUSE_URL   use a server of yours instead of the embedded one
  REMIT_TEST_SKIP_CHECK=1                                         npm test runs the tests alone
  REMIT_TEST_MAX_MS=…                                             npm test is ended after this (default: an hour)
  .env.example lists every other variable.
`;

/** Commands of the CLI that run until they are stopped, and stop in an order. */
const ROLES = new Set(['api', 'bridge', 'worker', 'relay', 'ingest', 'start', 'demo', 'listen']);
const COMPILE_CACHE = { NODE_COMPILE_CACHE: path.join(root, 'node_modules/.cache/node-compile') };
/** As in the Dockerfile, which says why. */
const ROOM = '--max-semi-space-size=32';
const cli = (args, ordered) =>
  foreground(['--enable-source-maps', ROOM, path.join(root, 'dist/cli.js'), ...args], {
    ordered,
    env: COMPILE_CACHE,
  });
const tsx = (args) => ['--import', 'tsx', ...args];

const COMMANDS = {
  start: (args) => cli(['start', ...args], true),
  demo: (args) => cli(['demo', ...args], true),
  remit: (args) => cli(args, ROLES.has(args[0])),
  build: () => Promise.resolve(0),
  bench: (args) => {
    if (!existsSync(path.join(root, 'bench/run.ts')))
      throw new StepError('There are no benchmarks here (bench/run.ts).');
    // What it is compared with runs in its process.
    return foreground([ROOM, ...tsx([path.join(root, 'bench/run.ts'), ...args])], { ordered: true });
  },
  containers: (args) =>
    foreground(tsx([path.join(root, 'scripts/containers.ts'), ...args]), { ordered: true }),
  dev: () => foreground(tsx([path.join(root, 'scripts/dev.ts')]), { ordered: true }),
  test: async (args) => {
    if (process.env.REMIT_TEST_SKIP_CHECK !== '1') await step('Checking types, lint and format', check);
    return test(args, ['postgres', 'kafka', 'temporal', 'clickhouse', 'kubernetes-tools']);
  },
  'test:fast': (args) => test(['--selectProjects', 'unit', 'workflows', ...args], []),
  'test:nightly': async (args) => {
    await downloads(['postgres', 'kafka', 'temporal', 'clickhouse']);
    return nightly(chosenParts(args));
  },
};

/** Far above what the whole suite takes: only a run that hangs outside of any test's own limit meets it. */
const TESTS_MAX_MS = 60 * 60_000;

async function test(args, parts) {
  await downloads(parts);
  return foreground([path.join(root, 'node_modules/jest/bin/jest.js'), ...args], {
    ordered: false,
    maxMs: process.env.REMIT_TEST_MAX_MS ? Number(process.env.REMIT_TEST_MAX_MS) : TESTS_MAX_MS,
  });
}

/** The same as `npm run check`, side by side; every failure is shown, not only the first. */
async function check() {
  const tool = (title, file, args) =>
    quiet(title, process.execPath, [path.join(root, 'node_modules', file), ...args]);
  const results = await Promise.allSettled([
    tool('tsc', 'typescript/bin/tsc', ['--noEmit', '-p', 'tsconfig.check.json']),
    tool('tsc of the console', 'typescript/bin/tsc', ['--noEmit', '-p', 'console/tsconfig.json']),
    tool('eslint', 'eslint/bin/eslint.js', ['.', '--max-warnings', '0']),
    tool('prettier', 'prettier/bin/prettier.cjs', ['--check', '.', '--log-level', 'warn']),
  ]);
  const failures = results.filter(({ status }) => status === 'rejected').map(({ reason }) => reason.message);
  if (failures.length === 0) return;
  throw new StepError(
    `${failures.join('\n\n')}\n\n\`npm run fix\` repairs format and much of lint; REMIT_TEST_SKIP_CHECK=1 npm test runs the tests all the same.`,
  );
}

/** What the tests' servers need, before jest's own time limits begin to count. */
async function downloads(wanted) {
  const require = createRequire(path.join(root, 'dist/embedded/'));
  const { ensureDownloads } = require('./downloads.js');
  const { ensureTimeSkippingServer } = require('./temporal-test-server.js');
  const { ensureKubernetesTools } = require('./kubernetes-tools.js');
  const outside = {
    postgres: 'DATABASE_URL',
    kafka: 'KAFKA_BROKERS',
    temporal: 'TEMPORAL_ADDRESS',
    clickhouse: 'CLICKHOUSE_URL',
  };
  const parts = wanted.filter(
    (part) => outside[part] && !process.env[outside[part]] && !(part === 'kafka' && process.env.KAFKA_BROKER),
  );
  const report = (line) => say(`  ${line}`);
  try {
    await ensureDownloads(parts, report);
    await ensureTimeSkippingServer(report);
    if (wanted.includes('kubernetes-tools')) await ensureKubernetesTools(report);
  } catch (error) {
    throw new StepError(error.message);
  }
}

async function main() {
  checkNode();
  const [name, ...args] = process.argv.slice(2);
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw new StepError(`There is no command "${name}".\n\n${HELP}`, 64);
  if (name === 'test:nightly' && args.some((arg) => ['--list', '--help', '-h'].includes(arg))) {
    process.stdout.write(`npm run test:nightly [-- PART …]\n\n${listOfParts()}\n`);
    return 0;
  }
  // A wrong name is told before anything is brought or compiled.
  if (name === 'test:nightly') chosenParts(args);
  const startedAt = Date.now();
  await install();
  await generate();
  await build();
  if (Date.now() - startedAt > 1_000) say(`✔ Ready to ${name} (${elapsed(startedAt)})`);
  return command(args);
}

try {
  process.exitCode = await main();
} catch (error) {
  say(error instanceof StepError ? `\n✖ ${error.message}` : `\n✖ ${error?.stack ?? error}`);
  process.exitCode = error instanceof StepError ? error.exitCode : 1;
}
