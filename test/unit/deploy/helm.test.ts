import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Ajv from 'ajv';
import { CONFIG_FIELDS, isLocalOnly } from '../../../src/platform/config';
import { filesBelow, PROJECT, readText, readYaml } from './project-files';

const CHART = 'deploy/helm/remit';
const SETS = filesBelow('deploy/helm/values');
const schema = JSON.parse(readText(`${CHART}/values.schema.json`)) as Record<string, unknown>;

interface Values {
  config?: Record<string, unknown>;
  roles?: Record<string, { config?: Record<string, unknown> }>;
  [name: string]: unknown;
}
const validate = new Ajv({ allErrors: true, strict: false }).compile(schema);
const mistakes = (values: unknown): string[] =>
  validate(values)
    ? []
    : (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);

/** The paths of every value, as far as the chart itself names them. */
function paths(value: unknown, at = ''): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [at];
  const below = Object.entries(value).flatMap(([name, each]) => paths(each, `${at}/${name}`));
  return below.length === 0 ? [at] : below;
}

describe('the values of the Helm chart', () => {
  const own = readYaml<Values>(`${CHART}/values.yaml`);

  it('are what their schema says, the three sets too', () => {
    expect(SETS.length).toBe(3);
    for (const file of [`${CHART}/values.yaml`, ...SETS])
      expect([file, mistakes(readYaml(file))]).toEqual([file, []]);
  });

  it.each([
    ['a name that the chart has not', { replicas: 3 }],
    ['a misspelt one further down', { roles: { api: { replica: 3 } } }],
    ['a role that remit has not', { roles: { deliveries: { replicas: 1 } } }],
    ['a number as text', { roles: { api: { replicas: '3' } } }],
    ['a role without a pod', { roles: { worker: { replicas: 0 } } }],
    ['a variable in small letters', { config: { log_level: 'debug' } }],
    ['a port that Services and probes name', { config: { METRICS_PORT: 9000 } }],
    ['a time that is none for cron', { backup: { schedule: 'nightly' } }],
    ['a name that Kubernetes refuses', { fullnameOverride: 'Remit_Prod' }],
    [
      'a label by which the chart finds its pods',
      { pod: { labels: { 'app.kubernetes.io/component': 'x' } } },
    ],
    ['a variable without a value', { extraEnv: [{ name: 'LOG_LEVEL' }] }],
    ['a port among the further variables', { extraEnv: [{ name: 'API_PORT', value: '80' }] }],
    ['a tag where the digest belongs', { image: { digest: 'latest' } }],
    [
      'a peer of a policy that does not exist',
      { networkPolicy: { kafka: { to: [{ cidr: '10.0.0.0/8' }] } } },
    ],
  ])('may not have %s', (_what, values) => {
    expect(mistakes(values)).not.toEqual([]);
  });

  it('have no variable in a ConfigMap that is a secret', () => {
    const secrets = CONFIG_FIELDS.map(({ name }) => name).filter(
      (name) => /SECRET|PASSWORD|ENCRYPTION_KEY|API_KEY/.test(name) && !/_MS$/.test(name),
    );
    expect(secrets.length).toBeGreaterThan(8);
    for (const name of secrets) {
      expect([name, mistakes({ config: { [name]: 'x' } })]).not.toEqual([name, []]);
      expect([name, mistakes({ secrets: { [name]: 'x' } })]).toEqual([name, []]);
    }
  });

  it('may have every other variable, and the three sets name none that remit has not', () => {
    const known = CONFIG_FIELDS.map(({ name }) => name);
    const ours = new Set(['API_PORT', 'METRICS_PORT']);
    const free = known.filter(
      (name) => !isLocalOnly(name) && !ours.has(name) && mistakes({ secrets: { [name]: 'x' } }).length === 0,
    );
    const refused = free.filter((name) => mistakes({ config: { [name]: 'x' } }).length > 0);
    expect(refused.filter((name) => !/SECRET|PASSWORD|KEY/.test(name))).toEqual([]);
    for (const file of SETS) {
      const { config = {}, roles = {} } = readYaml<Values>(file);
      const names = [config, ...Object.values(roles).map((role) => role.config ?? {})].flatMap(Object.keys);
      expect([file, names.filter((name) => !known.includes(name))]).toEqual([file, []]);
    }
  });

  it('are each described where the chart is', () => {
    const page = readText('docs/kubernetes.md');
    const undescribed = Object.keys(own).filter((name) => !page.includes(`\`${name}`));
    expect(undescribed).toEqual([]);
    // What the page names has to be there.
    const table = page.slice(page.indexOf('## Values'), page.indexOf('## Scaling'));
    const cells = [...table.matchAll(/^\|([^|]+)\|/gm)].map(([, cell]) => cell ?? '');
    const named = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name ?? ''));
    const all = paths(own);
    expect(named.length).toBeGreaterThan(40);
    for (const name of named) {
      const pattern = new RegExp(`^/${name.replaceAll('.', '/').replaceAll('*', '[^/]+')}(/|$)`);
      expect([name, all.some((each) => pattern.test(each))]).toEqual([name, true]);
    }
  });

  it('belong to the version in package.json', () => {
    const { version } = JSON.parse(readText('package.json')) as { version: string };
    expect(readYaml(`${CHART}/Chart.yaml`)).toMatchObject({ version, appVersion: version });
  });
});

describe('the backup of the Helm chart', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'remit-backup-'));
    mkdirSync(path.join(folder, 'bin'));
    mkdirSync(path.join(folder, 'backup'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** Runs the script with stand-ins for PostgreSQL's two programs, which are in no package that is installed here. */
  function backup(dump: string, url = 'postgresql://remit@postgres/remit'): { ok: boolean; output: string } {
    const programs = {
      pg_dump: dump,
      // As the real one: what is cut off is no archive.
      pg_restore: 'case "$1" in --list) grep -q complete "$2";; *) exit 2;; esac',
    };
    for (const [name, body] of Object.entries(programs)) {
      writeFileSync(path.join(folder, 'bin', name), `#!/bin/sh\n${body}\n`);
      chmodSync(path.join(folder, 'bin', name), 0o755);
    }
    try {
      const output = execFileSync('/bin/sh', [path.join(PROJECT, CHART, 'files/backup.sh')], {
        encoding: 'utf8',
        stdio: 'pipe',
        env: {
          PATH: `${path.join(folder, 'bin')}:${process.env['PATH']}`,
          DATABASE_URL: url,
          SAID: path.join(folder, 'said'),
          BACKUP_FOLDER: path.join(folder, 'backup'),
          BACKUP_KEEP: '2',
        },
      });
      return { ok: true, output };
    } catch (error) {
      return { ok: false, output: String((error as { stderr?: string }).stderr) };
    }
  }
  const kept = () => readdirSync(path.join(folder, 'backup')).sort();
  const writes = (text: string) =>
    `for each; do case "$each" in --file=*) echo ${text} > "\${each#--file=}";; esac; done`;

  it.each([
    [
      'postgresql://remit@postgres:5432/remit?sslmode=require',
      '',
      'postgresql://remit@postgres:5432/remit?sslmode=require',
    ],
    ['postgresql://remit:plain@postgres/remit', 'plain', 'postgresql://remit@postgres/remit'],
    [
      'postgres://re%6Dit:p%40ss%2Fw%3Aö%25d%C3%A9@db.example.com:6432/remit?options=-c%20a%3Db@c',
      'p@ss/w:ö%dé',
      'postgres://re%6Dit@db.example.com:6432/remit?options=-c%20a%3Db@c',
    ],
    ['postgresql:///remit?host=/run:x@y', '', 'postgresql:///remit?host=/run:x@y'],
  ])('has no password on a command line: %s', (url, password, asked) => {
    const says = `printf '%s\\n' "$*" "\${PGPASSWORD-}" > "$SAID"; ${writes('complete')}`;
    expect(backup(says, url)).toMatchObject({ ok: true });
    const [args, given] = readFileSync(path.join(folder, 'said'), 'utf8').split('\n');
    expect(given).toBe(password);
    expect(args).toContain(`--dbname=${asked} `);
  });

  it('keeps the newest dumps, and nothing else of its own', () => {
    for (const old of [
      'remit-20250101T000000Z.dump',
      'remit-20250102T000000Z.dump',
      'remit-20250103T000000Z.dump.part',
    ])
      writeFileSync(path.join(folder, 'backup', old), 'complete');
    writeFileSync(path.join(folder, 'backup', 'notes.txt'), 'not ours');
    expect(backup(writes('complete'))).toMatchObject({ ok: true });
    const [notes, older, newest, ...rest] = kept();
    expect([notes, older, rest]).toEqual(['notes.txt', 'remit-20250102T000000Z.dump', []]);
    expect(newest).toMatch(/^remit-20\d{6}T\d{6}Z\.dump$/);
  });

  it.each([
    ['can not connect', 'echo "no connection" >&2; exit 1'],
    ['writes half a dump', writes('half')],
  ])('fails and removes no dump when pg_dump %s', (_what, dump) => {
    for (const old of ['remit-20250101T000000Z.dump', 'remit-20250102T000000Z.dump'])
      writeFileSync(path.join(folder, 'backup', old), 'complete');
    expect(backup(dump).ok).toBe(false);
    expect(kept().filter((name) => name.endsWith('.dump'))).toEqual([
      'remit-20250101T000000Z.dump',
      'remit-20250102T000000Z.dump',
    ]);
  });
});
