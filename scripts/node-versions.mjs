// node scripts/node-versions.mjs [MAJOR …] [-- COMMAND ARGS …]
// Runs a command of scripts/run.mjs (the whole `npm test` without its checks, unless another is named) once on each supported
// version of Node.js, which npm's package `node` brings; every process that it starts runs on that version too.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
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
  const run = ['exec', '--yes', `--package=node@${major}`, '--', 'node', '-p', 'process.execPath'];
  // Away from our own .npmrc: this package is one that a script of its own completes.
  return execFileSync('npm', run, { cwd: '/', encoding: 'utf8', timeout: FETCH_MAX_MS }).trim();
}

let child;
let stopped = false;
for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    stopped = true;
    child?.kill(signal);
  });

let failed = 0;
for (const major of majors) {
  if (stopped) break;
  const node = nodeOf(major);
  const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
  process.stderr.write(`\n▸ Node.js ${version}: ${command.join(' ')}\n`);
  child = spawn(node, [path.join(root, 'scripts/run.mjs'), ...command], {
    cwd: root,
    env: {
      ...process.env,
      PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH}`,
      REMIT_TEST_SKIP_CHECK: '1',
    },
    stdio: 'inherit',
  });
  const [code] = await once(child, 'exit');
  const line = `Node.js ${version}: ${command.join(' ')} ${code === 0 ? 'passed' : 'failed'}`;
  process.stderr.write(`  ${line}\n`);
  if (process.env.REMIT_NIGHTLY_RESULTS) appendFileSync(process.env.REMIT_NIGHTLY_RESULTS, `${line}\n`);
  if (code !== 0) failed += 1;
}
process.exitCode = failed === 0 && !stopped ? 0 : 1;
