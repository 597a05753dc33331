import { readFileSync } from 'node:fs';
import path from 'node:path';
import { COMPOSE_FIELDS } from '../../../scripts/lib/compose-fields';
import { CONFIG_FIELDS, ConfigError, loadConfig, ROLE_NEEDS } from '../../../src/platform/config';
import { misspelt } from '../../../src/platform/config-names';

const COMPLETE = {
  DATABASE_URL: 'postgresql://remit:secret@localhost:5432/remit',
  KAFKA_BROKERS: 'one:9092, two:9092',
  TEMPORAL_ADDRESS: 'localhost:7233',
  CLICKHOUSE_URL: 'http://localhost:8123',
  ENCRYPTION_KEY: Buffer.alloc(32, 1).toString('base64'),
  PROVIDER_SECRET_DECARD: `whsec_${Buffer.alloc(32, 1).toString('base64')}`,
  ORDER_WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 2).toString('base64')}`,
};

function mistakesOf(env: NodeJS.ProcessEnv, needs: Parameters<typeof loadConfig>[1]): string[] {
  try {
    loadConfig(env, needs);
    return [];
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).exitCode).toBe(78);
    return (error as ConfigError).message.split('\n').filter((line) => line.startsWith('  - '));
  }
}

describe('the configuration', () => {
  it.each(Object.entries(ROLE_NEEDS))('of %s is complete with what the role needs', (_role, needs) => {
    expect(mistakesOf(COMPLETE, needs)).toEqual([]);
  });

  it.each(Object.entries(ROLE_NEEDS))('of %s names every missing variable at once', (_role, needs) => {
    const mistakes = mistakesOf({}, needs);
    for (const name of needs)
      expect(mistakes.filter((line) => line.includes(`${name} is not set`))).toHaveLength(1);
    expect(mistakes).toHaveLength(needs.length);
  });

  it('lists missing and wrong variables together', () => {
    const { DATABASE_URL: _, ...env } = COMPLETE;
    const mistakes = mistakesOf(
      { ...env, API_PORT: '70000', KAFKA_TLS: 'maybe', ENCRYPTION_KEY: 'short' },
      ROLE_NEEDS.api,
    );
    const names = ['DATABASE_URL', 'API_PORT', 'KAFKA_TLS', 'ENCRYPTION_KEY'];
    for (const name of names) expect(mistakes.filter((line) => line.includes(name))).toHaveLength(1);
    expect(mistakes).toHaveLength(names.length);
  });

  it('takes an empty variable for one that is not set', () => {
    expect(loadConfig({ ...COMPLETE, API_PORT: '' }, ROLE_NEEDS.api).API_PORT).toBe(8080);
  });

  it('reads KAFKA_BROKER where KAFKA_BROKERS is not set, and refuses a list without a broker', () => {
    expect(loadConfig({ KAFKA_BROKER: 'a:1,b:2' }, ['KAFKA_BROKERS']).KAFKA_BROKERS).toEqual(['a:1', 'b:2']);
    expect(mistakesOf({ KAFKA_BROKERS: ',' }, ['KAFKA_BROKERS'])).toHaveLength(1);
  });

  it('does without provider secrets only where signatures are not required', () => {
    const { PROVIDER_SECRET_DECARD: _, ORDER_WEBHOOK_SECRET: __, ...env } = COMPLETE;
    expect(mistakesOf(env, ROLE_NEEDS.api).length).toBeGreaterThan(0);
    expect(mistakesOf({ ...env, PROVIDER_SIGNATURES_REQUIRED: 'false' }, ROLE_NEEDS.api)).toEqual([]);
  });

  it('takes two secrets of a provider while one is changed, each in its own form', () => {
    const [one, two] = ['ab'.repeat(32), 'cd'.repeat(32)];
    const read = (secrets: string) =>
      loadConfig({ PROVIDER_SECRET_ADYEN: secrets }, []).PROVIDER_SECRET_ADYEN;
    expect(read(one)).toBe(one);
    expect(read(`${one}, ${two}`)).toBe(`${one},${two}`);
    for (const wrong of ['short', `${one},short`, `${one},${two},${one}`, ',', '0'.repeat(64)])
      expect(mistakesOf({ PROVIDER_SECRET_ADYEN: wrong }, []).join()).toContain('PROVIDER_SECRET_ADYEN');
  });

  it.each([
    ['SASL without a mechanism', { KAFKA_SASL_USERNAME: 'u', KAFKA_SASL_PASSWORD: 'p' }],
    ['SASL without a password', { KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: 'u' }],
    ['a client certificate without its key', { TEMPORAL_TLS_CERT_FILE: __filename }],
    ['a CA for a connection that is not encrypted', { KAFKA_TLS_CA_FILE: __filename }],
    ['a file that can not be read', { KAFKA_TLS: 'true', KAFKA_TLS_CA_FILE: '/nowhere/ca.pem' }],
    ['a default currency that is none', { DEFAULT_CURRENCY: 'QQQ' }],
    [
      'bodies that fit into no message',
      { API_BODY_LIMIT_BYTES: '300000', KAFKA_MESSAGE_MAX_BYTES: '262144' },
    ],
    ['a private range that is none', { WEBHOOK_ALLOWED_PRIVATE_CIDRS: 'everything' }],
  ])('refuses %s', (_what, changes) => {
    expect(mistakesOf({ ...COMPLETE, ...changes }, ROLE_NEEDS.api)).toHaveLength(1);
  });

  it.each([
    ['a broker without a port', { KAFKA_BROKERS: 'localhost' }, 'host:port'],
    ['one broker of several without a port', { KAFKA_BROKERS: 'one:9092,two' }, 'KAFKA_BROKERS.1'],
    ['a port that is none', { KAFKA_BROKERS: 'localhost:99999' }, 'host:port'],
    ['a Temporal without a port', { TEMPORAL_ADDRESS: 'localhost' }, 'host:port'],
    ['a tenant that no token could name', { DEFAULT_TENANT: 'a b' }, 'DEFAULT_TENANT'],
    ['a topic that Kafka does not take', { TOPIC_PURCHASES: 'my purchases' }, 'TOPIC_PURCHASES'],
    ['two streams in one topic', { TOPIC_PURCHASES: 'events' }, 'the same topic'],
    [
      'a stream in the DLQ of another, which a purge would empty',
      { TOPIC_PURCHASES: 'webhook.delivery.dlq' },
      'the same topic',
    ],
    ['what is fixed', { RELAY_POLL_INTERVAL_MS: '5' }, 'RELAY_POLL_INTERVAL_MS is no variable of remit'],
    ['what follows from others', { TOPIC_EVENTS: 'mine' }, 'TOPIC_EVENTS is no variable of remit'],
    ['a key of zeros', { ENCRYPTION_KEY: Buffer.alloc(32).toString('base64') }, 'placeholder'],
    ['a former key of zeros', { ENCRYPTION_KEYS_OLD: Buffer.alloc(32).toString('base64') }, 'placeholder'],
    [
      'a provider’s secret of zeros',
      { PROVIDER_SECRET_DECARD: `whsec_${Buffer.alloc(32).toString('base64')}` },
      'placeholder',
    ],
    ['a signing key of one character', { AUTH_JWT_SECRET: '0'.repeat(64) }, 'placeholder'],
    ['a signing key to be changed', { AUTH_JWT_SECRET: 'please-change-me-please-change-me' }, 'placeholder'],
    [
      'an origin with a path',
      { CONSOLE_URL: 'https://remit.example.com', PORTAL_FRAME_ORIGINS: 'https://app.example.com/' },
      'PORTAL_FRAME_ORIGINS.0',
    ],
    [
      'every origin',
      { CONSOLE_URL: 'https://remit.example.com', PORTAL_FRAME_ORIGINS: '*' },
      'PORTAL_FRAME_ORIGINS.0',
    ],
    [
      'an origin without TLS',
      { CONSOLE_URL: 'https://remit.example.com', PORTAL_FRAME_ORIGINS: 'http://app.example.com' },
      'PORTAL_FRAME_ORIGINS.0',
    ],
    [
      'a portal in a frame whose cookies no browser would take',
      { CONSOLE_URL: 'http://remit.example.com', PORTAL_FRAME_ORIGINS: 'https://app.example.com' },
      'CONSOLE_URL must be an https address',
    ],
    ['a misspelt variable', { DATABSE_URL: 'postgresql://x/y' }, 'is DATABASE_URL meant?'],
    ['a variable without its unit', { WEBHOOK_TIMEOUT: '5000' }, 'is WEBHOOK_TIMEOUT_MS meant?'],
    ['another plural', { KAFKA_BROKERS_: 'a:1' }, 'is KAFKA_BROKERS meant?'],
    ['a small letter', { log_level: 'debug' }, 'is LOG_LEVEL meant?'],
    ['an unknown one of the local stack', { REMIT_EMBEDDED_REDIS_MB: '1' }, 'REMIT_EMBEDDED_REDIS_MB'],
    ['a misspelt one of the local stack', { REMIT_DATADIR: '/x' }, 'is REMIT_DATA_DIR meant?'],
  ])('refuses %s', (_what, changes, told) => {
    const mistakes = mistakesOf({ ...COMPLETE, ...changes }, ROLE_NEEDS.api);
    expect(mistakes).toHaveLength(1);
    expect(mistakes[0]).toContain(told);
  });

  it('lists all mistakes of all kinds at once: none hides another', () => {
    const { DATABASE_URL: _, ...env } = COMPLETE;
    const mistakes = mistakesOf(
      {
        ...env,
        API_PORT: '70000',
        KAFKA_BROKERS: 'localhost',
        KAFKA_SASL_USERNAME: 'u',
        DEFAULT_TENANT: 'a b',
        TOPIC_PURCHASES: 'events',
        ENCRYPTION_KEY: Buffer.alloc(32).toString('base64'),
        KAFKA_TLS_CA_FILE: '/nowhere/ca.pem',
        KAFKA_BROKRES: 'a:1',
      },
      ROLE_NEEDS.api,
    ).join('\n');
    for (const told of [
      'DATABASE_URL is not set',
      'API_PORT',
      'KAFKA_BROKERS.0',
      'KAFKA_SASL_MECHANISM',
      'DEFAULT_TENANT',
      'the same topic',
      'ENCRYPTION_KEY',
      'KAFKA_TLS_CA_FILE is set but',
      '/nowhere/ca.pem can not be read',
      'KAFKA_BROKRES is no variable',
    ])
      expect(mistakes).toContain(told);
  });

  it.each([
    ['what this machine has set', process.env],
    [
      'what Kubernetes sets for services',
      { REMIT_DATA_DIR_SERVICE_HOST: '10.0.0.1', KAFKA_PORT: 'tcp://1:2' },
    ],
    ['what compose reads', Object.fromEntries(COMPOSE_FIELDS.map(({ name }) => [name, '1']))],
    ['what tests read', { REMIT_TEST_SKIP_CHECK: '1', REMIT_FAULT_ROUNDS: '2', REMIT_LAUNCHER_PID: '3' }],
  ])('takes %s for no misspelling', (_what, env) => {
    const names = CONFIG_FIELDS.map(({ name }) => name);
    expect(misspelt(Object.keys(env), names)).toEqual([]);
  });

  it('never shows a secret in its message', () => {
    const secret = 'a-password-that-is-far-too-short-to-be-a-key';
    const env = { ...COMPLETE, ENCRYPTION_KEY: secret, PROVIDER_SECRET_DECARD: secret, API_PORT: 'x' };
    expect(mistakesOf(env, ROLE_NEEDS.api).join('\n')).not.toContain(secret);
  });

  it.each([
    ['OTEL_BSP_MAX_EXPORT_BATCH_SIZE', '0', /a whole number, at least 1/],
    ['OTEL_BSP_MAX_QUEUE_SIZE', 'many', /a whole number, at least 1/],
    ['OTEL_EXPORTER_OTLP_TIMEOUT', '-1', /a whole number, at least 1/],
    ['OTEL_EXPORTER_OTLP_COMPRESSION', 'zip', /gzip or none/],
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'grpc', /http\/protobuf/],
    ['OTEL_EXPORTER_OTLP_CERTIFICATE', '/no/such/file', /can not be read/],
    ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'http://collector:4318', /set OTEL_EXPORTER_OTLP_ENDPOINT/],
  ])('names %s=%s, which only OpenTelemetry’s SDK would read', (name, value, expected) => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', [name]: value };
    expect(mistakesOf(env, [])).toEqual([expect.stringMatching(expected)]);
    expect(mistakesOf(env, [])[0]).toContain(name);
  });

  it('leaves OpenTelemetry’s variables alone while there are no traces', () => {
    expect(mistakesOf({ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', OTEL_BSP_MAX_QUEUE_SIZE: '0' }, [])).toEqual([]);
  });

  it('has every variable in .env.example, with its unit in the name where it is a number', () => {
    const example = readFileSync(path.join(__dirname, '../../../.env.example'), 'utf8');
    for (const { name, description } of CONFIG_FIELDS) {
      expect(example).toMatch(new RegExp(`^#? ?${name}=`, 'm'));
      expect(description).not.toBe('');
    }
    // Names of OpenTelemetry are the standard's.
    const numbers = CONFIG_FIELDS.filter(
      ({ name, fallback }) => typeof fallback === 'number' && !name.startsWith('OTEL_'),
    );
    // Milliseconds, bytes, a plural that says what is counted, or what needs no unit.
    const named = /(_MS|_S|_MB|_[A-Z]+S|_PORT|_FACTOR|_AHEAD|_ATTEMPT|_RUNNING|_PER_[A-Z]+(_[A-Z]+)?|_MAX)$/;
    expect(numbers.map(({ name }) => name).filter((name) => !named.test(name))).toEqual([]);
  });
});
