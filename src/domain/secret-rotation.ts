import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { headersContext, secretContext } from './subscriptions';

/** What of a row is encrypted, and what it is bound to. */
const ENCRYPTED = [
  ['secret_ciphertext', secretContext],
  ['previous_secret_ciphertext', secretContext],
  ['headers_ciphertext', headersContext],
] as const;

export interface Reencryption {
  examined: number;
  reencrypted: number;
}

/**
 * Encrypts every secret anew that was encrypted with a former key, so that the key can leave ENCRYPTION_KEYS_OLD; former
 * secrets whose time is up are dropped. Goes through the subscriptions in batches; may run beside everything else, be
 * broken off and repeated.
 * @throws DecryptionError when a key is missing: nothing of that row is changed.
 */
export async function reencryptSecrets(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  batchRows: number,
): Promise<Reencryption> {
  const done: Reencryption = { examined: 0, reencrypted: 0 };
  await db.pool.query(
    `UPDATE subscriptions SET previous_secret_ciphertext = NULL, previous_secret_valid_until = NULL
      WHERE previous_secret_valid_until < now()`,
  );
  for (let after = ''; ;) {
    const { rows } = await db.pool.query<Record<string, Buffer | null> & { id: string }>(
      `SELECT id, secret_ciphertext, previous_secret_ciphertext, headers_ciphertext FROM subscriptions
        WHERE id > $1 AND state <> 'deleted' ORDER BY id LIMIT $2`,
      [after, batchRows],
    );
    for (const row of rows) {
      done.examined++;
      for (const [column, context] of ENCRYPTED) {
        const old = row[column] as Buffer | null;
        if (!old || keyring.isCurrent(old)) continue;
        const fresh = keyring.encrypt(keyring.decrypt(old, context(row.id)), context(row.id));
        // Only what was read is replaced: a rotation meanwhile has encrypted with the present key.
        const { rowCount } = await db.pool.query(
          `UPDATE subscriptions SET ${column} = $3 WHERE id = $1 AND ${column} = $2`,
          [row.id, old, fresh],
        );
        done.reencrypted += rowCount ?? 0;
      }
    }
    const last = rows.at(-1);
    if (!last || rows.length < batchRows) return done;
    after = last.id;
  }
}
