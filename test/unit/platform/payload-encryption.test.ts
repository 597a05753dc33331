import { randomBytes } from 'node:crypto';
import { ApplicationFailure, defaultPayloadConverter, type Payload } from '@temporalio/common';
import { failureConverter } from '../../../src/platform/encoding-failures';
import { dataConverterOf, isEncrypted, PayloadEncryption } from '../../../src/platform/payload-encryption';
import { DecryptionError, Keyring } from '../../../src/platform/secrets';

const key = () => randomBytes(32);
const payloadOf = (value: unknown): Payload => defaultPayloadConverter.toPayload(value);
const valueOf = (payload: Payload): unknown => defaultPayloadConverter.fromPayload(payload);
const ofKeys = (current: Buffer, old: Buffer[] = [], encrypts = true, namespace = 'default') =>
  new PayloadEncryption(new Keyring(current, old), namespace, encrypts);

describe('payloads in Temporal', () => {
  test.each([[{ text: 'evidence', n: 1 }], ['text'], [null], [undefined], [new Uint8Array([1, 2, 3])]])(
    'come back as they were, and say nothing meanwhile: %j',
    async (value) => {
      const encryption = ofKeys(key());
      const [encrypted] = await encryption.encode([payloadOf(value)]);
      expect(isEncrypted(encrypted!)).toBe(true);
      expect(Buffer.from(encrypted!.data!).includes('evidence')).toBe(false);
      expect(Object.keys(encrypted!.metadata!)).toEqual([
        'encoding',
        'encryption-cipher',
        'encryption-key-id',
      ]);
      const [back] = await encryption.decode([encrypted!]);
      expect(valueOf(back!)).toEqual(value);
    },
  );

  test('name the key that they are encrypted with, and are read with a former one after a rotation', async () => {
    const [old, current] = [key(), key()];
    const before = await ofKeys(old).encode([payloadOf('x')]);
    expect(Buffer.from(before[0]!.metadata!['encryption-key-id']!).toString()).toBe(
      new Keyring(old).currentKeyId,
    );
    const rotated = ofKeys(current, [old]);
    expect((await rotated.decode(before)).map(valueOf)).toEqual(['x']);
    const after = await rotated.encode([payloadOf('y')]);
    expect(Buffer.from(after[0]!.metadata!['encryption-key-id']!).toString()).toBe(
      new Keyring(current).currentKeyId,
    );
    await expect(ofKeys(current).decode(before)).rejects.toThrow(/ENCRYPTION_KEYS_OLD/);
  });

  test('that were written in clear are read as before, whether encryption is on or off', async () => {
    const clear = [payloadOf({ a: 1 })];
    const current = key();
    expect(await ofKeys(current).decode(clear)).toEqual(clear);
    const off = ofKeys(current, [], false);
    expect(await off.encode(clear)).toBe(clear);
    expect((await off.decode(await ofKeys(current).encode(clear))).map(valueOf)).toEqual([{ a: 1 }]);
  });

  test('are refused when altered, or copied to another namespace', async () => {
    const current = key();
    const [encrypted] = await ofKeys(current).encode([payloadOf('x')]);
    const altered = {
      ...encrypted!,
      data: Uint8Array.from(encrypted!.data!, (byte, at) => (at === 40 ? byte ^ 1 : byte)),
    };
    await expect(ofKeys(current).decode([altered])).rejects.toThrow(DecryptionError);
    await expect(ofKeys(current, [], true, 'other').decode([encrypted!])).rejects.toThrow(DecryptionError);
  });

  test('are not encrypted twice', async () => {
    const encryption = ofKeys(key());
    const once = await encryption.encode([payloadOf('x')]);
    expect(await encryption.encode(once)).toEqual(once);
  });

  test('never go out in clear because no key is set', async () => {
    const [codec] = dataConverterOf({
      TEMPORAL_NAMESPACE: 'default',
      TEMPORAL_ENCRYPT_PAYLOADS: true,
      ENCRYPTION_KEY: undefined,
      ENCRYPTION_KEYS_OLD: [],
    }).payloadCodecs!;
    await expect(codec!.encode([payloadOf('x')])).rejects.toThrow('ENCRYPTION_KEY is not set');
    expect((await codec!.decode([payloadOf('x')])).map(valueOf)).toEqual(['x']);
  });

  test('hold what failures say', () => {
    const failure = failureConverter.errorToFailure(
      ApplicationFailure.nonRetryable('user-1 has no account', 'NoAccount'),
      defaultPayloadConverter,
    );
    expect(JSON.stringify({ ...failure, encodedAttributes: undefined })).not.toContain('user-1');
    expect(failureConverter.failureToError(failure, defaultPayloadConverter).message).toBe(
      'user-1 has no account',
    );
  });
});
