import { randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { reconcile } from '../../../src/domain/reconciliation';
import { metrics } from '../../../src/platform/metrics';
import { secretVariable } from '../../../src/providers/names';
import type { Provider, Sample } from '../../../src/providers/provider';
import { readProvidersFile } from '../../../src/providers/providers-file';
import { BUILT_IN_PROVIDERS } from '../../../src/providers/registry';
import { runSend } from '../../../src/operations/send';
import { eventually, openTestDatabase } from '../../support/harness';
import { expectProblem, newUser, TestApi } from './support';

/** Every provider, from its signed webhook to the money: those of the registry, and made-up ones of a file alone. */

const PROVIDERS_FILE = path.join(__dirname, '../../../examples/providers.yaml');
const PROVIDERS = [...BUILT_IN_PROVIDERS, ...readProvidersFile(PROVIDERS_FILE).providers];
const SECRETS = Object.fromEntries(
  PROVIDERS.map(({ name, secret }) => [secretVariable(name), secret.generate()]),
);
const MONEY = { amount: '100.00', currency: 'TRY' };

let api: TestApi;
beforeAll(async () => {
  // Commands read the environment of the terminal that they are called in.
  process.env['PROVIDERS_FILE'] = PROVIDERS_FILE;
  api = await TestApi.withWorkers({ PROVIDERS_FILE, ...SECRETS });
});
afterAll(async () => {
  delete process.env['PROVIDERS_FILE'];
  await api?.stop();
});

const user = newUser();
const freshId = () => randomUUID().replaceAll('-', '').slice(0, 16).toUpperCase();

/** The provider's first sample of a kind, which says that it went well. */
const sampleOf = ({ samples }: Provider, kind: Sample['kind']) =>
  Object.values(samples).find((sample) => sample.kind === kind);

const bodyOf = (sample: Sample, id: string) =>
  sample.body({ id, userId: user, eventId: freshId(), ...MONEY });

async function post(
  { name }: Provider,
  { headers, body }: { headers: Record<string, string>; body: string },
) {
  const response = await fetch(`${api.url}/webhooks/providers/${name}`, { method: 'POST', headers, body });
  return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
}
const signed = (provider: Provider, body: string) =>
  provider.sign(body, SECRETS[secretVariable(provider.name)]!, Date.now());
const send = (provider: Provider, body: string) => post(provider, signed(provider, body));

const accepted = ({ acknowledgement }: Provider) =>
  acknowledgement
    ? { status: acknowledgement.status, text: acknowledgement.body }
    : { status: 202, text: expect.stringContaining('"accepted":true') as string };

async function created(path: string, body: object): Promise<string> {
  const reply = path.startsWith('/orders')
    ? await api.asUser(user, 'POST', path, body)
    : await api.operator('POST', path, body);
  expect(reply.status).toBe(201);
  return (reply.body as { id: string }).id;
}
const make = (provider: Provider, type: 'payment' | 'payout') =>
  created(`/api/v1/${type}s`, { userId: user, provider: provider.name, ...MONEY });
const becomes = (path: string, status: string) =>
  eventually(async () => {
    const { body } = await api.operator('GET', path);
    expect(body).toMatchObject({ status });
  });
const balance = async () =>
  ((await api.asUser(user, 'GET', '/accounts/balance')).body as { balance: string }).balance;

describe.each(PROVIDERS.map((provider) => [provider.name, provider] as const))('%s', (name, provider) => {
  beforeAll(() => api.fund(user, '1000.00'));

  it('settles a payment once, however often the webhook comes', async () => {
    const before = Number(await balance());
    const id = await make(provider, 'payment');
    const webhook = signed(provider, bodyOf(sampleOf(provider, 'payment')!, id));
    const reply = await post(provider, webhook);
    expect(reply).toMatchObject(accepted(provider));
    await becomes(`/api/v1/payments/${id}`, 'succeeded');
    expect(await post(provider, webhook)).toMatchObject(accepted(provider));
    const other = await make(provider, 'payment');
    await send(provider, bodyOf(sampleOf(provider, 'payment')!, other));
    await becomes(`/api/v1/payments/${other}`, 'succeeded');
    expect(Number(await balance())).toBe(before + 200);
  });

  it('is played by remit send, which names what it can play', async () => {
    const [sample] = Object.entries(provider.samples).find(([, { kind }]) => kind === 'payment')!;
    const id = await make(provider, 'payment');
    const said: string[] = [];
    const options = { url: api.url, secret: SECRETS[secretVariable(name)]!, id, user, ...MONEY };
    const play = (more: object, sampleName: string) =>
      runSend(
        path.join(tmpdir(), 'remit-that-is-not-there'),
        [name, sampleName],
        { type: 'payment', status: 'success', list: false, ...options, ...more },
        (line) => said.push(line),
      );
    expect(await play({ list: true }, sample)).toBe(0);
    expect(said).toContainEqual(expect.stringContaining(sample));
    expect(await play({}, sample)).toBe(0);
    await becomes(`/api/v1/payments/${id}`, 'succeeded');
    await expect(play({}, 'no-such-sample')).rejects.toThrow(sample);
    expect(await play({ secret: provider.secret.generate() }, sample)).toBe(1);
  });

  it('settles a payout, where it makes them', async () => {
    const sample = sampleOf(provider, 'payout');
    if (!sample) return;
    const id = await make(provider, 'payout');
    expect(await send(provider, bodyOf(sample, id))).toMatchObject(accepted(provider));
    await becomes(`/api/v1/payouts/${id}`, 'succeeded');
  });

  it('pays an order and opens its dispute, where it collects for orders', async () => {
    const [paid, disputed] = [sampleOf(provider, 'order'), sampleOf(provider, 'dispute')];
    if (!paid) return;
    const id = await created('/orders', { ...MONEY, paymentMethod: 'provider' });
    expect(await send(provider, bodyOf(paid, id))).toMatchObject(accepted(provider));
    await eventually(async () => {
      const { body } = await api.asUser(user, 'GET', `/orders/${id}`);
      expect(body).toMatchObject({ status: 'FINISHED' });
    });
    if (!disputed) return;
    expect(await send(provider, bodyOf(disputed, id))).toMatchObject(accepted(provider));
    await eventually(async () => {
      const { body } = await api.operator('GET', `/api/v1/disputes?orderId=${id}`);
      expect(body).toMatchObject({ items: [{ orderId: id, provider: name }] });
    });
  });

  it('is refused with a signature of another secret', async () => {
    const body = bodyOf(sampleOf(provider, 'payment')!, randomUUID());
    const forged = provider.sign(body, provider.secret.generate(), Date.now());
    const { status, text } = await post(provider, forged);
    expect({ status, code: (JSON.parse(text) as { code: string }).code }).toEqual({
      status: 401,
      code: 'signature_invalid',
    });
  });

  it('is taken and counted where remit does nothing on what it says', async () => {
    const sample = sampleOf(provider, 'unhandled');
    if (!sample) return;
    const counted = async () =>
      (await metrics.providerEventsUnhandled.get()).values
        .filter(({ labels }) => labels.provider === name)
        .reduce((sum, { value }) => sum + value, 0);
    const before = await counted();
    expect(await send(provider, bodyOf(sample, randomUUID()))).toMatchObject(accepted(provider));
    await eventually(async () => expect(await counted()).toBe(before + 1));
  });
});

it('leaves books that agree with everything that was said', async () => {
  const db = openTestDatabase(api.space);
  try {
    const { checks } = await reconcile(db, { maxFindings: 3, days: 1, timeoutMs: 60_000 });
    expect(checks.filter(({ findings }) => findings.length > 0)).toEqual([]);
  } finally {
    await db.close();
  }
});

it('each of several events in one body is settled', async () => {
  const adyen = BUILT_IN_PROVIDERS.find(({ name }) => name === 'adyen')!;
  const ids = [await make(adyen, 'payment'), await make(adyen, 'payment')];
  const bodies = ids.map(
    (id) => JSON.parse(bodyOf(sampleOf(adyen, 'payment')!, id)) as { notificationItems: unknown[] },
  );
  const notificationItems = bodies.flatMap((body) => body.notificationItems);
  const reply = await send(adyen, JSON.stringify({ ...bodies[0], notificationItems }));
  expect(reply).toMatchObject({ status: 200, text: '[accepted]' });
  for (const id of ids) await becomes(`/api/v1/payments/${id}`, 'succeeded');
});

it('names the field that is wrong, and takes no other content type', async () => {
  const stripe = BUILT_IN_PROVIDERS.find(({ name }) => name === 'stripe')!;
  const wrong = bodyOf(sampleOf(stripe, 'payment')!, randomUUID()).replaceAll('10000', '-10000');
  const { status, text } = await send(stripe, wrong);
  expect({ status, ...(JSON.parse(text) as object) }).toMatchObject({
    status: 400,
    code: 'invalid_request',
    errors: [{ path: 'data.object.amount' }],
  });
  const form = signed(stripe, wrong);
  form.headers['content-type'] = 'application/x-www-form-urlencoded';
  expect((await post(stripe, form)).status).toBe(415);
});

it('a payment of a provider that is in neither registry nor file is refused', async () => {
  const reply = await api.operator('POST', '/api/v1/payments', {
    userId: user,
    provider: 'nobody',
    ...MONEY,
  });
  expectProblem(reply, 400, 'invalid_request');
});
