import { TASK_QUEUES } from '../../../src/contracts/workflows';
import { CONFIG_FIELDS, isLocalOnly, loadConfig, ROLE_NEEDS } from '../../../src/platform/config';
import { COMPOSE_FIELDS } from '../../../scripts/lib/compose-fields';
import { readCompose, readText, remitServices, withDefaults, type Service } from './project-files';

const compose = readCompose();
const remit = remitServices(compose);
const configNames = new Set(CONFIG_FIELDS.map(({ name }) => name));
/** Read by the SDK itself. */
const OPENTELEMETRY = [
  'OTEL_RESOURCE_ATTRIBUTES',
  'OTEL_EXPORTER_OTLP_HEADERS',
  'OTEL_EXPORTER_OTLP_COMPRESSION',
  'OTEL_EXPORTER_OTLP_TIMEOUT',
];
/** PGPASSWORD is read by the PostgreSQL client itself, when the URL has no password. */
const NOT_OURS = new Set(['PGPASSWORD', ...OPENTELEMETRY]);
const SECRETS = {
  ENCRYPTION_KEY: Buffer.alloc(32, 7).toString('base64'),
  AUTH_JWT_SECRET: 'a'.repeat(64),
  PROVIDER_SECRET_DECARD: `whsec_${Buffer.alloc(32, 9).toString('base64')}`,
  ORDER_WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 8).toString('base64')}`,
};
const roleOf = (service: Service) => service.command?.[0] as keyof typeof ROLE_NEEDS;
const milliseconds = (duration: string) => Number(/^(\d+)s$/.exec(duration)?.[1]) * 1_000;

/** The environment of a service's container, when .env has the secrets and `extra`. */
const environmentOf = (service: Service, extra: Record<string, string> = {}) =>
  Object.fromEntries(
    Object.entries(service.environment ?? {}).map(([name, value]) => [
      name,
      withDefaults(value, { ...SECRETS, ...extra }),
    ]),
  );

describe('docker-compose.yml', () => {
  it('builds or pulls the image of the roles once, by the service that all of them wait for', () => {
    expect(remit.filter(([, { build }]) => build).map(([name]) => name)).toEqual(['migrate']);
    expect(new Set(remit.map(([, { image }]) => image)).size).toBe(1);
    for (const [name, { pull_policy }] of remit)
      expect([name, pull_policy]).toEqual([name, name === 'migrate' ? 'if_not_present' : 'never']);
  });

  it('migrates as the owner of the tables, and runs the roles as a login that owns nothing', () => {
    const passwords = { REMIT_DB_PASSWORD: 'of the owner', REMIT_SERVICE_DB_PASSWORD: 'of the roles' };
    for (const [name, service] of remit) {
      const { DATABASE_URL, PGPASSWORD } = environmentOf(service, passwords);
      if (DATABASE_URL === undefined) continue;
      expect([name, new URL(DATABASE_URL).username, PGPASSWORD]).toEqual(
        name === 'migrate' ? [name, 'remit', 'of the owner'] : [name, 'remit_service', 'of the roles'],
      );
    }
    const script = readText('deploy/postgres/10-roles.sh');
    expect(script).toMatch(
      /^CREATE ROLE remit_service LOGIN PASSWORD :'service_password' IN ROLE remit_app;$/m,
    );
    expect(script).toMatch(/^CREATE DATABASE remit OWNER remit;$/m);
    // None stands on a command line, where everybody sees it who lists processes.
    const ofPasswords = /\$\{?\w*PASSWORD/;
    const commands = script.split('\n').filter((line) => ofPasswords.test(line) && !/^(#|: )/.test(line));
    expect(commands).toEqual([]);
  });

  it('lets no node of Temporal that hangs keep rows locked that another one needs', () => {
    expect(readText('deploy/postgres/10-roles.sh')).toMatch(
      /^ALTER ROLE temporal SET idle_in_transaction_session_timeout = '10s';$/m,
    );
  });

  it('backs PostgreSQL up when asked to, by the command of remit, whole and in good time to be noticed', () => {
    const backup = compose.services['backup'] as Service;
    expect(backup.command?.slice(0, 3)).toEqual(['backup', '/backup', '--follow']);
    expect(backup.volumes).toEqual(['backup-data:/backup']);
    expect(new URL(String(backup.environment?.['DATABASE_URL'])).username).toBe('postgres');
    expect(backup.healthcheck?.test?.slice(-3)).toEqual(['backup', 'ls', '/backup']);
    // The disk of a backup may take longer than Docker's ten seconds for what was received.
    expect(milliseconds(withDefaults(backup.stop_grace_period))).toBeGreaterThanOrEqual(60_000);
    // Bounds what a backup that is away keeps at the server.
    expect(compose.services['postgres']?.command).toContain('max_slot_wal_keep_size=4GB');
  });

  it('takes the brokers by either name', () => {
    const api = compose.services['api'] as Service;
    const brokers = (given: Record<string, string>) => environmentOf(api, given)['KAFKA_BROKERS'];
    expect(brokers({})).toBe('kafka:9092');
    expect(brokers({ KAFKA_BROKER: 'a:1' })).toBe('a:1');
    expect(brokers({ KAFKA_BROKER: 'a:1', KAFKA_BROKERS: 'b:1,c:1' })).toBe('b:1,c:1');
  });

  it('runs every role of the CLI, and the migration before them', () => {
    const commands = new Set(remit.map(([, service]) => roleOf(service)));
    expect([...commands].sort()).toEqual(Object.keys(ROLE_NEEDS).sort());
  });

  it('serves every task queue by exactly one kind of worker', () => {
    const queues = remit
      .filter(([, s]) => roleOf(s) === 'worker')
      .flatMap(([, s]) => s.command?.slice(2) ?? []);
    expect(queues.sort()).toEqual(Object.keys(TASK_QUEUES).sort());
  });

  it.each(remit)('gives %s only variables that the configuration knows', (_name, service) => {
    const unknown = Object.keys(service.environment ?? {}).filter(
      (name) => !configNames.has(name) && !NOT_OURS.has(name),
    );
    expect(unknown).toEqual([]);
  });

  it.each(remit)(
    'gives %s a configuration that its role accepts, and opens its ports to the network',
    (_name, service) => {
      const config = loadConfig(environmentOf(service), ROLE_NEEDS[roleOf(service)]);
      expect(config).toMatchObject({ NODE_ENV: 'production', METRICS_HOST: '0.0.0.0', METRICS_PORT: 9464 });
    },
  );

  it('hands every variable of the configuration to a service that reads it', () => {
    const handed = new Set(remit.flatMap(([, service]) => Object.keys(service.environment ?? {})));
    expect([...configNames].filter((name) => !handed.has(name) && !isLocalOnly(name))).toEqual([]);
  });

  it('lets the variables of .env through, but not over what a container fixes', () => {
    const api = compose.services['api'] as Service;
    const config = loadConfig(
      environmentOf(api, {
        LOG_LEVEL: 'debug',
        NODE_ENV: 'development',
        METRICS_PORT: '1',
        KAFKA_BROKERS: 'k:1',
      }),
      ROLE_NEEDS.api,
    );
    expect(config).toMatchObject({
      LOG_LEVEL: 'debug',
      NODE_ENV: 'production',
      METRICS_PORT: 9464,
      KAFKA_BROKERS: ['k:1'],
    });
  });

  it('hands what OpenTelemetry reads by itself to every role that makes spans', () => {
    const traced = remit.filter(([, s]) => 'OTEL_EXPORTER_OTLP_ENDPOINT' in (s.environment ?? {}));
    expect(traced.length).toBeGreaterThan(3);
    for (const [name, service] of traced)
      expect([name, Object.keys(service.environment ?? {})]).toEqual([
        name,
        expect.arrayContaining(OPENTELEMETRY),
      ]);
  });

  it('keeps secrets from roles that do not need them', () => {
    const having = (name: string) =>
      remit.filter(([, s]) => name in (s.environment ?? {})).map(([service]) => service);
    expect(having('AUTH_JWT_SECRET')).toEqual(['api']);
    expect(having('PROVIDER_SECRET_DECARD')).toEqual(['api']);
    expect(having('ORDER_WEBHOOK_SECRET')).toEqual(['api']);
    expect(having('ENCRYPTION_KEY')).toEqual(['api', 'bridge', 'worker', 'worker-deliveries']);
  });

  it('has no secret and no default for one', () => {
    for (const [, name, rest] of readText('docker-compose.yml').matchAll(
      /\$\{(\w*(?:PASSWORD|SECRET|_KEY)\w*)(:?[-?][^}]*)?\}/g,
    ))
      expect([name, rest]).toEqual([name, expect.stringMatching(/^(:?\?.+|:-)$/)]);
  });

  it.each(Object.entries(compose.services).filter(([, s]) => s.restart !== 'no'))(
    'checks the health of %s, or says why it can not',
    (name, service) => {
      // The UI's image has nothing to ask with, and nothing depends on it.
      if (name === 'temporal-ui') return expect(service.healthcheck).toBeUndefined();
      return expect(service.healthcheck?.test?.[0]).toBe('CMD');
    },
  );

  it.each(remit.filter(([, s]) => s.restart !== 'no'))(
    'asks %s whether it is ready, restarts it and scales it',
    (_name, service) => {
      expect(service.healthcheck?.test?.at(-1)).toBe('/readyz');
      expect(service.restart).toBe('unless-stopped');
      expect(withDefaults(service.deploy?.replicas)).toBe('1');
      expect(service.depends_on).toEqual({ migrate: { condition: 'service_completed_successfully' } });
    },
  );

  it('gives a role longer than its ordered shutdown before Docker kills it', () => {
    const timeoutMs = CONFIG_FIELDS.find(({ name }) => name === 'SHUTDOWN_TIMEOUT_MS')?.fallback as number;
    for (const [, service] of remit)
      expect(milliseconds(withDefaults(service.stop_grace_period))).toBeGreaterThan(timeoutMs);
  });

  it('publishes ports on this machine only, unless told otherwise', () => {
    const ports = Object.values(compose.services).flatMap((service) => service.ports ?? []);
    expect(ports.length).toBeGreaterThan(5);
    for (const port of ports) expect(withDefaults(port)).toMatch(/^127\.0\.0\.1:\d+(-\d+)?:\d+$/);
    const published = ports.map((port) => withDefaults(port).split(':')[1]);
    expect(new Set(published).size).toBe(published.length);
  });

  it('opens the API by one address and everything else by another', () => {
    for (const [name, { ports = [] }] of Object.entries(compose.services))
      for (const port of ports) {
        const open = { API_BIND_ADDRESS: '192.0.2.1', BIND_ADDRESS: '10.0.0.1' };
        expect([name, withDefaults(port, open).split(':')[0]]).toEqual([
          name,
          name === 'api' ? '192.0.2.1' : '10.0.0.1',
        ]);
      }
  });

  it('pins every image by a variable with a version, and by a digest where Renovate has set one', () => {
    for (const [, service] of Object.entries(compose.services))
      expect(service.image).toMatch(
        /^\$\{[A-Z_]+_IMAGE:-[\w./-]+:(local|v?\d[\w.-]*)(@sha256:[0-9a-f]{64})?\}$/,
      );
  });

  it('keeps data in named volumes and everything on one network', () => {
    const named = Object.values(compose.services)
      .flatMap((service) => service.volumes ?? [])
      .map((volume) => volume.split(':')[0] ?? '')
      .filter((source) => !source.startsWith('.'));
    expect(named.sort()).toEqual(Object.keys(compose.volumes).sort());
    for (const service of Object.values(compose.services)) expect(service.networks).toEqual(['remit']);
  });

  it('waits for services that exist', () => {
    for (const { depends_on } of Object.values(compose.services))
      for (const name of Object.keys(depends_on ?? {})) expect(Object.keys(compose.services)).toContain(name);
  });

  it('has a description of each of its own parameters, and no description of another', () => {
    const used = new Set(
      [...readText('docker-compose.yml').matchAll(/\$\{([A-Z][A-Z0-9_]*)/g)].map(([, name]) => name),
    );
    const own = [...used].filter((name) => !configNames.has(name ?? ''));
    expect(COMPOSE_FIELDS.map(({ name }) => name).sort()).toEqual(own.sort());
  });
});
