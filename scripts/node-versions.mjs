// node scripts/node-versions.mjs [MAJOR …] [-- COMMAND ARGS …]
// Runs a command of scripts/run.mjs (the whole `npm test` without its checks, unless another is named) once on each supported
// version of Node.js, which npm's package `node` brings; every process that it starts runs on that version too.
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './lib/child.mjs';

const SUPPORTED = ['20', '22', '24'];
const FETCH_MAX_MS = 5 * 60_000;

const args = process.argv.slice(2);
const split = args.includes('--') ? args.indexOf('--') : args.length;
const majors = split === 0 ? SUPPORTED : args.slice(0, split);
const command = split === args.length ? ['test'] : args.slice(split + 1);

/** @returns path of the newest `node` of that major version, from npm's cache or registry. */
function nodeOf(major) {
  return execFileSync(
    'npm',
    ['exec', '--yes', `--package=node@${major}`, '--', 'node', '-p', 'process.execPath'],
    {
      cwd: '/',
      encoding: 'utf8',
      timeout: FETCH_MAX_MS,
    },
  ).trim();
}

let failed = 0;
for (const major of majors) {
  const node = nodeOf(major);
  const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
  process.stderr.write(`\n▸ Node.js ${version}: ${command.join(' ')}\n`);
  const env = {
    ...process.env,
    PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH}`,
    REMIT_TEST_SKIP_CHECK: '1',
  };
  const { status } = spawnSync(node, [path.join(root, 'scripts/run.mjs'), ...command], {
    cwd: root,
    env,
    stdio: 'inherit',
  });
  const line = `Node.js ${version}: ${command.join(' ')} ${status === 0 ? 'passed' : 'failed'}`;
  process.stderr.write(`  ${line}\n`);
  if (process.env.REMIT_NIGHTLY_RESULTS) appendFileSync(process.env.REMIT_NIGHTLY_RESULTS, `${line}\n`);
  if (status !== 0) failed += 1;
}
process.exitCode = failed === 0 ? 0 : 1;
