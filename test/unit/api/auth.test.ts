import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Request } from 'express';
import { SignJWT, UnsecuredJWT } from 'jose';
import { Authenticator, type AuthConfig } from '../../../src/api/auth';
import { IssuerKeys } from '../../../src/api/issuer-keys';
import { RemitError } from '../../../src/contracts/errors';
import { metrics } from '../../../src/platform/metrics';
import { mintToken } from '../../../src/operations/token';

const SECRET = 'a-local-key-of-at-least-32-characters';
const LOCAL: AuthConfig = {
  AUTH_JWT_SECRET: SECRET,
  AUTH_JWKS_URL: undefined,
  AUTH_ISSUER: undefined,
  AUTH_AUDIENCE: 'remit',
  DEFAULT_TENANT: 'default',
  TRUST_USER_ID_HEADER: false,
};

/** Only the headers of a request are looked at. */
const request = (headers: Record<string, string>) => ({ headers }) as unknown as Request;
const bearer = (token: string) => request({ authorization: `Bearer ${token}` });

const mint = (
  scopes: string[],
  more: Partial<{ subject: string; tenant: string; expiresInS: number }> = {},
) => mintToken(LOCAL, { subject: 'operator', scopes, expiresInS: 60, ...more });

function sign(claims: Record<string, unknown>, key: KeyObject | Uint8Array, alg = 'HS256', kid?: string) {
  const now = Math.floor(Date.now() / 1_000);
  return new SignJWT({ sub: 'operator', aud: 'remit', exp: now + 60, scope: 'read', ...claims })
    .setProtectedHeader({ alg, ...(kid ? { kid } : {}) })
    .sign(key);
}
const secretKey = new TextEncoder().encode(SECRET);

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => new Error('was accepted'),
    (reason: unknown) => reason,
  );
  return error instanceof RemitError ? error.code : String(error);
}

describe('an operator’s token', () => {
  const auth = new Authenticator(LOCAL);

  it('carries subject, tenant and scopes', async () => {
    const token = await mint(['read', 'write'], { tenant: 'acme' });
    await expect(auth.principal(bearer(token), 'write')).resolves.toEqual({
      subject: 'operator',
      tenantId: 'acme',
      scopes: new Set(['read', 'write']),
      via: 'token',
    });
  });

  it('is not believed for longer because it was verified before', async () => {
    const token = bearer(await mint(['read'], { expiresInS: 60 }));
    const now = Date.now();
    await auth.principal(token, 'read');
    expect(await codeOf(auth.principal(token, 'write'))).toBe('forbidden');
    const clock = jest.spyOn(Date, 'now').mockReturnValue(now + 20_000);
    try {
      await expect(auth.principal(token, 'read')).resolves.toBeDefined();
      clock.mockRestore();
      jest.useFakeTimers({ now: now + 70_000, doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
      expect(await codeOf(auth.principal(token, 'read'))).toBe('unauthenticated');
    } finally {
      jest.useRealTimers();
    }
  });

  it('belongs to the default tenant when it names none', async () => {
    const { tenantId } = await auth.principal(bearer(await mint(['read'])), 'read');
    expect(tenantId).toBe('default');
  });

  it.each([
    [['read'], 'write'],
    [['write'], 'read'],
    [['read', 'write'], 'admin'],
    [[], 'read'],
  ] as const)('with scopes %p may not %s', async (scopes, wanted) => {
    expect(await codeOf(auth.principal(bearer(await mint([...scopes])), wanted))).toBe('forbidden');
  });

  it.each(['read', 'write', 'admin'] as const)('with scope admin may %s', async (wanted) => {
    await expect(auth.principal(bearer(await mint(['admin'])), wanted)).resolves.toBeDefined();
  });

  it.each([
    ['no header', {}],
    ['an empty one', { authorization: '' }],
    ['another scheme', { authorization: 'Basic dXNlcjpwYXNz' }],
    ['no token', { authorization: 'Bearer' }],
    ['something that is no token', { authorization: 'Bearer abc' }],
    ['a token with garbage in it', { authorization: 'Bearer a.b.c' }],
    ['an endless token', { authorization: `Bearer ${'a'.repeat(9_000)}.b.c` }],
  ])('is asked for when there is %s', async (_name, headers) => {
    expect(await codeOf(auth.principal(request(headers), 'read'))).toBe('unauthenticated');
  });

  it.each([
    ['has expired', { exp: Math.floor(Date.now() / 1_000) - 60 }],
    ['is not valid yet', { nbf: Math.floor(Date.now() / 1_000) + 60 }],
    ['never expires', { exp: undefined }],
    ['is for another audience', { aud: 'somebody-else' }],
    ['is for no audience', { aud: undefined }],
    ['has no subject', { sub: undefined }],
    ['has a subject with control characters', { sub: 'a\u0000b' }],
    ['has an endless subject', { sub: 'a'.repeat(129) }],
    ['has a tenant that is no name', { tenant: '../other' }],
    ['has a tenant that is no text', { tenant: { $ne: null } }],
  ])('is refused when it %s', async (_name, claims) => {
    const token = await sign(claims, secretKey);
    expect(await codeOf(auth.principal(bearer(token), 'read'))).toBe('unauthenticated');
  });

  it('is refused when it is signed with another key, another algorithm or not at all', async () => {
    const other = new TextEncoder().encode('another-key-of-at-least-32-characters');
    const unsigned = new UnsecuredJWT({ scope: 'admin' })
      .setSubject('x')
      .setAudience('remit')
      .setExpirationTime('1h');
    const tokens = [await sign({}, other), await sign({}, secretKey, 'HS512'), unsigned.encode()];
    for (const token of tokens)
      expect(await codeOf(auth.principal(bearer(token), 'read'))).toBe('unauthenticated');
  });

  it('is refused when its issuer is not the configured one', async () => {
    const strict = new Authenticator({ ...LOCAL, AUTH_ISSUER: 'https://issuer.example' });
    const right = await sign({ iss: 'https://issuer.example' }, secretKey);
    await expect(strict.principal(bearer(right), 'read')).resolves.toBeDefined();
    const wrong = await sign({ iss: 'https://other.example' }, secretKey);
    expect(await codeOf(strict.principal(bearer(wrong), 'read'))).toBe('unauthenticated');
    expect(await codeOf(strict.principal(bearer(await sign({}, secretKey)), 'read'))).toBe('unauthenticated');
  });

  it('is refused everywhere when no key is configured', async () => {
    const closed = new Authenticator({ ...LOCAL, AUTH_JWT_SECRET: undefined });
    expect(await codeOf(closed.principal(bearer(await mint(['admin'])), 'read'))).toBe('unauthenticated');
  });

  it.each([
    ['an unknown scope', { scopes: ['root'] }],
    ['no subject', { subject: '' }],
    ['a life of no time', { expiresInS: 0 }],
    ['a life of ten years', { expiresInS: 10 * 366 * 86_400 }],
    ['a tenant that is no name', { tenant: 'a b' }],
  ])('is not minted with %s', async (_name, changed) => {
    await expect(
      mintToken(LOCAL, { subject: 'me', scopes: ['read'], expiresInS: 60, ...changed }),
    ).rejects.toThrow();
  });
});

describe('a token of an OIDC issuer', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = (key: KeyObject, kid: string, alg: string) => ({
    ...key.export({ format: 'jwk' }),
    kid,
    alg,
    use: 'sig',
  });
  const ed = generateKeyPairSync('ed25519');
  const keys = [
    jwk(rsa.publicKey, 'rsa', 'RS256'),
    jwk(ec.publicKey, 'ec', 'ES256'),
    jwk(ed.publicKey, 'ed', 'Ed25519'),
    jwk(ed.publicKey, 'old-ed', 'EdDSA'),
  ];
  let issuer: http.Server;
  let auth: Authenticator;
  let status = 200;

  beforeAll(async () => {
    issuer = http.createServer((_request, response) => {
      response.statusCode = status;
      response.end(JSON.stringify({ keys }));
    });
    await new Promise<void>((resolve) => issuer.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => new Promise((resolve) => issuer.close(resolve)));
  beforeEach(() => {
    status = 200;
    const AUTH_JWKS_URL = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/jwks`;
    auth = new Authenticator({ ...LOCAL, AUTH_JWKS_URL });
  });

  it('is verified with the issuer’s keys, beside local tokens', async () => {
    for (const [key, alg, kid] of [
      [rsa.privateKey, 'RS256', 'rsa'],
      [rsa.privateKey, 'PS256', undefined],
      [ec.privateKey, 'ES256', 'ec'],
      [ed.privateKey, 'Ed25519', 'ed'],
      [ed.privateKey, 'EdDSA', 'old-ed'],
    ] as const) {
      const token = await sign({ tenant: 'acme' }, key, alg, kid);
      const found = auth.principal(bearer(token), 'read');
      if (alg === 'PS256')
        expect(await codeOf(found)).toBe('unauthenticated'); // the key is for RS256 only
      else await expect(found).resolves.toMatchObject({ tenantId: 'acme' });
    }
    await expect(auth.principal(bearer(await mint(['read'])), 'read')).resolves.toBeDefined();
  });

  it('can’t be forged by using a public key as an HMAC key', async () => {
    const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const exp = Math.floor(Date.now() / 1_000) + 60;
    const head = `${part({ alg: 'HS256', kid: 'rsa' })}.${part({ sub: 'x', aud: 'remit', exp, scope: 'admin' })}`;
    const forged = `${head}.${createHmac('sha256', pem).update(head).digest('base64url')}`;
    const withoutLocal = new Authenticator({
      ...LOCAL,
      AUTH_JWT_SECRET: undefined,
      AUTH_JWKS_URL: `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/jwks`,
    });
    expect(await codeOf(auth.principal(bearer(forged), 'read'))).toBe('unauthenticated');
    expect(await codeOf(withoutLocal.principal(bearer(forged), 'read'))).toBe('unauthenticated');
  });

  it('is refused when the issuer does not know its key', async () => {
    const stranger = generateKeyPairSync('rsa', { modulusLength: 2_048 });
    const token = await sign({}, stranger.privateKey, 'RS256', 'stranger');
    expect(await codeOf(auth.principal(bearer(token), 'read'))).toBe('unauthenticated');
  });

  it('is answered “unavailable”, not “unauthenticated”, while the issuer can’t be reached', async () => {
    const token = await sign({}, rsa.privateKey, 'RS256', 'rsa');
    status = 500;
    expect(await codeOf(auth.principal(bearer(token), 'read'))).toBe('unavailable');
    const gone = new Authenticator({ ...LOCAL, AUTH_JWKS_URL: 'http://127.0.0.1:9/jwks' });
    expect(await codeOf(gone.principal(bearer(token), 'read'))).toBe('unavailable');
  });
});

describe('the keys of an issuer that is away for a while', () => {
  const MINUTE = 60_000;
  const pair = () => generateKeyPairSync('ed25519');
  const [known, fresh] = [pair(), pair()];
  const jwk = (key: KeyObject, kid: string) => ({ ...key.export({ format: 'jwk' }), kid, alg: 'Ed25519' });
  const header = (kid: string) => ({ alg: 'Ed25519', kid });
  let issuer: http.Server;
  let keys: object[];
  let answering: boolean;
  let asked: number;
  let now: number;
  let found: IssuerKeys;
  const lines: string[] = [];
  const log = {
    warn: (_: object, text: string) => lines.push(text),
    info: (text: string) => lines.push(text),
  };

  beforeEach(async () => {
    [keys, answering, asked, now] = [[jwk(known.publicKey, 'known')], true, 0, Date.now()];
    lines.length = 0;
    issuer = http.createServer((_request, response) => {
      asked += 1;
      if (answering) response.end(JSON.stringify({ keys }));
      else response.destroy();
    });
    await new Promise<void>((resolve) => issuer.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/jwks`;
    found = new IssuerKeys(url, log as never, () => now);
  });
  afterEach(() => new Promise((resolve) => issuer.close(resolve)));

  const find = async (kid: string) => await found.find(header(kid), { payload: '', signature: '' });
  const fetches = async (result: string) =>
    (await metrics.issuerKeyFetches.get()).values.find(({ labels }) => labels.result === result)?.value ?? 0;

  it('count for a day, without asking it for each token, with a metric and one line of the log', async () => {
    await find('known');
    answering = false;
    const failed = await fetches('failed');
    for (let hour = 1; hour < 24; hour++) {
      now += 60 * MINUTE;
      await Promise.all([find('known'), find('known'), find('known')]);
      // It is asked again behind the caller's back, once an hour here.
      while ((await fetches('failed')) - failed < hour) await sleep(2);
    }
    expect(asked).toBeLessThan(26);
    expect((await fetches('failed')) - failed).toBe(23);
    expect(lines).toHaveLength(1);
    now += 60 * MINUTE;
    await expect(find('known')).rejects.toThrow();
    answering = true;
    now += MINUTE;
    await expect(find('known').catch(() => find('known'))).resolves.toBeDefined();
    expect(lines).toEqual([lines[0], expect.stringContaining('again')]);
  });

  it('do not tell whether a key that is not among them is wrong or new', async () => {
    await find('known');
    now += 11 * MINUTE;
    await expect(find('fresh')).rejects.toThrow('no applicable key');
    answering = false;
    now += 11 * MINUTE;
    const error = await find('fresh').catch((reason: unknown) => reason);
    expect(String(error)).not.toContain('no applicable key');
    await expect(find('known')).resolves.toBeDefined();
    answering = true;
    keys.push(jwk(fresh.publicKey, 'fresh'));
    now += MINUTE;
    await expect(find('fresh')).resolves.toBeDefined();
  });

  it('end with the next fetch when the issuer has withdrawn them', async () => {
    await find('known');
    keys = [jwk(fresh.publicKey, 'fresh')];
    now += 11 * MINUTE;
    await expect(find('known')).rejects.toThrow('no applicable key');
  });
});

describe('the user of accounts and orders', () => {
  const trusting = new Authenticator({ ...LOCAL, TRUST_USER_ID_HEADER: true });
  const strict = new Authenticator(LOCAL);

  it('is X-User-Id where that header is trusted', async () => {
    await expect(trusting.user(request({ 'x-user-id': 'user123' }), 'write')).resolves.toEqual({
      userId: 'user123',
      tenantId: 'default',
    });
  });

  it('is never X-User-Id where it is not trusted', async () => {
    expect(await codeOf(strict.user(request({ 'x-user-id': 'user123' }), 'read'))).toBe('unauthenticated');
    const token = await mint(['read'], { subject: 'alice', tenant: 'acme' });
    const both = request({ 'x-user-id': 'bob', authorization: `Bearer ${token}` });
    await expect(strict.user(both, 'read')).resolves.toEqual({ userId: 'alice', tenantId: 'acme' });
  });

  it('is the token’s subject when a trusted header is absent', async () => {
    const token = await mint([], { subject: 'alice' });
    await expect(trusting.user(bearer(token), 'write')).resolves.toMatchObject({ userId: 'alice' });
    expect(await codeOf(trusting.user(request({}), 'read'))).toBe('unauthenticated');
  });

  it('needs no scope, but is held to the ones the token has', async () => {
    await expect(strict.user(bearer(await mint([])), 'write')).resolves.toBeDefined();
    expect(await codeOf(strict.user(bearer(await mint(['read'])), 'write'))).toBe('forbidden');
  });

  it.each(['', ' ', 'a\tb', 'naïve', 'x'.repeat(129), ' padded', 'a\u0000b'])(
    'is refused as %p',
    async (id) => {
      expect(await codeOf(trusting.user(request({ 'x-user-id': id }), 'read'))).toBe('invalid_request');
    },
  );
});
