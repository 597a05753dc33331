import fc from 'fast-check';
import { signWebhook } from '../../../src/webhooks/signature';
import {
  RESPONSE_HEADERS_MAX_BYTES,
  shownRequestHeaders,
  shownResponseHeaders,
} from '../../../src/webhooks/shown-headers';

const secrets = [
  `whsec_${Buffer.alloc(32, 1).toString('base64')}`,
  `whsec_${Buffer.alloc(32, 2).toString('base64')}`,
];
const signed = signWebhook({ id: 'evt_1', at: new Date(0), body: '{}', secrets });

describe('what is kept of a request’s headers', () => {
  test('names the subscription’s own headers and shows none of their values', () => {
    const own = { authorization: 'Bearer abc', 'x-team': 'accounting', cookie: 'a=b' };
    expect(shownRequestHeaders(own, signed)).toMatchObject({
      authorization: '***',
      'x-team': '***',
      cookie: '***',
    });
  });

  test('has the beginning of each signature, which verifies nothing', () => {
    const shown = shownRequestHeaders({}, signed);
    const [first, second] = signed['webhook-signature'].split(' ');
    expect(shown['webhook-signature']).toBe(`${first!.slice(0, 11)}*** ${second!.slice(0, 11)}***`);
    expect(shown['user-agent']).toMatch(/^remit\/\d/);
  });
});

describe('what is kept of an answer’s headers', () => {
  test.each([
    ['set-cookie', 'session=0123456789; HttpOnly'],
    ['cookie', 'session=0123456789'],
    ['authorization', 'Bearer 0123456789'],
    ['proxy-authorization', 'Basic 0123456789'],
    ['authentication-info', 'nextnonce="0123456789"'],
    ['x-api-key', '0123456789'],
    ['apikey', '0123456789'],
    ['x-amz-security-token', '0123456789'],
    ['x-csrf-token', '0123456789'],
    ['x-session-id', '0123456789'],
    ['x-client-secret', '0123456789'],
    ['x-hub-signature-256', 'sha256=0123456789'],
  ])('masks %s', (name, value) => {
    expect(shownResponseHeaders({ [name]: [value, value] }, {})).toEqual({ [name]: '***' });
  });

  test.each([
    ['content-type', 'application/json'],
    ['www-authenticate', 'Bearer realm="hooks"'],
    ['retry-after', '120'],
    ['x-request-id', 'req-1'],
    ['location', 'https://example.com/'],
  ])('shows %s', (name, value) => {
    expect(shownResponseHeaders({ [name]: [value] }, {})).toEqual({ [name]: value });
  });

  test('joins the values of one name', () => {
    expect(shownResponseHeaders({ via: ['1.1 a', '1.1 b'] }, {})).toEqual({ via: '1.1 a, 1.1 b' });
  });

  test('masks a value of the subscription’s own headers that the answer repeats, also where it would be cut', () => {
    const own = { authorization: 'Bearer s3cret-s3cret' };
    const padding = 'x'.repeat(RESPONSE_HEADERS_MAX_BYTES - 20);
    const shown = shownResponseHeaders(
      { 'x-echo': [`got Bearer s3cret-s3cret`], 'x-long': [padding + own.authorization] },
      own,
    );
    expect(shown['x-echo']).toBe('got ***');
    expect(JSON.stringify(shown)).not.toContain('Bearer');
  });

  test('is within its bytes and can be stored, whatever is answered', () => {
    const name = fc.stringMatching(/^[a-z_][a-z0-9_-]{0,30}$/);
    // Node reads the bytes of a header as Latin-1.
    const value = fc.string({
      unit: fc.integer({ min: 0, max: 255 }).map((c) => String.fromCharCode(c)),
      maxLength: 900,
    });
    const headers = fc.dictionary(name, fc.array(value, { minLength: 1, maxLength: 4 }), { maxKeys: 20 });
    fc.assert(
      fc.property(headers, (given) => {
        const shown = shownResponseHeaders(given, {});
        const bytes = Object.entries(shown).reduce((sum, [n, v]) => sum + n.length + Buffer.byteLength(v), 0);
        expect(bytes).toBeLessThanOrEqual(RESPONSE_HEADERS_MAX_BYTES);
        expect(JSON.stringify(shown)).not.toMatch(/\\u0000|\\ud[89a-f]/);
      }),
    );
  });
});
