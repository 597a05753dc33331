import fc from 'fast-check';
import { Webhook } from 'standardwebhooks';
import { decodeSecrets, verifySignature } from '../../../src/providers/standard-webhooks';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const KEYS = decodeSecrets(SECRET);
const VECTOR = {
  id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
  timestamp: '1614265330',
  body: Buffer.from('{"test": 2432232314}'),
  signature: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
};
const NOW_MS = 1_614_265_330_000;
const TOLERANCE_S = 300;

function verify(
  changed: {
    id?: string;
    timestamp?: string;
    signature?: string;
    body?: Buffer;
    nowMs?: number;
    keys?: Buffer[];
  } = {},
  without?: string,
) {
  const headers: Record<string, string> = {
    'webhook-id': changed.id ?? VECTOR.id,
    'webhook-timestamp': changed.timestamp ?? VECTOR.timestamp,
    'webhook-signature': changed.signature ?? VECTOR.signature,
  };
  if (without) delete headers[without];
  return verifySignature(
    changed.keys ?? KEYS,
    headers,
    changed.body ?? VECTOR.body,
    TOLERANCE_S,
    changed.nowMs ?? NOW_MS,
  );
}

describe('the signature of a provider webhook', () => {
  it('accepts the vector of the Standard Webhooks libraries', () => {
    expect(verify()).toEqual({ valid: true, id: VECTOR.id });
  });

  it('may be made with the present secret or, while it is changed, with the one before, and with no third', () => {
    const other = `whsec_${Buffer.alloc(24, 1).toString('base64')}`;
    const third = `whsec_${Buffer.alloc(24, 2).toString('base64')}`;
    for (const secrets of [`${SECRET},${other}`, `${other} , ${SECRET}`]) {
      const keys = decodeSecrets(secrets);
      const signature = new Webhook(other).sign(VECTOR.id, new Date(NOW_MS), VECTOR.body.toString());
      expect(verify({ keys })).toEqual({ valid: true, id: VECTOR.id });
      expect(verify({ keys, signature })).toEqual({ valid: true, id: VECTOR.id });
      expect(verify({ keys, signature: `${VECTOR.signature} ${signature}` }).valid).toBe(true);
    }
    expect(verify({ keys: decodeSecrets(`${other},${third}`) }).valid).toBe(false);
  });

  it.each(['webhook-id', 'webhook-timestamp', 'webhook-signature'])('is refused without %s', (header) => {
    expect(verify({}, header).valid).toBe(false);
  });

  it.each([
    ['an empty signature', 'v1,'],
    ['a version without a signature', 'v1'],
    ['a truncated signature', VECTOR.signature.slice(0, -4)],
    ['a longer signature', `${VECTOR.signature}AAAA`],
    ['a signature without its version', VECTOR.signature.slice(3)],
    ['another version with the right signature', `v2,${VECTOR.signature.slice(3)}`],
    ['an asymmetric version with the right signature', `v1a,${VECTOR.signature.slice(3)}`],
    ['the signature of another body', `v1,${Buffer.alloc(32).toString('base64')}`],
    ['nothing', ''],
  ])('is refused for %s', (_name, signature) => {
    expect(verify({ signature })).toEqual({ valid: false, reason: 'no v1 signature matches' });
  });

  it.each([
    ['other versions before it', `v0,abc v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw== ${VECTOR.signature}`],
    [
      'a wrong signature of the same version before it',
      `v1,${Buffer.alloc(32, 1).toString('base64')} ${VECTOR.signature}`,
    ],
    ['other versions after it', `${VECTOR.signature} v2,abc`],
  ])('is accepted with %s', (_name, signature) => {
    expect(verify({ signature }).valid).toBe(true);
  });

  it('looks at a bounded number of signatures', () => {
    expect(verify({ signature: `${'v1,AAAA '.repeat(16)}${VECTOR.signature}` }).valid).toBe(false);
  });

  it.each([
    'hello',
    '',
    '1614265330.5',
    '1614265330abc',
    '0x60378372',
    '-1614265330',
    '01614265330',
    ' 1614265330',
    '9'.repeat(16),
  ])('is refused for the timestamp %p', (timestamp) => {
    expect(verify({ timestamp }).valid).toBe(false);
  });

  it.each([
    [-301, false],
    [-300, true],
    [300, true],
    [301, false],
  ])('with a clock %d s off is accepted: %p', (offsetS, valid) => {
    expect(verify({ nowMs: NOW_MS + offsetS * 1_000 }).valid).toBe(valid);
  });

  it.each([
    ['the body', { body: Buffer.from('{"test":2432232314}') }],
    ['the id', { id: 'msg_p5jXN8AQM9LWM0D4loKWxJel' }],
    ['the timestamp', { timestamp: '1614265331' }],
  ])('covers %s', (_name, changed) => {
    expect(verify(changed).valid).toBe(false);
  });

  it.each(['a b', 'x'.repeat(257), 'naïve', '\u0000'])('is refused for the id %p', (id) => {
    expect(verify({ id }).valid).toBe(false);
  });

  it('agrees with the standardwebhooks package on whatever text is signed', () => {
    const signer = new Webhook(SECRET);
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.stringMatching(/^[\x21-\x7e]{1,64}$/), (body, id) => {
        const signature = signer.sign(id, new Date(NOW_MS), body);
        expect(verify({ body: Buffer.from(body), id, signature }).valid).toBe(true);
        expect(verify({ body: Buffer.from(`${body} `), id, signature }).valid).toBe(false);
      }),
    );
  });

  it('is taken over the bytes, so that bytes that decode to the same text are told apart', () => {
    const replaced = Buffer.from(Buffer.from([0x22, 0xff, 0x22]).toString('utf8'));
    const signature = new Webhook(SECRET).sign(VECTOR.id, new Date(NOW_MS), replaced.toString('utf8'));
    expect(verify({ body: replaced, signature }).valid).toBe(true);
    expect(verify({ body: Buffer.from([0x22, 0xff, 0x22]), signature }).valid).toBe(false);
  });
});
