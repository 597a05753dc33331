import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { quiet, root } from './child.mjs';
import { say, step, StepError } from './output.mjs';

const NODE_MINIMUM = [20, 19];
const at = (...parts) => path.join(root, ...parts);
const read = (file) => (existsSync(file) ? readFileSync(file, 'utf8') : '');
const hash = (...texts) => createHash('sha256').update(texts.join('\0')).digest('hex');
// Prisma's tools want to download an engine that remit does not use: migrations have a runner of their own.
const PRISMA_ENV = {
  PRISMA_SCHEMA_ENGINE_BINARY: '/bin/true',
  PRISMA_HIDE_UPDATE_MESSAGE: '1',
  CHECKPOINT_DISABLE: '1',
};

/** Remembers, in `file`, what a step was last done for. */
function stamp(file) {
  return {
    is: (value) => read(file) === value,
    set: (value) => {
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, value);
    },
  };
}

export function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > NODE_MINIMUM[0] || (major === NODE_MINIMUM[0] && minor >= NODE_MINIMUM[1])) return;
  throw new StepError(
    `remit needs Node.js ${NODE_MINIMUM.join('.')} or later; this is ${process.versions.node} (${process.execPath}).\n` +
      'Get a current one from https://nodejs.org or with a version manager, for example: nvm install --lts',
  );
}

/** `npm ci`, when package-lock.json is not the one that node_modules was made from. */
export async function install() {
  const lock = read(at('package-lock.json'));
  const done = stamp(at('node_modules/.remit-stamp'));
  const wanted = hash(lock);
  if (done.is(wanted)) return;
  if (!installedByHand()) await step('Installing npm packages', npmCi);
  done.set(wanted);
}

/** A lock file without the optional packages of this platform is refused by `npm ci`; `npm install` adds them. */
async function npmCi() {
  const flags = ['--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  const next = 'Is the npm registry reachable (npm ping)? Then: rm -rf node_modules && npm ci';
  try {
    await quiet('npm ci', 'npm', ['ci', ...flags], { env: PRISMA_ENV, next });
  } catch (error) {
    if (!(error instanceof StepError) || !error.message.includes('EUSAGE')) throw error;
    say(
      '  package-lock.json does not fit this platform and package.json; using npm install, which completes it',
    );
    await quiet('npm install', 'npm', ['install', '--no-save', ...flags], { env: PRISMA_ENV, next });
  }
}

/** npm writes its own copy of the lock file whenever it has installed: `npm install` by hand counts too. */
function installedByHand() {
  const own = at('node_modules/.package-lock.json');
  if (!existsSync(own)) return false;
  const packages = JSON.parse(read(own)).packages ?? {};
  const wanted = JSON.parse(read(at('package-lock.json'))).packages ?? {};
  return Object.entries(wanted).every(
    ([name, { version, optional, devOptional, link }]) =>
      name === '' ||
      link === true ||
      optional === true ||
      devOptional === true ||
      packages[name]?.version === version,
  );
}

/** What is made from other sources: the database client, and the API's types for the console. */
export async function generate() {
  await databaseClient();
  await apiTypes();
}

/** `prisma generate`, when the schema or Prisma has changed. */
async function databaseClient() {
  if (!existsSync(at('prisma/schema.prisma'))) return;
  const versions = ['prisma', '@prisma/client'].map(
    (name) => JSON.parse(read(at('node_modules', name, 'package.json'))).version,
  );
  const wanted = hash(read(at('prisma/schema.prisma')), read(at('prisma.config.ts')), ...versions);
  const done = stamp(at('node_modules/.cache/remit/prisma'));
  if (done.is(wanted) && existsSync(at('src/generated/prisma'))) return;
  await step('Generating the database client', () =>
    quiet('prisma generate', process.execPath, [at('node_modules/prisma/build/index.js'), 'generate'], {
      env: PRISMA_ENV,
      next: 'See prisma/schema.prisma.',
    }),
  );
  done.set(wanted);
}

/** The types of the API as the console sees it, from the document that describes it. */
async function apiTypes() {
  const document = 'docs/event-config-openapi.yaml';
  const target = 'console/src/generated/api.d.ts';
  const { version } = JSON.parse(read(at('node_modules/openapi-typescript/package.json')));
  const wanted = hash(read(at(document)), version);
  const done = stamp(at('node_modules/.cache/remit/api-types'));
  if (done.is(wanted) && existsSync(at(target))) return;
  await step('Generating the console’s types of the API', () =>
    quiet(
      'openapi-typescript',
      process.execPath,
      [at('node_modules/openapi-typescript/bin/cli.js'), at(document), '-o', at(target)],
      { next: `See ${document}; npm run generate writes it.` },
    ),
  );
  done.set(wanted);
}

/** Path, size and time of every source: what a warm start looks at instead of the contents. */
function listing(...tops) {
  const found = [];
  const walk = (entry) => {
    const stat = statSync(at(entry), { throwIfNoEntry: false });
    if (stat === undefined) return;
    if (!stat.isDirectory()) return found.push(`${entry}:${stat.size}:${Math.trunc(stat.mtimeMs)}`);
    for (const name of readdirSync(at(entry)).sort()) walk(path.join(entry, name));
  };
  tops.forEach(walk);
  return found;
}

/** dist/ by the TypeScript compiler, and the bundle that workers give to Temporal; each only when needed. */
export async function build() {
  const toolchain = ['package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];
  const sources = listing('src', ...toolchain);
  const done = stamp(at('dist/.remit-stamp'));
  if (!done.is(sources.join('\n'))) {
    if (someSourceIsGone(sources)) rmSync(at('dist'), { recursive: true, force: true });
    await step('Compiling', () =>
      quiet('tsc', process.execPath, [at('node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'], {
        next: 'The lines above say where; nothing was started.',
      }),
    );
    done.set(sources.join('\n'));
  }
  await bundle(toolchain);
  await consoleFiles();
}

/** dist/console, by Vite. Types are not checked here: `npm run check` does. */
async function consoleFiles() {
  const wanted = listing('console', 'package-lock.json').join('\n');
  const done = stamp(at('dist/.remit-console-stamp'));
  if (done.is(wanted) && existsSync(at('dist/console/index.html'))) return;
  await step('Building the console', () =>
    quiet('vite build', process.execPath, [at('node_modules/vite/bin/vite.js'), 'build', at('console')], {
      next: 'The lines above say where; nothing was started.',
    }),
  );
  done.set(wanted);
}

/** A deleted source would leave its .js behind, and with it a module that does not exist any more. */
function someSourceIsGone(sources) {
  const names = new Set(sources.map((line) => line.replace(/:\d+:\d+$/, '')));
  const before = read(at('dist/.remit-stamp')).split('\n').filter(Boolean);
  return before.length === 0
    ? existsSync(at('dist'))
    : before.some((line) => !names.has(line.replace(/:\d+:\d+$/, '')));
}

async function bundle(toolchain) {
  const builder = 'dist/platform/build-workflow-bundle.js';
  if (!existsSync(at('src/platform/build-workflow-bundle.ts'))) return;
  const wanted = listing(
    'src/workflows',
    'src/contracts',
    'src/platform/build-workflow-bundle.ts',
    ...toolchain,
  ).join('\n');
  const done = stamp(at('dist/.remit-bundle-stamp'));
  if (done.is(wanted) && existsSync(at('dist/workflow-bundle.js'))) return;
  await step('Bundling the workflows', () => quiet('workflow bundle', process.execPath, [at(builder)]));
  done.set(wanted);
}
