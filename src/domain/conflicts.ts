import { setTimeout as sleep } from 'node:timers/promises';
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

/** What is tried again after conflicts. */
export interface Retried {
  fn: string;
  /** When its tries end (`performance.now()`), whoever makes them; set at its first conflict. */
  retryUntilMs?: number;
}

/**
 * Waits with full jitter before the next try of calls that share a transaction.
 * @param attempt how many tries have lost, from 1.
 * @throws ConflictsExhaustedError when there is no next try: MONEY_RETRY_MAX_ATTEMPTS, or one of the calls has been
 *   tried for MONEY_RETRY_DEADLINE_MS since its first conflict, alone and in batches together.
 */
export async function pauseAfterConflict(
  { maxAttempts, baseMs, capMs, deadlineMs }: Database['retry'],
  calls: readonly [Retried, ...Retried[]],
  attempt: number,
  cause: unknown,
): Promise<void> {
  const now = performance.now();
  for (const call of calls) call.retryUntilMs ??= now + deadlineMs;
  const pauseMs = Math.random() * Math.min(capMs, baseMs * 2 ** attempt);
  const late = calls.some(({ retryUntilMs = Infinity }) => now + pauseMs >= retryUntilMs);
  if (late || attempt >= maxAttempts)
    throw new ConflictsExhaustedError(
      `${calls[0].fn} lost ${attempt} times against concurrent transactions${late ? `, for ${deadlineMs} ms` : ''}`,
      { cause },
    );
  await sleep(pauseMs);
}
