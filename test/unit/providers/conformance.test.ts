import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { ProviderConfiguration } from '../../../src/providers/configuration';
import { configuredProvider } from '../../../src/providers/configured';
import { readProvidersFile } from '../../../src/providers/providers-file';
import {
  BodyError,
  SignatureError,
  subjectOf,
  type IncomingWebhook,
  type Provider,
  type SampleSubject,
  type SignedWebhook,
  type VerifyTools,
} from '../../../src/providers/provider';
import { BUILT_IN_PROVIDERS } from '../../../src/providers/registry';

/** What every provider has to hold to, whatever its signature and its words are. */

const configured = (signature: unknown, amounts: 'major' | 'minor') =>
  configuredProvider(
    ProviderConfiguration.parse({
      name: 'configured',
      signature,
      fields: {
        id: '/event/id',
        reference: '/data/reference',
        status: '/data/status',
        amount: '/data/amount',
        currency: '/data/currency',
      },
      amounts,
      statuses: { paid: 'success', declined: 'failed', open: 'pending' },
    }),
  );
const PROVIDERS: [string, Provider][] = [
  ...BUILT_IN_PROVIDERS.map((provider): [string, Provider] => [provider.name, provider]),
  ...readProvidersFile(path.join(__dirname, '../../../examples/providers.yaml')).providers.map(
    (provider): [string, Provider] => [`of a file: ${provider.name}`, provider],
  ),
  ['configured: standard-webhooks', configured({ scheme: 'standard-webhooks' }, 'major')],
  [
    'configured: hmac with a time',
    configured(
      {
        scheme: 'hmac',
        header: 'X-Signature',
        algorithm: 'sha512',
        encoding: 'base64',
        signed: '{timestamp}:{body}',
        timestampHeader: 'X-Time',
      },
      'minor',
    ),
  ],
  [
    'configured: hmac as GitHub signs',
    configured({ scheme: 'hmac', header: 'X-Hub-Signature-256', prefix: 'sha256=' }, 'minor'),
  ],
];

const NOW_MS = Date.parse('2026-11-26T09:37:35.123Z');
const tools = (over: Partial<VerifyTools> = {}): VerifyTools => ({
  nowMs: NOW_MS,
  toleranceS: 300,
  fetchPem: () => Promise.reject(new Error('nothing may be fetched')),
  ...over,
});
const subject = (over: Partial<SampleSubject> = {}): SampleSubject => ({
  id: randomUUID(),
  userId: 'user123',
  amount: '100.00',
  currency: 'TRY',
  eventId: randomUUID().replaceAll('-', '').slice(0, 16).toUpperCase(),
  ...over,
});
const asCame = ({ headers, body }: SignedWebhook): IncomingWebhook => ({ headers, body: Buffer.from(body) });
const firstSample = (provider: Provider) => Object.values(provider.samples)[0]!;

describe.each(PROVIDERS)('%s', (_name, provider) => {
  const secret = provider.secret.generate();
  const other = provider.secret.generate();
  const signed = (body = firstSample(provider).body(subject()), nowMs = NOW_MS) =>
    asCame(provider.sign(body, secret, nowMs));
  const verify = async (
    webhook: IncomingWebhook,
    secrets: readonly string[] = [secret],
    over: Partial<VerifyTools> = {},
  ) => provider.verify(webhook, secrets, tools(over));

  test('its generated secret is one that its own format takes', () => {
    expect(provider.secret.schema.safeParse(secret).success).toBe(true);
    expect(provider.secret.schema.safeParse('').success).toBe(false);
  });

  test('takes what is signed with the secret, and with either of two while one rotates', async () => {
    const webhook = signed();
    await expect(verify(webhook)).resolves.toBeDefined();
    await expect(verify(webhook, [other, secret])).resolves.toBeDefined();
    await expect(verify(webhook, [secret, other])).resolves.toBeDefined();
  });

  test('refuses another secret, and no secret at all', async () => {
    await expect(verify(signed(), [other])).rejects.toThrow(SignatureError);
    await expect(verify(signed(), [])).rejects.toThrow(SignatureError);
  });

  test('refuses a webhook whose headers are missing or repeated, unless the body carries the signature', async () => {
    const { body } = signed();
    const unsigned = firstSample(provider).body(subject());
    const bare = provider.sign(unsigned, secret, NOW_MS).body === unsigned ? body : Buffer.from(unsigned);
    await expect(verify({ headers: {}, body: bare })).rejects.toThrow();
  });

  test('refuses a body in which the amount that is to be settled was changed', async () => {
    for (const [name, sample] of Object.entries(provider.samples)) {
      const webhook = signed(sample.body(subject({ amount: '100.00' })));
      const [event] = provider.events(webhook.body);
      // PayTR does not sign the amount of a failure, which moves nothing.
      if (event!.kind === 'unhandled' || event!.status === 'failed') continue;
      const text = webhook.body.toString();
      const tampered = text.replace(/100\.00|10000|100(?=[,}&])/, (found) => `9${found.slice(1)}`);
      if (tampered === text) continue;
      const result = verify({ ...webhook, body: Buffer.from(tampered) });
      await expect(result.then(() => `${name} was taken`)).rejects.toThrow(SignatureError);
    }
  });

  test('where a time is signed, refuses one too far from now in either direction', async () => {
    const body = firstSample(provider).body(subject());
    const late = signed(body, NOW_MS - 301_000);
    const early = signed(body, NOW_MS + 302_000);
    const signsTime = JSON.stringify(signed(body).headers) !== JSON.stringify(late.headers);
    for (const webhook of [late, early]) {
      if (signsTime) await expect(verify(webhook)).rejects.toThrow(SignatureError);
      else await expect(verify(webhook)).resolves.toBeDefined();
    }
    await expect(verify(signed(body, NOW_MS - 299_000))).resolves.toBeDefined();
  });

  test('reads every sample as the event that it says it is, about its subject', () => {
    for (const [name, sample] of Object.entries(provider.samples)) {
      const about = subject();
      const webhook = signed(sample.body(about));
      const [event, ...more] = provider.events(webhook.body, 'msg_1');
      expect([name, event?.kind]).toEqual([name, sample.kind]);
      expect(more).toEqual([]);
      expect(event!.eventId).toMatch(/^[\x21-\x7e]{1,256}$/);
      if (event!.kind === 'unhandled') continue;
      expect(subjectOf(event!)).toBe(about.id);
      expect(event).toMatchObject({ amountMinor: 10_000n, currency: 'TRY' });
    }
  });

  test('gives the same event the same id, and other events others', () => {
    const about = subject();
    const ids = Object.values(provider.samples)
      .filter(({ kind }) => kind !== 'unhandled')
      .map((sample) => {
        const once = provider.events(signed(sample.body(about)).body);
        const again = provider.events(signed(sample.body(about)).body);
        expect(again).toEqual(once);
        return once[0]!.eventId;
      });
    const another = provider.events(signed(firstSample(provider).body(subject())).body)[0]!.eventId;
    expect(ids).not.toContain(another);
  });

  test.each([
    ['JPY', '100', 100n],
    ['KWD', '100.500', 100_500n],
    ['USD', '0.01', 1n],
    ['ISK', '5', 5n],
    ['CLP', '5', 5n],
    ['IDR', '5.00', 500n],
  ])('reads %s %s in the provider’s own minor units', (currency, amount, minor) => {
    const takes = provider.name !== 'paytr' || currency === 'USD';
    if (!takes) return;
    const body = signed(firstSample(provider).body(subject({ currency, amount }))).body;
    expect(provider.events(body)[0]).toMatchObject({ amountMinor: minor, currency });
  });

  test('what is no body of the provider’s is named, and never crashes', () => {
    for (const body of ['', '{}', '[]', 'null', '"x"', '{"a":', 'a=b', '\u0000', '[1e400]'])
      expect(() => provider.events(Buffer.from(body))).toThrow(BodyError);
    expect(() => provider.events(Buffer.from([0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00]))).toThrow(BodyError);
  });
});
