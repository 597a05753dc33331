import { setTimeout as sleep } from 'node:timers/promises';
import { FAILURES } from '../contracts/workflows';
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

/** SQLSTATE classes for which a single call is to blame: data, integrity, a raised exception, a statement that can't run. */
const OWN_FAULT = /^(22|23|42|P0)[0-9A-Z]{3}$/;
/**
 * Values that can't be stored, and rules that can't be kept, whoever tries again. Not the rules on keys (23505, 23503):
 * those may have been broken by a concurrent transaction that is over at the next try.
 */
const REFUSED_DATA = /^(22[0-9A-Z]{3}|23001|23502|23514)$/;

const sqlstate = (error: unknown): string => {
  const code = asRecord(error)?.['code'];
  return typeof code === 'string' ? code : '';
};

/** Whether one of the calls that shared a transaction made it fail: not an outage, a time-out or a lost connection. */
export function isOwnFault(error: unknown): boolean {
  return OWN_FAULT.test(sqlstate(error));
}

/** A movement that the database refuses and always will; nothing was written. A defect, or data that should not have come so far. */
export class DataRefusedError extends Error {
  constructor(
    /** SQLSTATE. */
    readonly code: string,
    message: string,
    options: ErrorOptions,
  ) {
    super(message, options);
    // Temporal tells failures apart by the name of their class.
    this.name = FAILURES.dataRefused;
  }

  /** The error of a call of a database function, as callers tell it apart. */
  static from(fn: string, error: unknown): unknown {
    const code = sqlstate(error);
    if (!REFUSED_DATA.test(code)) return error;
    return new DataRefusedError(code, `${fn}: ${(error as Error).message} (SQLSTATE ${code})`, {
      cause: error,
    });
  }
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
