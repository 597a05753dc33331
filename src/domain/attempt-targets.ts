import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { headersContext, secretContext, type SubscriptionState } from './subscriptions';

/** Of subscriptions what attempts need: where to send, and what to sign with. */

/** Where an attempt goes. */
export interface AttemptTarget {
  subscriptionId: string;
  subscriptionState: SubscriptionState;
  /** Another one when anything of the subscription has changed. */
  subscriptionVersion: number;
  url: string;
  /** Until when the subscriber is left alone; in the past or null when it is not slowed down. */
  throttledUntil: Date | null;
  /** Above 0: it did not answer well lately; one attempt at a time is a probe. */
  throttleLevel: number;
  /** Decrypts the secrets that are valid at a time, the new one first. @throws DecryptionError without the key. */
  secrets: (at: Date) => string[];
  /** Decrypts the subscription's own headers. @throws DecryptionError without the key. */
  headers: () => Record<string, string>;
}

/** What of a subscription the first attempts of its deliveries need to know. */
export type SubscriptionTarget = AttemptTarget & { ordered: boolean; ratePerSecond: number | null };

/** As it is stored. */
export type AttemptTargetRow = Omit<AttemptTarget, 'secrets' | 'headers'> & {
  secretCiphertext: Buffer;
  previousSecretCiphertext: Buffer | null;
  previousSecretValidUntil: Date | null;
  olderSecretCiphertexts: Buffer[];
  olderSecretsValidUntil: Date[];
  headersCiphertext: Buffer | null;
};

/** Of `subscriptions AS s`: an AttemptTargetRow. */
export const TARGET_COLUMNS = `s.id AS "subscriptionId", s.state AS "subscriptionState", s.url,
       s.secret_ciphertext AS "secretCiphertext", s.version AS "subscriptionVersion",
       s.previous_secret_ciphertext AS "previousSecretCiphertext",
       s.previous_secret_valid_until AS "previousSecretValidUntil",
       s.older_secret_ciphertexts AS "olderSecretCiphertexts",
       s.older_secrets_valid_until AS "olderSecretsValidUntil",
       s.headers_ciphertext AS "headersCiphertext", s.throttled_until AS "throttledUntil",
       s.throttle_level AS "throttleLevel"`;

/** A keyring that remembers what it has decrypted, for the rows of one query. */
export function decryptingOnce(keyring: Keyring): Pick<Keyring, 'decrypt'> {
  const known = new Map<string, string>();
  return {
    decrypt(ciphertext, context) {
      const key = `${context} ${Buffer.from(ciphertext).toString('latin1')}`;
      const plain = known.get(key) ?? keyring.decrypt(ciphertext, context);
      known.set(key, plain);
      return plain;
    },
  };
}

/** Puts what decrypts in the place of what is encrypted. */
export function decrypting<Row extends AttemptTargetRow>(row: Row, keyring: Pick<Keyring, 'decrypt'>) {
  const {
    secretCiphertext,
    previousSecretCiphertext: previous,
    previousSecretValidUntil: until,
    olderSecretCiphertexts: older,
    olderSecretsValidUntil: olderUntil,
    headersCiphertext,
    ...rest
  } = row;
  const context = secretContext(row.subscriptionId);
  return {
    ...rest,
    secrets: (at: Date) => [
      keyring.decrypt(secretCiphertext, context),
      ...(previous && until && until > at ? [keyring.decrypt(previous, context)] : []),
      ...older
        .filter((_, index) => olderUntil[index]! > at)
        .map((ciphertext) => keyring.decrypt(ciphertext, context)),
    ],
    headers: () =>
      headersCiphertext
        ? (JSON.parse(keyring.decrypt(headersCiphertext, headersContext(row.subscriptionId))) as Record<
            string,
            string
          >)
        : {},
  };
}

/**
 * Reads subscriptions for attempts. A secret is decrypted once, however many attempts use it.
 * @returns by id. @throws what the database throws in an outage.
 */
export async function loadTargets(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  ids: readonly string[],
): Promise<Map<string, SubscriptionTarget>> {
  type Row = AttemptTargetRow & Pick<SubscriptionTarget, 'ordered' | 'ratePerSecond'>;
  const { rows } = await db.pool.query<Row>({
    name: 'load_attempt_targets',
    text: `SELECT ${TARGET_COLUMNS}, s.ordered, s.rate_limit_per_second AS "ratePerSecond"
             FROM subscriptions s WHERE s.id = ANY($1::text[])`,
    values: [ids],
  });
  const once = decryptingOnce(keyring);
  return new Map(rows.map((row) => [row.subscriptionId, decrypting(row, once)]));
}
