import type { Client } from '@temporalio/client';
import type { DataConverter, Payload, PayloadCodec } from '@temporalio/common';
import { temporal } from '@temporalio/proto';
import type { Config } from './config';
import { createKeyring, type Keyring } from './secrets';

/** What of the configuration says how payloads are kept. */
export type PayloadConfig = Pick<
  Config,
  'TEMPORAL_NAMESPACE' | 'TEMPORAL_ENCRYPT_PAYLOADS' | 'ENCRYPTION_KEY' | 'ENCRYPTION_KEYS_OLD'
>;

const { Payload: PayloadMessage } = temporal.api.common.v1;

/** As in Temporal's own samples, so that what looks at histories knows what it sees. */
const ENCODING = 'binary/encrypted';
const CIPHER = 'AES-256-GCM';

/** Names of what stands beside the encrypted bytes, in clear: nothing of it is secret. */
const METADATA = {
  encoding: 'encoding',
  cipher: 'encryption-cipher',
  keyId: 'encryption-key-id',
} as const;

/** Whether a payload is one that was encrypted here. */
export function isEncrypted({ metadata }: Payload): boolean {
  const encoding = metadata?.[METADATA.encoding];
  return encoding !== undefined && encoding !== null && Buffer.from(encoding).toString() === ENCODING;
}

/**
 * Encrypts what goes to Temporal as arguments, results, signals, updates, memos, details and summaries, so that histories and
 * backups of them can't be read without ENCRYPTION_KEY. Each payload is AES-256-GCM of its whole self, bound to the namespace:
 * copied to another one, or altered, it is refused. What was written in clear, or with a former key, is read as before; the
 * id of the key stands in the metadata.
 */
export class PayloadEncryption implements PayloadCodec {
  private readonly context: string;

  /** @param keyring none where no key is configured: what is in clear can be read, and nothing be sent. */
  constructor(
    private readonly keyring: Keyring | undefined,
    namespace: string,
    /** Whether what is written is encrypted; what is read is decrypted in any case. */
    readonly encrypts: boolean,
  ) {
    this.context = `temporal:${namespace}`;
  }

  /** @throws Error when it is to encrypt and has no key: nothing goes out in clear by mistake. */
  encode(payloads: Payload[]): Promise<Payload[]> {
    return promised(() => (this.encrypts ? payloads.map((payload) => this.encrypt(payload)) : payloads));
  }

  /** @throws DecryptionError when a payload was altered, is of another namespace, or its key is not configured. */
  decode(payloads: Payload[]): Promise<Payload[]> {
    return promised(() => payloads.map((payload) => this.decodeOne(payload)));
  }

  /** The same for one, at once. @throws DecryptionError. */
  decodeOne(payload: Payload): Payload {
    if (!isEncrypted(payload)) return payload;
    const bytes = this.requireKeyring().decryptBytes(payload.data ?? new Uint8Array(), this.context);
    return PayloadMessage.decode(bytes);
  }

  /** One that is encrypted already stays as it is, so that nothing is encrypted twice. */
  private encrypt(payload: Payload): Payload {
    if (isEncrypted(payload)) return payload;
    const keyring = this.requireKeyring();
    return {
      metadata: {
        [METADATA.encoding]: Buffer.from(ENCODING),
        [METADATA.cipher]: Buffer.from(CIPHER),
        [METADATA.keyId]: Buffer.from(keyring.currentKeyId),
      },
      data: keyring.encrypt(PayloadMessage.encode(payload).finish(), this.context),
    };
  }

  private requireKeyring(): Keyring {
    if (this.keyring) return this.keyring;
    throw new Error(
      'ENCRYPTION_KEY is not set, and payloads in Temporal are encrypted with it (TEMPORAL_ENCRYPT_PAYLOADS)',
    );
  }
}

/** The encryption of an installation's payloads. */
export function payloadEncryption(config: PayloadConfig): PayloadEncryption {
  const keyring = config.ENCRYPTION_KEY === undefined ? undefined : createKeyring(config);
  return new PayloadEncryption(keyring, config.TEMPORAL_NAMESPACE, config.TEMPORAL_ENCRYPT_PAYLOADS);
}

/** How clients and workers turn values into payloads: the same for all of them, or they would not understand each other. */
export function dataConverterOf(config: PayloadConfig): DataConverter {
  const codec = payloadEncryption(config);
  return {
    payloadCodecs: [codec],
    // Messages of failures name what went wrong, and with whom: where payloads are encrypted, they are too.
    ...(codec.encrypts && { failureConverterPath: ENCODING_FAILURES }),
  };
}

/** What a client encrypts with; undefined for one that was made without. */
export function encryptionOf(client: Client): PayloadEncryption | undefined {
  return client.options.loadedDataConverter.payloadCodecs.find((codec) => codec instanceof PayloadEncryption);
}

/** The module that clients, workers and the workflow bundle take their failure converter from. */
export const ENCODING_FAILURES = require.resolve('./encoding-failures');

/** Like the SDK's own, a codec answers by promises; encrypting itself takes microseconds. */
function promised<T>(run: () => T): Promise<T> {
  try {
    return Promise.resolve(run());
  } catch (error) {
    return Promise.reject(error instanceof Error ? error : new Error(String(error)));
  }
}
