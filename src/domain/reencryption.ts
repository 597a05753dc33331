import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { answerContext } from './idempotency';
import { headersContext, secretContext } from './subscriptions';

/** What of a row is encrypted, and what it is bound to. */
const ENCRYPTED = [
  ['secret_ciphertext', secretContext],
  ['previous_secret_ciphertext', secretContext],
  ['headers_ciphertext', headersContext],
] as const;

export interface Reencryption {
  /** Subscriptions. */
  examined: number;
  /** Their secrets that were encrypted with a former key. */
  reencrypted: number;
  /** Answers kept for Idempotency-Keys that were. */
  answers: number;
}

/**
 * Re-encrypts everything that was encrypted with a former key, so that the key can leave ENCRYPTION_KEYS_OLD: the
 * secrets and headers of subscriptions, and the answers kept for Idempotency-Keys. Former secrets whose time is up are
 * dropped. Goes through the tables in batches, and again until nothing is found: a process that still had the former key
 * may have written meanwhile. May run alongside everything else, be interrupted and repeated.
 * @throws Error when there is still something to find after many times: some process has the former key yet.
 * @throws DecryptionError when a key is missing: nothing of that row is changed.
 */
export async function reencryptSecrets(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  batchRows: number,
): Promise<Reencryption> {
  const done: Reencryption = { examined: 0, reencrypted: 0, answers: 0 };
  for (let pass = 0; pass < MAX_PASSES; pass++) {
    const { examined, found, reencrypted } = await reencryptSubscriptions(db, keyring, batchRows);
    const answers = await reencryptAnswers(db, keyring, batchRows);
    done.examined = examined;
    done.reencrypted += reencrypted;
    done.answers += answers.reencrypted;
    if (found + answers.found === 0) return done;
  }
  throw new Error(
    `after ${MAX_PASSES} times there is still something that is encrypted with a former key: restart every api and worker`,
  );
}

const MAX_PASSES = 10;

interface Pass {
  /** Values that were encrypted with a former key. */
  found: number;
  /** Of these, those that nothing else had replaced meanwhile. */
  reencrypted: number;
}

async function reencryptSubscriptions(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  batchRows: number,
): Promise<Pass & { examined: number }> {
  const done = { examined: 0, found: 0, reencrypted: 0 };
  await db.pool.query(
    `UPDATE subscriptions SET previous_secret_ciphertext = NULL, previous_secret_valid_until = NULL
      WHERE previous_secret_valid_until < now()`,
  );
  await db.pool.query(
    `UPDATE subscriptions s SET (older_secret_ciphertexts, older_secrets_valid_until) =
            (SELECT coalesce(array_agg(o.secret ORDER BY o.n), '{}'), coalesce(array_agg(o.until ORDER BY o.n), '{}')
               FROM unnest(s.older_secret_ciphertexts, s.older_secrets_valid_until) WITH ORDINALITY AS o (secret, until, n)
              WHERE o.until >= now())
      WHERE now() > ANY(older_secrets_valid_until)`,
  );
  for (let after = ''; ;) {
    const { rows } = await db.pool.query<
      Record<string, Buffer | null> & { id: string; older_secret_ciphertexts: Buffer[] }
    >(
      `SELECT id, secret_ciphertext, previous_secret_ciphertext, headers_ciphertext, older_secret_ciphertexts
         FROM subscriptions
        WHERE id > $1 AND state <> 'deleted' ORDER BY id LIMIT $2`,
      [after, batchRows],
    );
    for (const row of rows) {
      done.examined++;
      for (const [column, context] of ENCRYPTED) {
        const old = row[column] as Buffer | null;
        if (!old || keyring.isCurrent(old)) continue;
        done.found++;
        const fresh = keyring.encrypt(keyring.decrypt(old, context(row.id)), context(row.id));
        // Only what was read is replaced: a rotation meanwhile has encrypted with the present key.
        const { rowCount } = await db.pool.query(
          `UPDATE subscriptions SET ${column} = $3 WHERE id = $1 AND ${column} = $2`,
          [row.id, old, fresh],
        );
        done.reencrypted += rowCount ?? 0;
      }
      for (const old of row.older_secret_ciphertexts) {
        if (keyring.isCurrent(old)) continue;
        done.found++;
        const context = secretContext(row.id);
        const { rowCount } = await db.pool.query(
          `UPDATE subscriptions SET older_secret_ciphertexts = array_replace(older_secret_ciphertexts, $2, $3)
            WHERE id = $1 AND $2 = ANY(older_secret_ciphertexts)`,
          [row.id, old, keyring.encrypt(keyring.decrypt(old, context), context)],
        );
        done.reencrypted += rowCount ?? 0;
      }
    }
    const last = rows.at(-1);
    if (!last || rows.length < batchRows) return done;
    after = last.id;
  }
}

interface AnswerRow {
  tenant_id: string;
  subject: string;
  route: string;
  key: string;
  operation_id: string;
  answer: Buffer;
}

async function reencryptAnswers(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  batchRows: number,
): Promise<Pass> {
  const done = { found: 0, reencrypted: 0 };
  for (let after = ['', '', '', '']; ;) {
    const { rows } = await db.pool.query<AnswerRow>(
      `SELECT tenant_id, subject, route, key, operation_id, answer FROM idempotency_keys
        WHERE (tenant_id, subject, route, key) > ($1, $2, $3, $4) AND answer IS NOT NULL
        ORDER BY tenant_id, subject, route, key LIMIT $5`,
      [...after, batchRows],
    );
    const former = rows.filter(({ answer }) => !keyring.isCurrent(answer));
    done.found += former.length;
    if (former.length > 0) {
      const fresh = former.map(({ answer, operation_id: operationId }) => {
        const context = answerContext(operationId);
        return keyring.encrypt(keyring.decrypt(answer, context), context);
      });
      const column = (name: keyof AnswerRow) => former.map((row) => row[name]);
      // As above: an answer that was stored meanwhile has the present key already.
      const { rowCount } = await db.pool.query(
        `UPDATE idempotency_keys AS k SET answer = u.fresh
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[])
                  AS u (tenant_id, subject, route, key, old, fresh)
          WHERE (k.tenant_id, k.subject, k.route, k.key) = (u.tenant_id, u.subject, u.route, u.key)
            AND k.answer = u.old`,
        [column('tenant_id'), column('subject'), column('route'), column('key'), column('answer'), fresh],
      );
      done.reencrypted += rowCount ?? 0;
    }
    const last = rows.at(-1);
    if (!last || rows.length < batchRows) return done;
    after = [last.tenant_id, last.subject, last.route, last.key];
  }
}
