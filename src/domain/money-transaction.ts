import { setTimeout as sleep } from 'node:timers/promises';
import type { z } from 'zod';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';

/** SQLSTATEs of a transaction that lost against another and can simply be run again. */
const CONFLICTS = new Set(['40001', '40P01']);

/**
 * Whether an error says that a transaction lost against a concurrent one. Knows every shape in which that arrives:
 * plain `pg` errors, Prisma's P2034, P2010 of raw queries, and the unmapped DriverAdapterError of a failing COMMIT.
 */
export function isTransactionConflict(error: unknown): boolean {
  let current = asRecord(error);
  for (let depth = 0; current && depth < 5; depth++) {
    const { code, originalCode, kind } = current;
    if (code === 'P2034' || kind === 'TransactionWriteConflict') return true;
    if (CONFLICTS.has(String(code)) || CONFLICTS.has(String(originalCode))) return true;
    current = asRecord(current['cause']) ?? asRecord(asRecord(current['meta'])?.['driverAdapterError']);
  }
  return false;
}

function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
}

/** Thrown when a money transaction kept losing; an outage to try again later, never a business failure. */
export class ConflictsExhaustedError extends Error {}

export type MoneyFunction =
  | 'top_up'
  | 'reserve_payout'
  | 'settle_provider_event'
  | 'pay_order'
  | 'settle_order_event'
  | 'refund_order'
  | 'settle_dispute_event'
  | 'expire_dispute'
  | 'submit_evidence';

/**
 * Calls one of the database's money functions: one statement, which is one SERIALIZABLE transaction. Conflicts are
 * retried with full jitter, bounded, and counted. Idempotent as far as the function's input is (see its comment).
 * @throws ConflictsExhaustedError after MONEY_RETRY_MAX_ATTEMPTS; whatever else the database throws.
 */
export async function callMoneyFunction<T extends { outcome: string }>(
  db: Pick<Database, 'moneyPool' | 'retry'>,
  fn: MoneyFunction,
  input: Record<string, unknown>,
  result: z.ZodType<T>,
): Promise<T> {
  const stop = metrics.moneyTransactionSeconds.startTimer({ operation: fn });
  const parameters = [JSON.stringify(input)];
  for (let attempt = 1; ; attempt++) {
    try {
      const { rows } = await db.moneyPool.query<{ result: unknown }>({
        name: fn,
        text: `SELECT ${fn}($1::jsonb) AS result`,
        values: parameters,
      });
      const parsed = result.parse(rows[0]?.result);
      stop({ outcome: parsed.outcome });
      return parsed;
    } catch (error) {
      if (!isTransactionConflict(error)) {
        stop({ outcome: 'error' });
        throw error;
      }
      metrics.moneyConflicts.inc({ operation: fn });
      if (attempt >= db.retry.maxAttempts) {
        stop({ outcome: 'conflicts_exhausted' });
        throw new ConflictsExhaustedError(`${fn} lost ${attempt} times against concurrent transactions`, {
          cause: error,
        });
      }
      await sleep(Math.random() * Math.min(db.retry.capMs, db.retry.baseMs * 2 ** attempt));
    }
  }
}
