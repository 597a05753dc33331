import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, parseEnv, promisify } from 'node:util';
import { containerTool } from '../src/embedded/container-tools';
import { mintToken } from '../src/operations/token';
import { PortAllocator } from '../src/embedded/ports';
import { runWithProgress } from '../src/embedded/progress';
import { createClickHouse } from '../src/platform/clickhouse';
import { loadConfig } from '../src/platform/config';
import { createKafka } from '../src/platform/kafka';
import { createLogger } from '../src/platform/logging';
import { openDatabase } from '../src/platform/postgres';
import { PROJECT_ROOT } from '../src/platform/project';
import { KINDS, OutsideLoad, type PerKind, type Verdict } from '../test/faults/outside-load';
import { eventually } from '../test/support/harness';
import {
  buildRemit,
  MADE_IMAGES,
  makeImages,
  NOT_MADE,
  registryAnswers,
  REMIT_IMAGE,
} from './lib/containers/base-images';
import { Engine, NO_ENGINE, type ContainerState } from './lib/containers/engine';

const HELP = `Runs remit's containers as an installation does, and says what came of it.

  npm run containers [-- STEP …] [OPTIONS]

Steps, in this order when none is named:
  images   builds remit's image from the Dockerfile. Where no registry of images can be reached, the images that it and
           docker-compose.yml need are made first: Debian by debootstrap, the rest from npm, Maven Central and Go's proxy
  up       docker-compose.yml, until every service is healthy
  demo     the demo's samples against it
  roles    the image's size; what each role may do in its container, and how long it takes to be ready
  scale    two of each of api, bridge and worker, and the demo once more
  cut      takes each server, and then a container of each role, off the network in turn, under load, and counts afterwards
  restore  backs PostgreSQL up with the service backup, restores it to a time by the steps of docs/backup.md, and plays the
           demo with what came back
  sbom     lists what is in the image (CycloneDX)
  down     removes containers, volumes and network; without named steps it comes last, whatever came before

Options:
  --made        make the images here, also where they could be pulled
  --away N      seconds without the network in the step cut (default: 25)
  --keep        without named steps: leave everything up at the end
  --dir DIR     where secrets, ports and reports are kept between steps (default: .remit/containers)
  --help

It needs Docker with Compose 2, or podman (as root where images are made); it takes 10 to 25 minutes, the first time up to 20
more, about 12 GB of disk and 4 GB of memory. It runs beside an installation: project, ports and volumes are its own.
`;

export interface Cut extends Verdict {
  /** Service of docker-compose.yml. */
  service: string;
  /** Its containers, of which one was cut off. */
  of: number;
  /** Seconds. */
  away: number;
  /** Seconds from the reconnection until new work of a kind had its effect. */
  again: PerKind;
  /** Seconds from the end of the load until everything accepted had its effect. */
  settled: number;
}
export interface Restored {
  /** Rows when the time was taken, and after the restore to it. */
  before: Record<string, number>;
  after: Record<string, number>;
  /** Seconds from the beginning of the restore until PostgreSQL answered, and until every service was healthy. */
  answered: number;
  whole: number;
  reconciled: string;
}
export interface Report {
  leftOut: string[];
  up?: number;
  scaled?: number;
  demo: string[];
  imageMb?: number;
  roles: Record<string, unknown>[];
  cuts: Cut[];
  reconciled?: string;
  restored?: Restored;
  restartedByThemselves: string[];
  sbom?: Record<string, number>;
}

const STEPS = ['images', 'up', 'demo', 'roles', 'scale', 'cut', 'restore', 'sbom', 'down'] as const;
type Step = (typeof STEPS)[number];
const PROJECT = 'remit-containers';
const ROLES = ['api', 'bridge', 'worker', 'worker-deliveries', 'relay', 'ingest'] as const;
const SERVERS = ['postgres', 'kafka', 'temporal', 'clickhouse'] as const;
const SCALED = { API_REPLICAS: '2', BRIDGE_REPLICAS: '2', WORKER_REPLICAS: '2' };
/** podman names the network where Compose looks for its id, and would have everything made again for one replica more. */
const KEPT = ['--no-recreate'];
const UP_MS = 600_000;
const DEMO_MS = 600_000;
const READY_MS = 120_000;
const SETTLED_MS = 1_500;
/** The restored folder takes the place of the former one, as docs/backup.md has it. */
const IN_PLACE =
  'cd /pg/18 && mv docker docker.before && cp -a /backup/restored docker && chown -R postgres:postgres docker && rm -r /backup/restored';
const LOADED_MS = 5_000;
const AFTER_MS = 5_000;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    made: { type: 'boolean', default: false },
    away: { type: 'string', default: '25' },
    keep: { type: 'boolean', default: false },
    dir: { type: 'string', default: path.join(PROJECT_ROOT, '.remit', 'containers') },
    help: { type: 'boolean', default: false },
  },
});
const dir = path.resolve(options.dir);
const envFile = path.join(dir, 'compose.env');
const composeFile = path.join(PROJECT_ROOT, 'docker-compose.yml');
const overrideFile = path.join(dir, 'compose.override.yaml');
const say = (line: string) => void process.stderr.write(`${line}\n`);
const report: Report = { leftOut: [], demo: [], roles: [], cuts: [], restartedByThemselves: [] };
let engine: Engine;

// ---------------------------------------------------------------------------------------------------- settings

/** What .env holds in an installation: made once, and kept for the steps that follow. */
async function settings(): Promise<Record<string, string>> {
  if (existsSync(envFile)) return parseEnv(readFileSync(envFile, 'utf8')) as Record<string, string>;
  const ports = new PortAllocator();
  const secret = () => randomBytes(24).toString('hex');
  const made = options.made || !(await registryAnswers());
  const published: Record<string, string> = {};
  const composeText = readFileSync(composeFile, 'utf8');
  for (const [name] of composeText.matchAll(/\b[A-Z_]+_PUBLISHED_PORT\b/g))
    published[name] ??= String(await ports.free());
  const env = {
    REMIT_IMAGE,
    ...(made ? MADE_IMAGES : {}),
    ...published,
    // One for each process of the API, whatever their number.
    API_PUBLISHED_PORTS: '0',
    ...Object.fromEntries(
      ['POSTGRES', 'REMIT_DB', 'REMIT_SERVICE_DB', 'TEMPORAL_DB', 'CLICKHOUSE'].map((name) => [
        `${name}_PASSWORD`,
        secret(),
      ]),
    ),
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    AUTH_JWT_SECRET: secret(),
    PROVIDER_SECRET_DECARD: `whsec_${randomBytes(32).toString('base64')}`,
    ORDER_WEBHOOK_SECRET: `whsec_${randomBytes(32).toString('base64')}`,
    // The subscribers of this script are on this machine.
    WEBHOOK_ALLOWED_PRIVATE_CIDRS: '10.0.0.0/8,172.16.0.0/12,192.168.0.0/16',
    POSTGRES_MAX_CONNECTIONS: '450',
    KAFKA_HEAP_OPTS: '-Xms256m -Xmx512m',
  };
  mkdirSync(dir, { recursive: true });
  const text = Object.entries(env).map(([name, value]) => `${name}="${value}"\n`);
  writeFileSync(envFile, text.join(''), { mode: 0o600 });
  return env;
}

const isMade = (env: Record<string, string>) => env['POSTGRES_IMAGE'] === MADE_IMAGES.POSTGRES_IMAGE;

async function compose(title: string, args: string[], extra: NodeJS.ProcessEnv = {}): Promise<string> {
  await settings();
  // Where limits can't be raised above the caller's own, what the engine gives has to do.
  writeFileSync(overrideFile, 'services:\n  clickhouse:\n    ulimits: !reset null\n');
  return engine.composeCommand(
    title,
    ['--project-name', PROJECT, '--project-directory', PROJECT_ROOT, '--env-file', envFile,
     '--file', composeFile,
     ...(engine.confined ? ['--file', overrideFile] : []), ...args], // prettier-ignore
    extra,
  );
}

const containers = async (service?: string): Promise<ContainerState[]> =>
  engine.inspect(...(await engine.containers(PROJECT, service)));

/** How this process reaches the servers in the containers. */
async function clientConfig() {
  const env = await settings();
  return loadConfig(
    {
      ...env,
      LOG_LEVEL: 'silent',
      DATABASE_URL: `postgresql://remit_service:${env['REMIT_SERVICE_DB_PASSWORD']}@127.0.0.1:${env['POSTGRES_PUBLISHED_PORT']}/remit`,
      KAFKA_BROKERS: `localhost:${env['KAFKA_PUBLISHED_PORT']}`,
      TEMPORAL_ADDRESS: `127.0.0.1:${env['TEMPORAL_PUBLISHED_PORT']}`,
      CLICKHOUSE_URL: `http://127.0.0.1:${env['CLICKHOUSE_PUBLISHED_PORT']}`,
      CLICKHOUSE_USER: 'remit',
    },
    ['DATABASE_URL', 'KAFKA_BROKERS', 'CLICKHOUSE_URL'],
  );
}

/** The same, with the APIs that run, and the address at which the containers reach this process. */
async function access() {
  const apis = (await containers('api')).flatMap(({ NetworkSettings: { Ports } }) =>
    (Ports['8080/tcp'] ?? []).map(({ HostPort }) => `http://127.0.0.1:${HostPort}`),
  );
  const [network] = (await containers('postgres')).flatMap(({ NetworkSettings }) =>
    Object.values(NetworkSettings.Networks),
  );
  if (apis.length === 0 || network === undefined)
    throw new Error('Nothing runs here: npm run containers -- up');
  return { apis, config: await clientConfig(), gateway: network.Gateway };
}

// ------------------------------------------------------------------------------------------------------- steps

async function images(): Promise<void> {
  const env = await settings();
  if (isMade(env)) await makeImages(engine, path.join(dir, 'images'), say);
  else await buildRemit(engine);
}

async function up(): Promise<void> {
  if (!(await engine.has(REMIT_IMAGE)))
    throw new Error('There is no image yet: npm run containers -- images');
  report.up = await bringUp();
  say(`${(await containers()).length} containers, all healthy or done after ${report.up} s`);
}

/**
 * @param further arguments of `compose up`
 * @returns the seconds until everything was healthy.
 */
async function bringUp(further: string[] = [], extra: NodeJS.ProcessEnv = {}): Promise<number> {
  const made = isMade(await settings());
  const services = (await compose('docker-compose.yml', ['config', '--services'], extra))
    .split('\n')
    .filter(Boolean);
  const wanted = services.filter((name) => !made || !NOT_MADE.includes(name));
  report.leftOut = services.filter((name) => !wanted.includes(name));
  const startedAt = Date.now();
  try {
    await healthy(() =>
      compose('compose up', ['up', '--detach', '--no-build', ...further, ...wanted], extra),
    );
  } catch (error) {
    throw new Error(`${String(error)}\n${(await notHealthy()).join('\n')}`, { cause: error });
  }
  return seconds(startedAt);
}

/** Health is asked for meanwhile alone: from outside that takes half a core, and only what is started waits for it. */
async function watched<T>(work: () => Promise<T>): Promise<T> {
  engine.watch(PROJECT);
  try {
    return await work();
  } finally {
    engine.unwatch();
  }
}

const healthy = (start: () => Promise<unknown>): Promise<void> =>
  watched(async () => {
    await start();
    await eventually(
      async () => {
        if ((await notHealthy()).length > 0) throw new Error('not healthy');
      },
      UP_MS,
      1_000,
    );
  });

/** Each container that neither is well nor has done its work, and how to learn more. */
const notHealthy = async (): Promise<string[]> =>
  (await containers()).flatMap(({ Name, State: { Status, ExitCode, Health } }) =>
    (Status === 'exited' && ExitCode === 0) ||
    (Status === 'running' && (Health === undefined || ['healthy', ''].includes(Health.Status)))
      ? []
      : [`${Name}: ${Status}, ${Health?.Status || 'no health check'}; ${engine.name} logs ${Name}`],
  );

/** `remit demo` of this folder, against the containers. */
async function demo(): Promise<void> {
  const { apis, config, gateway } = await access();
  const endpoints = path.join(dir, 'endpoints.json');
  const { KAFKA_BROKERS: kafka, AUTH_JWT_SECRET, PROVIDER_SECRET_DECARD } = config;
  writeFileSync(endpoints, JSON.stringify({ api: apis[0], kafka: kafka.join(), temporalUi: '' }));
  const args = ['demo', '--endpoints', endpoints, '--receiver-host', gateway];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [path.join(PROJECT_ROOT, 'dist', 'cli.js'), ...args],
    { env: { ...process.env, AUTH_JWT_SECRET, PROVIDER_SECRET_DECARD }, timeout: DEMO_MS },
  ).catch((error: Error & { stdout?: string; stderr?: string }) => {
    throw new Error(`the demo failed:\n${error.stdout ?? ''}${error.stderr ?? error.message}`);
  });
  say(stdout.trimEnd());
  report.demo.push(stdout.trimEnd().split('\n').at(-1)!);
}

/** What each role may do in its container, by its own word and by what it can't do, and how soon it is ready. */
async function roles(): Promise<void> {
  report.imageMb = Math.round(
    Number(await engine.ask(['image', 'inspect', '--format', '{{.Size}}', REMIT_IMAGE])) / 1e6,
  );
  for (const service of ROLES) {
    const [container] = await containers(service);
    if (container === undefined) throw new Error(`${service} does not run: npm run containers -- up`);
    const exec = (...command: string[]) => engine.ask(['exec', container.Id, ...command]);
    const status = await exec('cat', '/proc/1/status');
    const field = (name: string) => new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(status)?.[1] ?? '?';
    const [, mount = ''] = /^\S+ \/ \S+ (\S+)/m.exec(await exec('cat', '/proc/1/mounts')) ?? [];
    const found = {
      user: field('Uid'),
      capabilities: /^0+$/.test(field('CapEff')) && /^0+$/.test(field('CapBnd')) ? 'none' : field('CapEff'),
      'new privileges': field('NoNewPrivs') === '1' ? 'none' : 'possible',
      root: mount.split(',').includes('ro') ? 'read-only' : 'writable',
    };
    const wanted = { user: '1000', capabilities: 'none', 'new privileges': 'none', root: 'read-only' };
    if (JSON.stringify(found) !== JSON.stringify(wanted))
      throw new Error(`${service} runs with more than it needs: ${JSON.stringify(found)}`);
    await engine.ask(['stop', container.Id]);
    const { ExitCode } = (await engine.inspect(container.Id))[0]!.State;
    const startedAt = performance.now();
    await engine.ask(['start', container.Id]);
    report.roles.push({
      role: service,
      ...found,
      'stopped with': ExitCode,
      'ready after s': await ready(container.Id, startedAt),
    });
  }
}

/** Seconds until the role says that it is ready; null where containers have no address on this machine. */
async function ready(id: string, startedAt: number): Promise<number | null> {
  const [{ NetworkSettings }] = (await engine.inspect(id)) as [ContainerState];
  const { IPAddress } = Object.values(NetworkSettings.Networks)[0]!;
  const ask = () => fetch(`http://${IPAddress}:9464/readyz`, { signal: AbortSignal.timeout(2_000) });
  try {
    await eventually(
      async () => {
        if (!(await ask()).ok) throw new Error('not ready');
      },
      READY_MS,
      50,
    );
    return rounded((performance.now() - startedAt) / 1_000);
  } catch {
    return null;
  }
}

/** One server after the other, then one container of each role, loses its network while there is work, and gets it back. */
async function cut(): Promise<void> {
  const { apis, config, gateway } = await access();
  const log = createLogger(config, 'containers');
  const db = openDatabase(config, log);
  const clickhouse = createClickHouse(config);
  const remit = { apis, config, kafka: createKafka(config, log), db, clickhouse, subscriberHost: gateway };
  const load = await OutsideLoad.start(remit);
  try {
    for (const service of [...SERVERS, ...ROLES]) {
      load.resume();
      await sleep(LOADED_MS);
      const of = (await engine.containers(PROJECT, service)).length;
      const away = await withoutNetwork(service, Number(options.away) * 1_000);
      const again = await load.probe();
      await sleep(AFTER_MS);
      await load.pause();
      const { verdict, seconds: settled } = await load.settle();
      const row = { service, of, away, again, settled: rounded(settled), ...verdict };
      report.cuts.push(row);
      say(JSON.stringify(row));
    }
  } finally {
    await load.close();
    await clickhouse.close();
    await db.close();
  }
  report.reconciled = await reconcile();
  const started = (await containers()).map(({ RestartCount, Name }) => [Name, RestartCount] as const);
  report.restartedByThemselves = started.filter(([, count]) => count > 0).map(([name]) => name);
}

/** @returns the seconds that it was away. */
async function withoutNetwork(service: string, ms: number): Promise<number> {
  const [container] = (await containers(service)) as [ContainerState];
  const [network, { IPAddress, Aliases }] = Object.entries(container.NetworkSettings.Networks)[0]!;
  const aliases = new Set([service, ...(Aliases ?? [])]);
  await engine.ask(['network', 'disconnect', network, container.Id]);
  const startedAt = performance.now();
  say(`${service}: off the network for ${ms / 1_000} s`);
  try {
    await sleep(ms);
  } finally {
    // With its address: it is the network that was away, not the server that is another.
    await engine.ask(['network', 'connect', ...[...aliases].flatMap((name) => ['--alias', name]),
      '--ip', IPAddress, network, container.Id]); // prettier-ignore
  }
  return rounded((performance.now() - startedAt) / 1_000);
}

const COUNTED = ['accounts', 'payments', 'orders', 'webhook_events', 'deliveries', 'ledger_entries'] as const;

/** What docs/backup.md says for Docker Compose, word for word where it can be. */
async function restore(): Promise<void> {
  const backup = (title: string, ...args: string[]) => compose(title, ['--profile', 'backup', ...args]);
  await healthy(() => backup('backup', 'up', '--detach', '--no-build', ...KEPT, 'backup'));
  const run = randomBytes(3).toString('hex');
  await openAccount(`before-${run}`);
  const before = await counts();
  await sleep(SETTLED_MS);
  const time = new Date().toISOString();
  await sleep(SETTLED_MS);
  await openAccount(`after-${run}`);
  await sleep(SETTLED_MS);

  const startedAt = Date.now();
  await backup('compose stop', 'stop', ...ROLES, 'temporal', 'backup', 'postgres');
  await backup('remit restore', 'run', '--rm', '--no-deps', '--no-TTY', 'backup',
    'restore', '/backup', '--to', time, '--into', '/backup/restored', '--yes'); // prettier-ignore
  const { POSTGRES_IMAGE = 'postgres:18-trixie' } = await settings();
  await engine.ask(['run', '--rm', '--volume', `${PROJECT}_postgres-data:/pg`, '--volume', `${PROJECT}_backup-data:/backup`,
    '--entrypoint', 'sh', POSTGRES_IMAGE, '-c', IN_PLACE]); // prettier-ignore
  await watched(() => compose('PostgreSQL', ['up', '--detach', '--no-build', ...KEPT, 'postgres']));
  const after = await eventually(counts, READY_MS, 500);
  const answered = seconds(startedAt);
  const oneOff = ['run', '--rm', '--no-TTY'];
  const recover = [...oneOff, '--no-deps', 'worker', 'recover', '--restored-to', time];
  await watched(async () => {
    await compose('Temporal', ['up', '--detach', '--no-build', ...KEPT, 'temporal']);
    await compose('remit migrate', [...oneOff, 'migrate']);
    say(await compose('remit recover --dry-run', [...recover, '--dry-run']));
    await compose('remit recover', [...recover, '--yes']);
  });
  await bringUp(KEPT, { COMPOSE_PROFILES: 'backup' });
  const whole = seconds(startedAt);
  if (JSON.stringify(after) !== JSON.stringify(before))
    throw new Error(`restored is not what was there: ${JSON.stringify({ before, after })}`);
  report.restored = { before, after, answered, whole, reconciled: await reconcile() };
  await demo();
}

async function openAccount(subject: string): Promise<void> {
  const { apis, config } = await access();
  const token = await mintToken(config, { subject, scopes: [], expiresInS: 60 });
  const response = await fetch(`${apis[0]}/accounts`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: '{}',
    signal: AbortSignal.timeout(READY_MS),
  });
  if (!response.ok) throw new Error(`no account: ${response.status} ${await response.text()}`);
}

/** Rows of the tables that a restore is about. */
async function counts(): Promise<Record<string, number>> {
  const config = await clientConfig();
  const db = openDatabase(config, createLogger(config, 'containers'));
  try {
    const found: Record<string, number> = {};
    for (const table of COUNTED) {
      const { rows } = await db.pool.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table}`);
      found[table] = rows[0]!.n;
    }
    return found;
  } finally {
    await db.close();
  }
}

/**
 * Runs `remit reconcile` in a container until it finds nothing: without a margin, work that is under way is found as well.
 * @returns its last line.
 * @throws Error with what it said last.
 */
async function reconcile(): Promise<string> {
  const [worker] = await engine.containers(PROJECT, 'worker');
  const args = ['exec', worker!, 'node', 'dist/cli.js', 'reconcile', '--margin', '0'];
  const said = await eventually(
    () =>
      engine.ask(args).catch((error: Error & { stdout?: string }) => {
        throw new Error(`remit reconcile has found something:\n${error.stdout ?? error.message}`);
      }),
    READY_MS,
    2_000,
  );
  return said.split('\n').at(-1)!;
}

/** Everything that is in the image: npm and Debian packages, and Node.js itself. */
async function sbom(): Promise<void> {
  const syft = await containerTool('syft', say);
  const archive = path.join(dir, 'image.tar');
  const file = path.join(dir, 'sbom.cdx.json');
  try {
    await engine.work('saving the image', ['save', '--output', archive, REMIT_IMAGE]);
    await runWithProgress(syft, ['scan', `docker-archive:${archive}`, '--output', `cyclonedx-json=${file}`], {
      title: 'Syft',
      env: { ...process.env, SYFT_CHECK_FOR_APP_UPDATE: 'false' },
      report: say,
    });
  } finally {
    rmSync(archive, { force: true });
  }
  const { components } = JSON.parse(readFileSync(file, 'utf8')) as { components: { purl?: string }[] };
  const counts: Record<string, number> = {};
  for (const { purl } of components) {
    const type = /^pkg:(\w+)\//.exec(purl ?? '')?.[1];
    if (type !== undefined) counts[type] = (counts[type] ?? 0) + 1;
  }
  report.sbom = counts;
  say(`${file}: ${JSON.stringify(counts)}`);
}

async function down(): Promise<void> {
  await compose('compose down', [
    '--profile',
    '*',
    'down',
    '--volumes',
    '--remove-orphans',
    '--timeout',
    '60',
  ]);
  rmSync(envFile, { force: true });
}

// ------------------------------------------------------------------------------------------------------ report

const rounded = (value: number) => Math.round(value * 10) / 10;
const seconds = (startedAt: number) => rounded((Date.now() - startedAt) / 1_000);
const each = (counts: PerKind) => KINDS.map((kind) => rounded(counts[kind])).join(' / ');

/** As docs/containers.md keeps it. */
function printed(): string {
  const { imageMb, up: upAfter, scaled, demo: demos, roles: rows, cuts } = report;
  const lines = [`${engine.name}, ${new Date().toISOString().slice(0, 10)}`];
  if (report.leftOut.length > 0) lines.push(`left out: ${report.leftOut.join(', ')}`);
  if (upAfter !== undefined) lines.push(`everything healthy after ${upAfter} s`);
  if (scaled !== undefined) lines.push(`two of api, bridge and worker healthy after ${scaled} s`);
  lines.push(...demos.map((line) => `demo: ${line}`));
  if (imageMb !== undefined) lines.push(`image: ${imageMb} MB`);
  lines.push(...markdown(rows));
  lines.push(
    ...markdown(
      cuts.map(({ service, of, away, again, settled, accepted, lost, twice, redelivered, wrong }) => ({
        'off the network': of === 1 ? service : `${service}, one of ${of}`,
        'for s': away,
        [`again after s (${KINDS.join(' / ')})`]: each(again),
        'all settled after s': settled,
        'accepted so far': each(accepted),
        lost: each(lost),
        twice: each(twice),
        'redelivered, same id': redelivered,
        ledger: wrong.length === 0 ? 'sound' : wrong.join('; '),
      })),
    ),
  );
  if (report.reconciled) lines.push(`remit reconcile, in a container: ${report.reconciled}`);
  if (cuts.length > 0)
    lines.push(`restarted by themselves: ${report.restartedByThemselves.join(', ') || 'none'}`);
  if (report.restored) {
    const { before, answered, whole, reconciled } = report.restored;
    lines.push(`restored: ${JSON.stringify(before)}, as at the time; PostgreSQL after ${answered} s, everything after ${whole} s; ${reconciled}`); // prettier-ignore
  }
  if (report.sbom) lines.push(`SBOM: ${JSON.stringify(report.sbom)}`);
  return lines.join('\n');
}

function markdown(rows: Record<string, unknown>[]): string[] {
  if (rows.length === 0) return [];
  const columns = Object.keys(rows[0]!);
  const line = (cells: unknown[]) => `| ${cells.map(String).join(' | ')} |`;
  return ['', line(columns), line(columns.map(() => '---')), ...rows.map((row) => line(columns.map((name) => row[name]))), '']; // prettier-ignore
}

const failed = (): boolean =>
  report.cuts.some(({ lost, twice, wrong }) =>
    [...Object.values(lost), ...Object.values(twice), wrong.length].some((n) => n !== 0),
  );

const WORK: Record<Step, () => Promise<void>> = { images, up, demo, roles, scale, cut, restore, sbom, down };

async function scale(): Promise<void> {
  report.scaled = await bringUp(KEPT, SCALED);
  await demo();
}

async function main(): Promise<number> {
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      (engine as Engine | undefined)?.stop();
      say('Stopped. What runs in containers goes on: npm run containers -- down removes it.');
      process.exit(130);
    });
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const unknown = positionals.filter((name) => !STEPS.includes(name as Step));
  if (unknown.length > 0 || !(Number(options.away) > 0)) {
    say(
      `${unknown.length > 0 ? `There is no step ${unknown.join(', ')}` : '--away takes seconds'}.\n\n${HELP}`,
    );
    return 64;
  }
  mkdirSync(dir, { recursive: true });
  const found = await Engine.start(dir, say);
  if (found === undefined) {
    say(NO_ENGINE);
    return 69;
  }
  engine = found;
  const steps = positionals.length > 0 ? (positionals as Step[]) : STEPS.filter((step) => step !== 'down');
  const cleanUp = positionals.length === 0 && !options.keep;
  try {
    // Their secrets are not those that this run would make.
    if (!existsSync(envFile) && steps[0] !== 'down' && (await engine.containers(PROJECT)).length > 0)
      throw new Error('Containers of another run are there: npm run containers -- down removes them.');
    try {
      for (const step of steps) {
        const startedAt = Date.now();
        say(`▸ ${step} …`);
        await WORK[step]();
        say(`✔ ${step} (${seconds(startedAt)} s)`);
      }
    } finally {
      // What was seen before a step failed was seen.
      writeFileSync(path.join(dir, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);
      process.stdout.write(`\n${printed()}\n`);
    }
    return failed() ? 1 : 0;
  } finally {
    if (cleanUp) await down().catch((error: unknown) => say(String(error)));
    engine.stop();
  }
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    say(`\n✖ ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  },
);
