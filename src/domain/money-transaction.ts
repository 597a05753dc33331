import type { z } from 'zod';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { idsOf } from '../contracts/tracing';
import { annotate, inSharedSpan, inSpan, tracing } from '../platform/tracing';
import { AccountQueues, type MoneyCall } from './account-queues';
import {
  ConflictsExhaustedError,
  DataRefusedError,
  isTransactionConflict,
  pauseAfterConflict,
} from './conflicts';

export { ConflictsExhaustedError, DataRefusedError, isTransactionConflict } from './conflicts';

/** The database functions that move money; a new one is added here and nowhere else. */
export type MoneyFunction =
  | 'top_up'
  | 'reserve_payout'
  | 'settle_provider_event'
  | 'pay_order'
  | 'expire_order'
  | 'settle_order_event'
  | 'refund_order'
  | 'settle_dispute_event'
  | 'expire_dispute'
  | 'submit_evidence'
  | 'post_correction';

/** What identifies an account before it is looked up. */
export function accountKey({ userId, currency }: { userId: string; currency: string }): string {
  return `${currency} ${userId}`;
}

/**
 * Whose account a call changes: the key of its queue when the caller knows it, or how to find it out. Without one, calls only
 * meet in the database.
 */
export type AccountOf = string | (() => Promise<string | undefined>);

type MoneyDatabase = Pick<Database, 'moneyPool' | 'retry' | 'log'>;

/** One set of queues for each pool, so that everything in a process that uses one database shares them. */
const queuesOf = new WeakMap<object, AccountQueues>();

function queues(db: MoneyDatabase): AccountQueues {
  let found = queuesOf.get(db.moneyPool);
  if (!found)
    queuesOf.set(db.moneyPool, (found = new AccountQueues(db.retry, (batch) => execute(db, batch))));
  return found;
}

/**
 * Calls one of the database's money functions: one statement, which is one SERIALIZABLE transaction. Idempotent as far
 * as the function's input is (see its comment).
 *
 * Calls that change one account wait for each other in its queue instead of fighting in the database, first come first
 * served, and those that wait at the same time share a transaction. A call that knows its account joins at once; one
 * that would have to look it up does so after its first conflict. Conflicts with other processes are retried with full
 * jitter, bounded in number and in time, and counted. Each call is a line of the log, whatever came of it.
 * @throws ConflictsExhaustedError after MONEY_RETRY_MAX_ATTEMPTS, after MONEY_RETRY_DEADLINE_MS of conflicts, or when
 *   MONEY_QUEUE_CALLS wait for one account already, or when its turn has not come after MONEY_RETRY_DEADLINE_MS;
 *   DataRefusedError when the database will never take it; whatever else the database throws.
 */
export async function callMoneyFunction<T extends { outcome: string }>(
  db: MoneyDatabase,
  fn: MoneyFunction,
  input: Record<string, unknown>,
  result: z.ZodType<T>,
  account?: AccountOf,
): Promise<T> {
  return inSpan(
    () => ({ name: fn, attributes: idsOf(input) }),
    () => timed(db, fn, input, result, account),
  );
}

async function timed<T extends { outcome: string }>(
  db: MoneyDatabase,
  fn: MoneyFunction,
  input: Record<string, unknown>,
  result: z.ZodType<T>,
  account: AccountOf | undefined,
): Promise<T> {
  const stop = metrics.moneyTransactionSeconds.startTimer({ operation: fn });
  const call: MoneyCall = { fn, input: JSON.stringify(input), span: tracing()?.current() };
  try {
    const answer =
      typeof account === 'string' ? await queues(db).run(account, call) : await alone(db, call, account);
    const parsed = result.parse(answer);
    annotate(() => ({ 'remit.outcome': parsed.outcome }));
    tell(db, fn, input, parsed.outcome, stop({ outcome: parsed.outcome }));
    return parsed;
  } catch (error) {
    const outcome = error instanceof ConflictsExhaustedError ? 'conflicts_exhausted' : 'error';
    tell(db, fn, input, outcome, stop({ outcome }));
    throw DataRefusedError.from(fn, error);
  }
}

/** What of a call's input its line names: whose money, how much, and why. Nothing of what a caller may have written freely. */
const TOLD = [
  'correlationId',
  'tenantId',
  'userId',
  'provider',
  'type',
  'status',
  'transactionId',
  'orderId',
  'refundId',
  'disputeId',
  'providerEventId',
  'amountMinor',
  'currency',
  'actor',
] as const;

/** The audit log has the same forever; this is for whoever follows a request, and where nothing was written. */
function tell(
  { log }: MoneyDatabase,
  operation: MoneyFunction,
  input: Record<string, unknown>,
  outcome: string,
  seconds: number,
): void {
  if (!log.isLevelEnabled('info')) return;
  const told = TOLD.flatMap((name) =>
    input[name] === undefined || input[name] === null ? [] : [[name, input[name]]],
  );
  log.info(
    { operation, outcome, ...Object.fromEntries(told), durationMs: Math.round(seconds * 1e4) / 10 },
    'operation on a balance',
  );
}

/** Outside any queue until the first conflict shows that the account is contended. */
async function alone(
  db: MoneyDatabase,
  call: MoneyCall,
  account: Exclude<AccountOf, string> | undefined,
): Promise<unknown> {
  for (let attempt = 1; ; attempt++) {
    try {
      return (await execute(db, [call]))[0];
    } catch (error) {
      if (!isTransactionConflict(error)) throw error;
      metrics.moneyConflicts.inc({ operation: call.fn });
      const key = attempt === 1 ? await account?.() : undefined;
      if (key !== undefined) return queues(db).run(key, call);
      await pauseAfterConflict(db.retry, [call], attempt, error);
    }
  }
}

/** Runs calls of one function, in order, as one transaction. */
function execute(db: MoneyDatabase, batch: readonly MoneyCall[]): Promise<unknown[]> {
  return inSharedSpan(
    'shared transaction',
    batch.map(({ span }) => span),
    () => (batch.some(({ span }) => span) ? runTraced(db, batch) : run(db, batch)),
  );
}

/** The same, where what a call writes to be carried on later is to name the call's span (prisma/functions/outbox.sql). */
async function runTraced({ moneyPool }: MoneyDatabase, batch: readonly MoneyCall[]): Promise<unknown[]> {
  const [{ fn }] = batch as [MoneyCall];
  const { rows } = await moneyPool.query<{ result: unknown }>({
    name: `${fn} traced`,
    // Of each row the setting is made before the function is called: a row has to be there first.
    text: `SELECT ${fn}(c.p) AS result
             FROM unnest($1::jsonb[], $2::text[]) AS c (p, t), set_config('remit.traceparent', c.t, true)`,
    values: [batch.map(({ input }) => input), batch.map(({ span }) => span?.traceparent ?? '')],
  });
  return rows.map((row) => row.result);
}

async function run({ moneyPool }: MoneyDatabase, batch: readonly MoneyCall[]): Promise<unknown[]> {
  const [{ fn, input }] = batch as [MoneyCall];
  const single = batch.length === 1;
  const { rows } = await moneyPool.query<{ result: unknown }>({
    name: single ? fn : `${fn} batch`,
    text: single
      ? `SELECT ${fn}($1::jsonb) AS result`
      : `SELECT ${fn}(p) AS result FROM unnest($1::jsonb[]) AS p`,
    values: [single ? input : batch.map((call) => call.input)],
  });
  return rows.map((row) => row.result);
}
