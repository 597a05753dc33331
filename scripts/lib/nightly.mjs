import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { foreground, root } from './child.mjs';
import { elapsed, say, StepError } from './output.mjs';

const at = (...parts) => path.join(root, ...parts);
const jest = (...args) => [at('node_modules/jest/bin/jest.js'), ...args];
const MINUTE_MS = 60_000;

/**
 * The usual tests at the size of a night, and what is no test of jest. Every file `test/nightly/NAME.test.ts` (or folder
 * `test/nightly/NAME`) is a part of its own besides. `env` gives way to what the caller has set; `maxMinutes` is far above
 * what the part takes, and ends one that hangs.
 */
const PARTS = [
  {
    name: 'faults',
    about: 'servers and roles killed under load, with more of it; the longer arrival check',
    args: jest('--selectProjects', 'faults'),
    env: { REMIT_FAULTS_MESSAGES: '300000', REMIT_ARRIVALS_EVENTS: '5000' },
    maxMinutes: 120,
  },
  {
    name: 'properties',
    about: 'random lives of the ledger, 300 plans',
    args: jest('--selectProjects', 'integration', '--', 'domain/properties'),
    env: { REMIT_PROPERTY_RUNS: '300' },
    maxMinutes: 60,
  },
  {
    name: 'rollouts',
    about: 'a second version of the payment workflow ramped, promoted and rolled back under 2,000 payments',
    args: jest('--selectProjects', 'integration', '--', 'operators/rollout'),
    env: { REMIT_ROLLOUT_PAYMENTS: '2000' },
    maxMinutes: 60,
  },
  {
    name: 'hostile',
    about: 'an hour of what users and neighbours did at their worst, with faults, on a stack of its own',
    args: ['--import', 'tsx', at('test/faults/hostile-load.ts'), '--minutes', '60'],
    maxMinutes: 120,
  },
  {
    name: 'node',
    about: 'the whole of npm test on Node.js 20, 22 and 24',
    args: [at('scripts/node-versions.mjs')],
    maxMinutes: 150,
  },
];
const FILE_MAX_MINUTES = 90;

/** @returns every part that there is, in the order in which they run. */
function allParts() {
  const folder = at('test/nightly');
  const names = existsSync(folder)
    ? readdirSync(folder, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() || entry.name.endsWith('.test.ts'))
        .map(({ name }) => name.replace(/\.test\.ts$/, ''))
    : [];
  const files = [...new Set(names)].sort().map((name) => ({
    name,
    about: `test/nightly/${name}`,
    args: jest('--config', at('jest.nightly.config.js'), `test/nightly/${name}(\\.test\\.ts$|/)`),
    maxMinutes: FILE_MAX_MINUTES,
  }));
  return [...PARTS, ...files];
}

export function listOfParts() {
  return allParts()
    .map(({ name, about }) => `  ${name.padEnd(14)} ${about}`)
    .join('\n');
}

/**
 * Runs parts one after the other, also after one has failed.
 *
 * @returns 0 when every part passed, else 1; 130 when it was stopped meanwhile.
 */
export async function nightly(parts) {
  let stopped = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => (stopped = true));
  const folder = mkdtempSync(path.join(os.tmpdir(), 'remit-nightly-'));
  const rows = [];
  try {
    for (const [i, part] of parts.entries()) {
      if (stopped) break;
      const startedAt = Date.now();
      say(`\n▸ ${part.name} (${i + 1} of ${parts.length}): ${part.about}`);
      const results = path.join(folder, `${part.name}.txt`);
      const code = await foreground(part.args, {
        ordered: false,
        env: { ...missing(part.env), REMIT_NIGHTLY_RESULTS: results },
        maxMs: part.maxMinutes * MINUTE_MS,
      });
      say(`${code === 0 ? '✔' : '✖'} ${part.name} (${elapsed(startedAt)}, exit code ${code})`);
      rows.push({ part, code, startedAt, endedAt: Date.now(), lines: read(results) });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  say(`\nAs docs/nightly.md keeps them:\n\n${rows.map(tableRow).join('\n')}`);
  if (stopped) return 130;
  return rows.every(({ code }) => code === 0) ? 0 : 1;
}

/**
 * @returns the named parts, all of them without a name.
 * @throws StepError that names every part when there is none of a name.
 */
export function chosenParts(names) {
  const parts = allParts();
  const unknown = names.filter((name) => !parts.some((part) => part.name === name));
  if (unknown.length > 0)
    throw new StepError(
      `There is no part "${unknown.join('", "')}" of the nightly tests. There are:\n\n${listOfParts()}`,
      64,
    );
  return names.length === 0 ? parts : parts.filter(({ name }) => names.includes(name));
}

const missing = (env = {}) => Object.fromEntries(Object.entries(env).filter(([name]) => !process.env[name]));
/** What the part has noted: see test/support/nightly.ts. */
const read = (file) =>
  existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : ['(it noted nothing)'];

function tableRow({ part, code, startedAt, endedAt, lines }) {
  const day = new Date(startedAt).toISOString().slice(0, 10);
  const minutes = ((endedAt - startedAt) / MINUTE_MS).toFixed(1);
  const outcome = code === 0 ? 'passed' : `failed (${code})`;
  const printed = lines.map((line) => line.replaceAll('|', '\\|')).join('<br>');
  return `| ${part.name} | ${day} | ${minutes} min | ${outcome} | ${printed} |`;
}
