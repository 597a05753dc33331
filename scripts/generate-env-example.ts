import { readFileSync } from 'node:fs';
import path from 'node:path';
import { CONFIG_FIELDS, isLocalOnly, ROLE_NEEDS } from '../src/platform/config';
import { secretVariable } from '../src/providers/names';
import { BUILT_IN_PROVIDERS } from '../src/providers/registry';
import { COMPOSE_FIELDS } from './lib/compose-fields';
import { writeGenerated } from './lib/generated-files';

/**
 * `npm run generate`: writes what follows from the configuration schema, so that it can't fall behind: `.env.example`,
 * docs/configuration.md, and the blocks of docker-compose.yml that hand variables on. `--check` writes nothing and fails
 * when something is out of date.
 */

const root = path.resolve(__dirname, '..');
const read = (file: string) => readFileSync(path.join(root, file), 'utf8');

interface Variable {
  name: string;
  description: string;
  /** As it is written in an environment; undefined when there is no default. */
  fallback: string | undefined;
  /** Roles that do not start without it; only where there is no default. */
  needed: string[];
}
interface Section {
  title: string;
  variables: Variable[];
}

/** The sections of the schema's source, which are comments there, filled with what the schema says. */
export function configSections(): Section[] {
  const source =
    /^const shape = \{$([\s\S]*?)^\} as const;$/m.exec(read('src/platform/config.ts'))?.[1] ?? '';
  const fields = new Map(CONFIG_FIELDS.map((field) => [field.name, field]));
  const sections: Section[] = [];
  const complete = source.replace('  ...PROVIDER_SECRETS,', () =>
    BUILT_IN_PROVIDERS.map(({ name }) => `  ${secretVariable(name)}:`).join('\n'),
  );
  for (const [, title, name] of complete.matchAll(/^ {2}(?:\/\/ (\S.*)|([A-Z][A-Z0-9_]*):)/gm)) {
    if (title !== undefined) {
      sections.push({ title, variables: [] });
      continue;
    }
    const field = fields.get(name ?? '');
    const section = sections.at(-1);
    if (!field || !section)
      throw new Error(`${name} in config.ts belongs to no section or is not in the schema`);
    fields.delete(field.name);
    section.variables.push({
      name: field.name,
      description: field.description,
      fallback: written(field.fallback),
      needed: neededBy(field.name),
    });
  }
  if (fields.size > 0)
    throw new Error(`not found in the source of config.ts: ${[...fields.keys()].join(', ')}`);
  return sections.filter(({ variables }) => variables.length > 0);
}

const neededBy = (name: string): string[] =>
  Object.entries(ROLE_NEEDS)
    .filter(([, names]) => (names as readonly string[]).includes(name))
    .map(([role]) => role);

function written(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (Array.isArray(value)) return value.map(String).join(',');
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
    return String(value);
  throw new Error(`a default of type ${typeof value} can't be written to an environment`);
}

/** Parameters of docker-compose.yml that are not remit's own, with the default that stands there. */
export function composeVariables(): Variable[] {
  const compose = read('docker-compose.yml');
  return COMPOSE_FIELDS.map(({ name, description }) => {
    const [, fallback] = new RegExp(`\\$\\{${name}:-([^}]*)\\}`).exec(compose) ?? [];
    // A default may be another variable with its own: `${A:-${B:-x}}` shows x.
    return { name, description, fallback: fallback?.replace(/^\$\{\w+:-/, ''), needed: [] };
  });
}

const rule = (title: string) => `# --- ${title} ${'-'.repeat(Math.max(3, 114 - title.length))}`;

export function renderEnvExample(): string {
  const block = ({ title, variables }: Section) =>
    [
      rule(title),
      ...variables.map(
        ({ name, description, fallback, needed }) =>
          `# ${description}${needed.length > 0 ? `\n# needed by: ${needed.join(', ')}` : ''}\n#${name}=${fallback ?? ''}`,
      ),
    ].join('\n\n');
  return [
    `# Every variable of remit, with its default. Generated from src/platform/config.ts by \`npm run generate\`: do not edit.
#
# A variable that is not set, or set to nothing, has its default. Most without a default may stay without a value; "needed by"
# names the roles that do not start without one: they say which they miss and exit with 78. (The secrets of providers are
# not needed where PROVIDER_SIGNATURES_REQUIRED=false.) Docker Compose reads .env by itself; for a role started by hand:
# node --env-file=.env dist/cli.js api
#
# Names end in their unit: _MS milliseconds, _S seconds, _BYTES, _ROWS, _MESSAGES. Lists are comma separated.`,
    ...configSections().map(block),
    block({ title: 'Docker Compose only (docker-compose.yml)', variables: composeVariables() }),
    `${rule('Not configuration of a role')}

# folder below which the embedded servers are kept, in remit/ (default: .cache in the home folder)
#XDG_CACHE_HOME=
`,
  ].join('\n\n');
}

export function renderConfigurationDoc(): string {
  const cell = (text: string) => text.replaceAll('|', '\\|');
  const table = ({ title, variables }: Section) =>
    [
      `## ${title}\n`,
      '| variable | default | meaning |',
      '|---|---|---|',
      ...variables.map(
        ({ name, description, fallback, needed }) =>
          `| \`${name}\` | ${fallback ? `\`${cell(fallback)}\`` : needed.length > 0 ? `needed by ${needed.join(', ')}` : ''} | ${cell(description)} |`,
      ),
    ].join('\n');
  return [
    `# Configuration

Generated from \`src/platform/config.ts\` by \`npm run generate\`: do not edit.

Everything comes from the environment. A variable set to nothing counts as not set. Most variables without a default may stay
unset; "needed by" names the roles that do not start without one (the secrets of providers are not needed where
\`PROVIDER_SIGNATURES_REQUIRED=false\`). Each role checks what it reads before
it opens a port or a connection: every mistake is listed at once and the process exits with 78 (EX_CONFIG). The unit is in
the name: \`_MS\` milliseconds, \`_S\` seconds, \`_BYTES\`, \`_ROWS\`, \`_MESSAGES\`; lists are comma separated.

\`.env.example\` has the same variables, ready to copy. Docker Compose reads \`.env\` by itself; for a role started by hand:
\`node --env-file=.env dist/cli.js api\`.

What is not here is no operator's to decide: \`src/platform/settings.ts\` has the sizes, pauses and intervals that follow from how the
code works (the docs name them \`SETTINGS.…\`), and what is derived from the variables.`,
    firstTable(),
    ...configSections().map(table),
    table({ title: 'Docker Compose only', variables: composeVariables() }),
  ]
    .join('\n\n')
    .concat('\n');
}

/** Which variables to look at first, why, and by which metric each is judged. */
export const FIRST: readonly { name: string; why: string; metric: string }[] = [
  {
    name: 'DATABASE_MONEY_POOL_CONNECTIONS',
    why: 'how many movements of money run at once in a process; beyond what PostgreSQL has cores for, they only conflict',
    metric: 'remit_money_transaction_seconds',
  },
  {
    name: 'WORKER_ACTIVITY_SLOTS',
    why: 'how many steps of workflows a worker has in flight: too few leave PostgreSQL idle, too many queue for its connections',
    metric: 'remit_money_conflicts_total',
  },
  {
    name: 'WORKER_CACHED_WORKFLOWS',
    why: 'memory against replays: a workflow that is not cached is read from its first event; Temporal’s own metrics tell',
    metric: 'temporal_sticky_cache_miss',
  },
  {
    name: 'KAFKA_TOPIC_PARTITIONS',
    why: 'the most replicas of bridge and ingest that have work; it is hard to lower later',
    metric: 'remit_consumer_lag_messages',
  },
  {
    name: 'BRIDGE_CONCURRENT_KEYS',
    why: 'how many payments one stream hands to Temporal at a time; up when lag grows and Temporal has room',
    metric: 'remit_bridge_messages_total',
  },
  {
    name: 'WEBHOOK_CONCURRENT_ATTEMPTS',
    why: 'how many deliveries a worker sends at once; subscribers’ latencies times this is the throughput',
    metric: 'remit_delivery_attempt_seconds',
  },
  {
    name: 'WEBHOOK_CONCURRENT_PER_SUBSCRIPTION',
    why: 'what one subscriber may take of that, and has to stand',
    metric: 'remit_delivery_attempts_put_off_total',
  },
  {
    name: 'INGEST_BATCH_ROWS',
    why: 'fewer, larger inserts make fewer parts in ClickHouse; INGEST_FLUSH_MS bounds how late rows are seen',
    metric: 'remit_ingest_batch_rows',
  },
  {
    name: 'EVENT_RETENTION_DAYS',
    why: 'how large the tables of events and deliveries grow, and how far back a replay reaches',
    metric: 'remit_events_published_total',
  },
  {
    name: 'API_RATE_LIMIT_REQUESTS',
    why: 'what one tenant may take from the others',
    metric: 'remit_http_requests_rate_limited_total',
  },
];

function firstTable(): string {
  const sections = configSections();
  const fallbackOf = (name: string) =>
    sections.flatMap(({ variables }) => variables).find((each) => each.name === name)?.fallback ?? '';
  return [
    '## Ten to look at first\n',
    'Addresses, credentials and secrets aside, which a role asks for by itself.\n',
    '| variable | default | why | measured by |',
    '|---|---|---|---|',
    ...FIRST.map(
      ({ name, why, metric }) => `| \`${name}\` | \`${fallbackOf(name)}\` | ${why} | \`${metric}\` |`,
    ),
  ].join('\n');
}

/** `Providers' webhooks` → `env-providers-webhooks`: the anchor of a section in docker-compose.yml. */
export const anchorOf = (title: string) =>
  `env-${title
    .toLowerCase()
    .replaceAll(/['’]/g, '')
    .replaceAll(/[^a-z0-9]+/g, '-')}`;

const MARKED = /^# <generated>$[\s\S]*?^# <\/generated>$/m;

export function renderCompose(): string {
  const blocks = configSections()
    .filter(({ variables }) => !variables.every(({ name }) => isLocalOnly(name)))
    .map(({ title, variables }) =>
      [
        `x-${anchorOf(title)}: &${anchorOf(title)}`,
        ...variables.map(({ name }) => `  ${name}: \${${name}:-}`),
      ].join('\n'),
    );
  const compose = read('docker-compose.yml');
  if (!MARKED.test(compose)) throw new Error('docker-compose.yml has lost its <generated> markers');
  return compose.replace(MARKED, () => `# <generated>\n${blocks.join('\n')}\n# </generated>`);
}

export const GENERATED: Record<string, () => string> = {
  '.env.example': renderEnvExample,
  'docs/configuration.md': renderConfigurationDoc,
  'docker-compose.yml': renderCompose,
  // A chart reads nothing outside its own folder.
  ...Object.fromEntries(
    ['alerts.yml', 'alerts-purchases.yml'].map((file) => [
      `deploy/helm/remit/files/${file}`,
      () => read(`deploy/prometheus/${file}`),
    ]),
  ),
};

if (require.main === module)
  writeGenerated(root, GENERATED, process.argv.includes('--check')).catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exitCode = 1;
  });
