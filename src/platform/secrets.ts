import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import type { Config } from './config';

const FORMAT = 1;
const KEY_ID_BYTES = 8;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const HEADER_BYTES = 1 + KEY_ID_BYTES;

/** Thrown when a ciphertext can't be read: its key is not configured, it was altered, or it belongs elsewhere. */
export class DecryptionError extends Error {}

interface Key {
  id: Buffer;
  key: Buffer;
}

/**
 * Encrypts secrets at rest: AES-256-GCM with a fresh random nonce each time. A ciphertext is
 * `format(1) | key id(8) | nonce(12) | tag(16) | encrypted`; the key id is a hash of the key, so that after a rotation
 * each ciphertext still finds its own among ENCRYPTION_KEY and ENCRYPTION_KEYS_OLD.
 */
export class Keyring {
  private readonly current: Key;
  private readonly byId: Map<string, Key>;

  constructor(current: Buffer, old: readonly Buffer[] = []) {
    this.current = identified(current);
    this.byId = new Map(
      [...old.map(identified), this.current].map((each) => [each.id.toString('hex'), each]),
    );
  }

  /**
   * Encrypts with the current key.
   * @param context what the secret belongs to (`subscription:sub_…`); authenticated, not stored, and needed to
   *   decrypt, so that a ciphertext copied to another row is refused.
   */
  encrypt(plaintext: string | Uint8Array, context: string): Uint8Array<ArrayBuffer> {
    const header = Buffer.concat([Buffer.from([FORMAT]), this.current.id]);
    const nonce = randomBytes(IV_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.current.key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(Buffer.concat([header, Buffer.from(context)]));
    const bytes = typeof plaintext === 'string' ? Buffer.from(plaintext) : plaintext;
    const encrypted = Buffer.concat([cipher.update(bytes), cipher.final()]);
    return new Uint8Array(Buffer.concat([header, nonce, cipher.getAuthTag(), encrypted]));
  }

  /** @throws DecryptionError; its message tells an operator which key id is missing, never key or plaintext. */
  decrypt(ciphertext: Uint8Array, context: string): string {
    return this.decryptBytes(ciphertext, context).toString('utf8');
  }

  /** What was encrypted as bytes. @throws DecryptionError as `decrypt` does. */
  decryptBytes(ciphertext: Uint8Array, context: string): Buffer {
    const bytes = Buffer.from(ciphertext);
    if (bytes.length < HEADER_BYTES + IV_BYTES + TAG_BYTES || bytes[0] !== FORMAT)
      throw new DecryptionError(`the secret of ${context} is not in a known format`);
    const header = bytes.subarray(0, HEADER_BYTES);
    const keyId = header.subarray(1).toString('hex');
    const found = this.byId.get(keyId);
    if (!found)
      throw new DecryptionError(
        `the secret of ${context} was encrypted with key ${keyId}: add that key to ENCRYPTION_KEYS_OLD`,
      );
    const nonce = bytes.subarray(HEADER_BYTES, HEADER_BYTES + IV_BYTES);
    const tag = bytes.subarray(HEADER_BYTES + IV_BYTES, HEADER_BYTES + IV_BYTES + TAG_BYTES);
    const decipher = createDecipheriv('aes-256-gcm', found.key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(Buffer.concat([header, Buffer.from(context)]));
    decipher.setAuthTag(tag);
    try {
      const encrypted = bytes.subarray(HEADER_BYTES + IV_BYTES + TAG_BYTES);
      return Buffer.concat([decipher.update(encrypted), decipher.final()]);
    } catch (error) {
      throw new DecryptionError(`the secret of ${context} was altered or belongs elsewhere`, {
        cause: error,
      });
    }
  }

  /** Names the key that encrypts now; no secret. */
  get currentKeyId(): string {
    return this.current.id.toString('hex');
  }

  /** Whether a ciphertext was made with the current key; the others are what a key rotation re-encrypts. */
  isCurrent(ciphertext: Uint8Array): boolean {
    return ciphertext[0] === FORMAT && this.current.id.equals(ciphertext.subarray(1, HEADER_BYTES));
  }
}

function identified(key: Buffer): Key {
  if (key.length !== 32) throw new Error(`an encryption key has 32 bytes, this one ${key.length}`);
  return {
    id: createHash('sha256').update('remit key id').update(key).digest().subarray(0, KEY_ID_BYTES),
    key,
  };
}

/**
 * The keyring of a configuration.
 * @throws Error when ENCRYPTION_KEY is not set; roles that need it say so in ROLE_NEEDS.
 */
export function createKeyring(config: Pick<Config, 'ENCRYPTION_KEY' | 'ENCRYPTION_KEYS_OLD'>): Keyring {
  if (!config.ENCRYPTION_KEY) throw new Error('ENCRYPTION_KEY is not set');
  const bytes = (base64: string) => Buffer.from(base64, 'base64');
  return new Keyring(bytes(config.ENCRYPTION_KEY), config.ENCRYPTION_KEYS_OLD.map(bytes));
}
