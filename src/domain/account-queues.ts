import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import type { TraceSpan } from '../platform/tracing';
import {
  ConflictsExhaustedError,
  isOwnFault,
  isTransactionConflict,
  pauseAfterConflict,
  type Retried,
} from './conflicts';

/** A call of a database function that moves money. */
export interface MoneyCall extends Retried {
  /** JSON. */
  input: string;
  /** The span in which it is called. */
  span?: TraceSpan | undefined;
}

interface Waiting {
  call: MoneyCall;
  resolve: (result: unknown) => void;
  reject: (error: unknown) => void;
  /** Ends its waiting for a turn. */
  leaves?: NodeJS.Timeout;
}

function rejectAll(batch: readonly Waiting[], error: unknown): void {
  for (const { reject } of batch) reject(error);
}

/**
 * One queue for each account that is being changed. Under SERIALIZABLE, whoever waits for a row's lock is aborted when
 * the first one commits: sixteen callers of one account would do their work many times over. In a queue they take turns
 * in the order they came, so that none starves, and those that have gathered meanwhile share the next transaction:
 * one commit for many movements. Each call is still applied wholly or not at all, and its result is its own.
 *
 * A batch that fails by the fault of one call is run again call by call, so that this one does not fail its neighbours.
 * Any other failure is all of theirs: in an outage each of them would wait for it again, one after the other.
 */
export class AccountQueues {
  private readonly queues = new Map<string, Waiting[]>();

  constructor(
    private readonly limits: Database['retry'],
    private readonly execute: (batch: readonly MoneyCall[]) => Promise<unknown[]>,
  ) {}

  /**
   * Runs a call when its turn has come.
   * @throws ConflictsExhaustedError when too many wait already, when its turn has not come in MONEY_RETRY_DEADLINE_MS,
   *   or when it kept losing against other processes.
   */
  run(account: string, call: MoneyCall): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const waiting = this.queues.get(account);
      if (waiting && waiting.length >= this.limits.queueCalls) {
        reject(new ConflictsExhaustedError(`${waiting.length} movements wait for one account already`));
        return;
      }
      if (waiting) {
        this.enqueue(waiting, { call, resolve, reject });
        return;
      }
      const queue: Waiting[] = [{ call, resolve, reject }];
      this.queues.set(account, queue);
      void this.serve(account, queue);
    });
  }

  private enqueue(queue: Waiting[], entry: Waiting): void {
    const { deadlineMs } = this.limits;
    entry.leaves = setTimeout(() => {
      queue.splice(queue.indexOf(entry), 1);
      entry.reject(new ConflictsExhaustedError(`${entry.call.fn} waited ${deadlineMs} ms for its turn`));
    }, deadlineMs);
    queue.push(entry);
  }

  private async serve(account: string, queue: Waiting[]): Promise<void> {
    while (queue.length > 0) {
      const batch = queue.splice(0, this.batchSize(queue));
      for (const { leaves } of batch) clearTimeout(leaves);
      await this.settle(batch).catch((error: unknown) =>
        batch.length > 1 && isOwnFault(error) ? this.settleOneByOne(batch) : rejectAll(batch, error),
      );
    }
    this.queues.delete(account);
  }

  private async settleOneByOne(batch: readonly Waiting[]): Promise<void> {
    for (const [i, entry] of batch.entries()) {
      try {
        await this.settle([entry]);
      } catch (error) {
        if (!isOwnFault(error)) return rejectAll(batch.slice(i), error);
        entry.reject(error);
      }
    }
  }

  /** As many as call the function that is first in the queue. */
  private batchSize(queue: readonly Waiting[]): number {
    const fn = queue[0]!.call.fn;
    const limit = Math.min(queue.length, this.limits.batchCalls);
    let size = 1;
    while (size < limit && queue[size]!.call.fn === fn) size++;
    return size;
  }

  private async settle(batch: readonly Waiting[]): Promise<void> {
    const calls = batch.map(({ call }) => call) as [MoneyCall, ...MoneyCall[]];
    const [{ fn }] = calls;
    for (let attempt = 1; ; attempt++) {
      try {
        const results = await this.execute(calls);
        metrics.moneyBatchCalls.observe({ operation: fn }, calls.length);
        batch.forEach(({ resolve }, i) => resolve(results[i]));
        return;
      } catch (error) {
        if (!isTransactionConflict(error)) throw error;
        metrics.moneyConflicts.inc({ operation: fn });
        await pauseAfterConflict(this.limits, calls, attempt, error);
      }
    }
  }
}
