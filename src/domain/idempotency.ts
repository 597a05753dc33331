import { randomUUID } from 'node:crypto';
import type { Database } from '../platform/postgres';

/** What an Idempotency-Key belongs to: the same key of another caller or for another route is another key. */
export interface KeyScope {
  tenantId: string;
  /** Who asks: `user:<id>` or `token:<subject>`. */
  subject: string;
  /** Method and path template. */
  route: string;
  key: string;
}

/** What the encryption of a kept answer is bound to. */
export const answerContext = (operationId: string): string => `idempotency:${operationId}`;

/** What is to be done with a request that carries a key. */
export type KeyClaim =
  /** Ours to execute. `operationId` names everything it creates; a later execution under this key gets the same. */
  | { state: 'execute'; operationId: string; takenOver: boolean }
  /** Executed before; the stored answer. */
  | { state: 'replay'; operationId: string; answer: Uint8Array }
  /** Another request with this key is being executed. */
  | { state: 'in_progress' }
  /** The key was used for another request. */
  | { state: 'reused' };

export interface KeyLimits {
  /** How long a key is kept, in milliseconds. */
  ttlMs: number;
  /** After this long without an answer, an execution counts as crashed, in milliseconds. */
  leaseMs: number;
}

/**
 * Claims a key, or says why that is not possible. Among any number of concurrent claims one executes. After a crash
 * the key can be claimed again when its lease has run out, with the `operationId` of the first execution: what that one
 * wrote is found under this id, so that nothing is done twice, whenever it stopped.
 */
export async function claimKey(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, subject, route, key }: KeyScope,
  requestHash: string,
  { ttlMs, leaseMs }: KeyLimits,
): Promise<KeyClaim> {
  const id = [tenantId, subject, route, key];
  for (;;) {
    const fresh = randomUUID();
    const claimed = await pool.query<{ operation_id: string }>({
      name: 'claim idempotency key',
      text: `
        INSERT INTO idempotency_keys AS k (tenant_id, subject, route, key, request_hash, operation_id, locked_until)
        VALUES ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 millisecond')
        ON CONFLICT (tenant_id, subject, route, key) DO UPDATE SET
          request_hash = EXCLUDED.request_hash,
          locked_until = EXCLUDED.locked_until,
          answer = NULL,
          operation_id = CASE WHEN k.created_at > now() - $8 * interval '1 millisecond'
                              THEN k.operation_id ELSE EXCLUDED.operation_id END,
          created_at = CASE WHEN k.created_at > now() - $8 * interval '1 millisecond'
                            THEN k.created_at ELSE now() END
        WHERE k.created_at <= now() - $8 * interval '1 millisecond'
           OR (k.answer IS NULL AND k.locked_until <= now() AND k.request_hash = EXCLUDED.request_hash)
        RETURNING operation_id`,
      values: [...id, requestHash, fresh, leaseMs, ttlMs],
    });
    const operationId = claimed.rows[0]?.operation_id;
    if (operationId !== undefined) return { state: 'execute', operationId, takenOver: operationId !== fresh };

    const { rows } = await pool.query<{ request_hash: string; operation_id: string; answer: Buffer | null }>({
      name: 'read idempotency key',
      text: `SELECT request_hash, operation_id, answer FROM idempotency_keys
              WHERE tenant_id = $1 AND subject = $2 AND route = $3 AND key = $4`,
      values: id,
    });
    const found = rows[0];
    // Purged between the two statements: it is free again.
    if (!found) continue;
    if (found.request_hash !== requestHash) return { state: 'reused' };
    if (!found.answer) return { state: 'in_progress' };
    return { state: 'replay', operationId: found.operation_id, answer: found.answer };
  }
}

/** Keeps the answer of an execution for later requests with its key. Idempotent. */
export async function storeAnswer(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, subject, route, key }: KeyScope,
  operationId: string,
  answer: Uint8Array,
): Promise<void> {
  await pool.query({
    name: 'store idempotent answer',
    text: `UPDATE idempotency_keys SET answer = $6
            WHERE tenant_id = $1 AND subject = $2 AND route = $3 AND key = $4 AND operation_id = $5`,
    values: [tenantId, subject, route, key, operationId, answer],
  });
}

/** Ends the lease of an execution that failed on our side: the next request with its key executes at once. */
export async function releaseKey(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, subject, route, key }: KeyScope,
  operationId: string,
): Promise<void> {
  await pool.query(
    `UPDATE idempotency_keys SET locked_until = now()
      WHERE tenant_id = $1 AND subject = $2 AND route = $3 AND key = $4 AND operation_id = $5 AND answer IS NULL`,
    [tenantId, subject, route, key, operationId],
  );
}

/** Gives a key back unused: the request was refused before anything was done. */
export async function forgetKey(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, subject, route, key }: KeyScope,
  operationId: string,
): Promise<void> {
  await pool.query(
    `DELETE FROM idempotency_keys
      WHERE tenant_id = $1 AND subject = $2 AND route = $3 AND key = $4 AND operation_id = $5 AND answer IS NULL`,
    [tenantId, subject, route, key, operationId],
  );
}

/** Deletes keys older than `ttlMs`, at most `maxRows`. @returns how many. */
export async function purgeKeys(
  { pool }: Pick<Database, 'pool'>,
  { ttlMs, maxRows }: { ttlMs: number; maxRows: number },
): Promise<number> {
  const { rowCount } = await pool.query(
    `DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
       SELECT ctid FROM idempotency_keys WHERE created_at <= now() - $1 * interval '1 millisecond'
        ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))`,
    [ttlMs, maxRows],
  );
  return rowCount ?? 0;
}
