import { expectProblem, TestApi, type Reply } from './support';

/** Logins that an address has in a minute; the same as in src/api/console/router.ts. */
const LOGINS_A_MINUTE = 60;

const apis: TestApi[] = [];
afterAll(async () => {
  for (const api of apis) await api.stop();
});
async function start(trusted?: string): Promise<TestApi> {
  const api = await TestApi.start(trusted === undefined ? {} : { API_TRUSTED_PROXIES: trusted });
  apis.push(api);
  return api;
}

/** A login with a code that nobody has. */
const login = (api: TestApi, forwardedFor?: string): Promise<Reply> =>
  api.call(
    ...(['POST', '/console/api/login'] as const),
    forwardedFor === undefined ? {} : { 'x-forwarded-for': forwardedFor },
    { code: 'A'.repeat(43) },
  );
/** As many as a client has, each with the header that `of` gives it. @returns the answers' statuses, without repetition. */
async function allOf(api: TestApi, of: (n: number) => string | undefined): Promise<number[]> {
  const replies = await Promise.all(Array.from({ length: LOGINS_A_MINUTE }, (_, n) => login(api, of(n))));
  return [...new Set(replies.map(({ status }) => status))];
}

describe('behind a proxy that is named', () => {
  it('logins are limited by the client that it says, and one client is not held up by another', async () => {
    const api = await start('127.0.0.0/8,::1/128');
    expect(await allOf(api, () => '203.0.113.7')).toEqual([401]);
    expectProblem(await login(api, '203.0.113.7'), 429, 'rate_limited');
    expectProblem(await login(api, '203.0.113.8'), 401, 'unauthenticated');
    // What the client itself has written stands before what the proxy has added, and changes nothing.
    expectProblem(await login(api, '198.51.100.1, 203.0.113.7'), 429, 'rate_limited');
    // Of several proxies the last one that is not ours counts.
    expectProblem(await login(api, '203.0.113.7, 127.0.0.9'), 429, 'rate_limited');
    // The proxy itself, without a client: an address of its own.
    expectProblem(await login(api), 401, 'unauthenticated');
  });

  it('portal links are limited likewise', async () => {
    const api = await start('127.0.0.0/8,::1/128');
    const opened = (address: string) =>
      api.call('POST', '/portal/api/login', { 'x-forwarded-for': address }, { code: 'A'.repeat(43) });
    const replies = await Promise.all(Array.from({ length: 300 }, () => opened('203.0.113.7')));
    expect([...new Set(replies.map(({ status }) => status))]).toEqual([401]);
    expectProblem(await opened('203.0.113.7'), 429, 'rate_limited');
    expectProblem(await opened('203.0.113.8'), 401, 'unauthenticated');
  });

  it('says how it was reached, which is what the console’s page is held to', async () => {
    const api = await start('127.0.0.0/8,::1/128');
    const { host } = new URL(api.url);
    const from = (headers: Record<string, string>) =>
      api.call('GET', '/console/api/session', { origin: `https://${host}`, ...headers });
    expect((await from({ 'x-forwarded-proto': 'https' })).status).toBe(200);
    expectProblem(await from({}), 403, 'forbidden');
  });
});

describe.each([
  ['that is not named', '10.0.0.0/8'],
  ['where none is named', undefined],
])('from a peer %s', (_what, trusted) => {
  it('X-Forwarded-For is believed nothing: whoever makes up addresses has one limit', async () => {
    const api = await start(trusted);
    expect(await allOf(api, (n) => `203.0.113.${n}`)).toEqual([401]);
    expectProblem(await login(api, '198.51.100.1'), 429, 'rate_limited');
    expectProblem(await login(api), 429, 'rate_limited');
    const { host } = new URL(api.url);
    const proto = { origin: `https://${host}`, 'x-forwarded-proto': 'https' };
    expectProblem(await api.call('GET', '/console/api/session', proto), 403, 'forbidden');
  });
});
