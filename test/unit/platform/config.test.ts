import { readFileSync } from 'node:fs';
import path from 'node:path';
import { CONFIG_FIELDS, ConfigError, loadConfig, ROLE_NEEDS } from '../../../src/platform/config';

const COMPLETE = {
  DATABASE_URL: 'postgresql://remit:secret@localhost:5432/remit',
  KAFKA_BROKERS: 'one:9092, two:9092',
  TEMPORAL_ADDRESS: 'localhost:7233',
  CLICKHOUSE_URL: 'http://localhost:8123',
  ENCRYPTION_KEY: Buffer.alloc(32, 1).toString('base64'),
  PROVIDER_SECRET_DECARD: `whsec_${Buffer.alloc(32, 1).toString('base64')}`,
  PROVIDER_SECRET_PAYMENTS: `whsec_${Buffer.alloc(32, 2).toString('base64')}`,
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
    const { PROVIDER_SECRET_DECARD: _, PROVIDER_SECRET_PAYMENTS: __, ...env } = COMPLETE;
    expect(mistakesOf(env, ROLE_NEEDS.api).length).toBeGreaterThan(0);
    expect(mistakesOf({ ...env, PROVIDER_SIGNATURES_REQUIRED: 'false' }, ROLE_NEEDS.api)).toEqual([]);
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

  it('never shows a secret in its message', () => {
    const secret = 'a-password-that-is-far-too-short-to-be-a-key';
    const env = { ...COMPLETE, ENCRYPTION_KEY: secret, PROVIDER_SECRET_DECARD: secret, API_PORT: 'x' };
    expect(mistakesOf(env, ROLE_NEEDS.api).join('\n')).not.toContain(secret);
  });

  it('has every variable in .env.example, with its unit in the name where it is a number', () => {
    const example = readFileSync(path.join(__dirname, '../../../.env.example'), 'utf8');
    for (const { name, description } of CONFIG_FIELDS) {
      expect(example).toMatch(new RegExp(`^#? ?${name}=`, 'm'));
      expect(description).not.toBe('');
    }
    const numbers = CONFIG_FIELDS.filter(({ fallback }) => typeof fallback === 'number');
    // Milliseconds, bytes, a plural that says what is counted, or what needs no unit.
    const named = /(_MS|_S|_MB|_[A-Z]+S|_PORT|_FACTOR|_AHEAD|_ATTEMPT|_RUNNING|_PER_[A-Z]+(_[A-Z]+)?|_MAX)$/;
    expect(numbers.map(({ name }) => name).filter((name) => !named.test(name))).toEqual([]);
  });
});
