import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { createKeyring, DecryptionError, Keyring } from '../../../src/platform/secrets';

const key = () => randomBytes(32);
const context = 'subscription:sub_1';

describe('secrets at rest', () => {
  test('come back as they were', () => {
    const keyring = new Keyring(key());
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (secret, where) => {
        expect(keyring.decrypt(keyring.encrypt(secret, where), where)).toBe(secret);
      }),
    );
  });

  test('never encrypt to the same bytes twice, and hide the plaintext', () => {
    const keyring = new Keyring(key());
    const [one, two] = [keyring.encrypt('whsec_hidden', context), keyring.encrypt('whsec_hidden', context)];
    expect(Buffer.from(one).equals(two)).toBe(false);
    expect(Buffer.from(one).includes('hidden')).toBe(false);
  });

  test('are refused when any single byte was altered', () => {
    const keyring = new Keyring(key());
    const ciphertext = keyring.encrypt('whsec_x', context);
    for (let index = 0; index < ciphertext.length; index++) {
      const altered = Uint8Array.from(ciphertext);
      altered[index] = (altered[index] ?? 0) ^ 1;
      expect(() => keyring.decrypt(altered, context)).toThrow(DecryptionError);
    }
  });

  test('are refused in another place, cut short or empty', () => {
    const keyring = new Keyring(key());
    const ciphertext = keyring.encrypt('whsec_x', context);
    expect(() => keyring.decrypt(ciphertext, 'subscription:sub_2')).toThrow(DecryptionError);
    for (let length = 0; length < ciphertext.length; length++)
      expect(() => keyring.decrypt(ciphertext.subarray(0, length), context)).toThrow(DecryptionError);
  });

  test('survive a key rotation while the old key is configured, and name the missing key when it is not', () => {
    const [old, current] = [key(), key()];
    const before = new Keyring(old);
    const ciphertext = before.encrypt('whsec_x', context);
    const rotated = new Keyring(current, [old]);
    expect(rotated.decrypt(ciphertext, context)).toBe('whsec_x');
    expect([before.isCurrent(ciphertext), rotated.isCurrent(ciphertext)]).toEqual([true, false]);
    expect(rotated.isCurrent(rotated.encrypt('whsec_x', context))).toBe(true);
    expect(() => new Keyring(current).decrypt(ciphertext, context)).toThrow(
      /[0-9a-f]{16}.*ENCRYPTION_KEYS_OLD/,
    );
  });

  test('take their keys from configuration', () => {
    const [old, current] = [key(), key()];
    const config = {
      ENCRYPTION_KEY: current.toString('base64'),
      ENCRYPTION_KEYS_OLD: [old.toString('base64')],
    };
    expect(createKeyring(config).decrypt(new Keyring(old).encrypt('s', context), context)).toBe('s');
    expect(() => createKeyring({ ...config, ENCRYPTION_KEY: undefined })).toThrow(
      'ENCRYPTION_KEY is not set',
    );
    expect(() => new Keyring(randomBytes(16))).toThrow('32 bytes');
  });
});
