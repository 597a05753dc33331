import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Ajv2020 from 'ajv/dist/2020';
import { parse } from 'yaml';
import { providersFileSchema } from '../../../scripts/generate-specs';
import { ConfigError, loadConfig, ROLE_NEEDS } from '../../../src/platform/config';
import { allTopics, bridgeGroups } from '../../../src/platform/topics';
import { readProvidersFile } from '../../../src/providers/providers-file';

const EXAMPLE = path.join(__dirname, '../../../examples/providers.yaml');
const NORTHPAY = 'a secret that nobody guesses'.replaceAll(' ', '-');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'remit-providers-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(content: unknown): string {
  const file = path.join(folder, 'providers.yaml');
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

const acme = {
  name: 'acme',
  signature: { scheme: 'hmac', header: 'acme-signature' },
  fields: { id: '/id', reference: '/ref', status: '/status', amount: '/cents', currency: '/currency' },
  amounts: 'minor',
  statuses: { paid: 'success' },
};
const with_ = (changes: object) => ({ providers: [{ ...acme, ...changes }] });

/** The mistakes that a process tells when it starts, one line each. */
function mistakesOf(env: NodeJS.ProcessEnv, needs: Parameters<typeof loadConfig>[1] = []): string[] {
  try {
    loadConfig(env, needs);
    return [];
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message.split('\n').filter((line) => line.startsWith('  - '));
  }
}

describe('the file of providers', () => {
  it('adds its providers to topics, groups and dead letters', () => {
    const config = loadConfig({ PROVIDERS_FILE: EXAMPLE }, []);
    expect(config.providers.map(({ name }) => name).slice(-2)).toEqual(['northpay', 'bluecard']);
    expect(allTopics(config)).toEqual(
      expect.arrayContaining(['payment.webhook.northpay', 'payment.webhook.northpay.dlq']),
    );
    expect(bridgeGroups(config)).toContainEqual({
      group: 'remit.payments.bluecard',
      topic: 'payment.webhook.bluecard',
    });
  });

  it('is described by the JSON Schema that editors read, and the example is one', () => {
    const valid = new Ajv2020({ strict: false, validateFormats: false }).compile(providersFileSchema());
    valid(parse(readFileSync(EXAMPLE, 'utf8')));
    expect(valid.errors).toBeNull();
    expect(valid({ providers: [{ name: 'acme' }] })).toBe(false);
  });

  it('has no secrets: they are variables, which the API needs, two while they are changed', () => {
    const file = fileOf({ providers: [acme] });
    expect(mistakesOf({ PROVIDERS_FILE: file }, ROLE_NEEDS.api).join()).toContain(
      'PROVIDER_SECRET_ACME is not set (acme: ',
    );
    expect(mistakesOf({ PROVIDERS_FILE: file }, ROLE_NEEDS.bridge).join()).not.toContain('ACME');
    const secrets = `${NORTHPAY},${NORTHPAY}2`;
    const { PROVIDER_SECRET_ACME } = loadConfig({ PROVIDERS_FILE: file, PROVIDER_SECRET_ACME: secrets }, []);
    expect(PROVIDER_SECRET_ACME).toBe(secrets);
    expect(mistakesOf({ PROVIDERS_FILE: file, PROVIDER_SECRET_ACME: 'short' }).join()).toContain(
      'PROVIDER_SECRET_ACME.0: must be 16 to 256',
    );
    expect(mistakesOf({ PROVIDERS_FILE: fileOf(with_({ secret: NORTHPAY })) }).join()).toContain('secret');
  });

  it('tells every mistake of every provider at once, with file, provider and field, beside those of variables', () => {
    const file = fileOf({
      providers: [
        { ...acme, amounts: 'cents', fields: { ...acme.fields, amount: 'data.amount' } },
        { ...acme, name: 'Bad Name' },
        { ...acme, name: 'third', signature: { scheme: 'hmac', header: 'x', signed: '{timestamp}.{body}' } },
      ],
    });
    const mistakes = mistakesOf({ PROVIDERS_FILE: file, API_PORT: 'x' });
    expect(mistakes.filter((line) => line.includes(`PROVIDERS_FILE ${file}: provider `))).toHaveLength(4);
    for (const told of [
      'provider acme: amounts: ',
      'provider acme: fields.amount: must be a JSON pointer',
      'provider Bad Name: name: must be 1 to 32',
      'provider third: signature.timestampHeader: goes with {timestamp}',
      'API_PORT',
    ])
      expect(mistakes.filter((line) => line.includes(told))).toHaveLength(1);
  });

  it.each([
    ['is not there', () => path.join(folder, 'nowhere.yaml'), 'can not be read (ENOENT)'],
    ['is no YAML', () => fileOf('providers:\n  - name: "acme'), 'line 2: '],
    ['says a thing twice', () => fileOf('providers: []\nproviders: []'), 'line 2: '],
    ['has no list', () => fileOf({}), 'providers: '],
    ['has a provider that remit comes with', () => fileOf(with_({ name: 'stripe' })), 'name: is taken'],
    [
      'has a provider twice',
      () => fileOf({ providers: [acme, acme] }),
      'provider acme: name: is taken by another provider',
    ],
    [
      'has a sample that the configuration reads as something else',
      () => fileOf(with_({ samples: { refused: { kind: 'payment', body: { status: 'no' } } } })),
      'provider acme: samples.refused: reads as unhandled (a status that the configuration does not list), not as payment',
    ],
  ])('that %s is refused', (_what, file, told) => {
    const mistakes = mistakesOf({ PROVIDERS_FILE: file() });
    expect(mistakes).toHaveLength(1);
    expect(mistakes[0]).toContain(told);
  });
});

describe('a provider of a file', () => {
  const only = (changes: object = {}) => {
    const { providers, mistakes } = readProvidersFile(fileOf(with_(changes)));
    expect(mistakes).toEqual([]);
    return providers[0]!;
  };
  const id = '3f6d2c1a-8b4e-4d57-9a10-5c2e7f9b6d31';
  const body = { id: 'e1', ref: `payment:${id}`, status: 'paid', cents: 500, currency: 'eur' };
  const read = (provider: ReturnType<typeof only>, json: object, webhookId?: string) =>
    provider.events(Buffer.from(JSON.stringify(json)), webhookId);

  it('reads places by JSON pointers: of names with any character, in lists, and nothing that is not in the text', () => {
    const fields = { ...acme.fields, status: '/a~1b/~0c', amount: '/items/1' };
    const provider = only({ fields });
    const json = { ...body, 'a/b': { '~c': 'paid' }, items: [1, 700] };
    expect(read(provider, json)).toMatchObject([{ kind: 'payment', amountMinor: 700n, currency: 'EUR' }]);
    for (const amount of ['/items/length', '/constructor/length', '/items/01x', '/cents/value'])
      expect(() => read(only({ fields: { ...acme.fields, amount } }), { ...json, cents: 9 })).toThrow(
        expect.objectContaining({ path: amount }) as Error,
      );
  });

  it('takes a currency that is always the same, and what an event is about from a field or for granted', () => {
    const fields = { ...acme.fields, currency: { always: 'TRY' } };
    const always = only({ fields, kind: { always: 'payout' } });
    expect(read(always, { ...body, ref: id })).toMatchObject([{ kind: 'payout', currency: 'TRY' }]);
    const told = only({ kind: { at: '/what', values: { sale: 'order', true: 'payment' } } });
    expect(read(told, { ...body, ref: id, what: 'sale' })).toMatchObject([{ kind: 'order', orderId: id }]);
    expect(read(told, { ...body, ref: id, what: true })).toMatchObject([{ kind: 'payment' }]);
    expect(read(told, { ...body, ref: id, what: 'constructor' })).toMatchObject([{ kind: 'unhandled' }]);
  });

  it('keeps what it does not handle under the id that it has', () => {
    const { status: _, ...ping } = body;
    expect(read(only(), ping)).toMatchObject([{ kind: 'unhandled', eventId: 'e1' }]);
    expect(read(only(), { ...body, ref: 'a shop order' })).toMatchObject([{ kind: 'unhandled' }]);
    expect(read(only(), { ...body, status: 'constructor' })).toMatchObject([{ kind: 'unhandled' }]);
  });

  it('has the signed id of the webhook as the event’s where the body has none', () => {
    const { id: _, ...fields } = acme.fields;
    const signature = { ...acme.signature, signed: '{id}{body}', idHeader: 'Acme-Id', encoding: 'hex' };
    const provider = only({ fields, signature });
    const { headers, body: text } = provider.sign(JSON.stringify(body), NORTHPAY, Date.now());
    const tools = { nowMs: Date.now(), toleranceS: 300, fetchPem: () => Promise.reject(new Error()) };
    const verify = (given: object) =>
      provider.verify({ headers: { ...headers, ...given }, body: Buffer.from(text) }, [NORTHPAY], tools);
    expect(verify({})).toEqual({ webhookId: headers['acme-id'] });
    expect(verify({ 'acme-signature': headers['acme-signature']!.toUpperCase() })).toEqual(verify({}));
    expect(() => verify({ 'acme-id': 'another' })).toThrow('does not match');
    expect(read(provider, body, 'w1')).toMatchObject([{ eventId: 'w1' }]);
  });

  it('has a tolerance of its own for the signed time, in seconds or milliseconds', () => {
    const nowMs = Date.now();
    const signature = { ...acme.signature, signed: '{timestamp}.{body}', timestampHeader: 'Acme-Time' };
    for (const timestampUnit of ['seconds', 'milliseconds']) {
      const provider = only({ toleranceS: 10, signature: { ...signature, timestampUnit } });
      const verify = (signedMs: number) => {
        const { headers, body: text } = provider.sign('{}', NORTHPAY, signedMs);
        const tools = { nowMs, toleranceS: 300, fetchPem: () => Promise.reject(new Error()) };
        return provider.verify({ headers, body: Buffer.from(text) }, [NORTHPAY], tools);
      };
      expect(verify(nowMs - 9_000)).toEqual({});
      expect(() => verify(nowMs - 12_000)).toThrow('too old');
      expect(() => verify(nowMs + 12_000)).toThrow('too far in the future');
    }
  });

  it('is given the key as it is written: text, hexadecimal digits or base64', () => {
    const key = Buffer.alloc(32, 5);
    const signed = (secretEncoding: string, secret: string) =>
      only({ signature: { ...acme.signature, secretEncoding } }).sign('{}', secret, 0).headers[
        'acme-signature'
      ];
    expect(signed('hex', key.toString('hex'))).toBe(signed('base64', key.toString('base64')));
    expect(signed('text', key.toString('hex'))).not.toBe(signed('hex', key.toString('hex')));
  });

  it('fills in whose a sample is, and leaves the rest of it, and the form of its amount', () => {
    const shown = { status: 'paid', cents: '0', extra: [1, { deep: true }] };
    const provider = only({ samples: { paid: { kind: 'payment', body: shown } } });
    const subject = { id, userId: 'u', amount: '1.50', currency: 'EUR', eventId: 'e9' };
    expect(JSON.parse(provider.samples['paid']!.body(subject))).toEqual({
      ...shown,
      id: 'e9',
      ref: `payment:${id}`,
      cents: '150',
      currency: 'EUR',
    });
    expect(provider.samples['paid']!.title).toBe('paid');
  });
});
