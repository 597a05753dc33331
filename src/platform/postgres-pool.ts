import { Client, Pool, type PoolClient, type PoolConfig } from 'pg';
import type { Logger } from './logging';
import { isReadOnlyServer, isReadTimeout } from './postgres-errors';
import { tracing, type TraceSpan } from './tracing';

/** A connection's socket, which `pg` has no public way to close at once. */
const destroy = (client: object) =>
  (client as { connection?: { stream?: { destroy(): void } } }).connection?.stream?.destroy();

const leadsNowhere = (error: unknown) => isReadTimeout(error) || isReadOnlyServer(error);

/**
 * Opens a pool whose connections may break at any time, wherever they are: idle, checked out by us or by Prisma, between
 * two statements or in one. `pg` reports that as an `error` event of the client, and without a listener such an event
 * ends the process; whoever is waiting for an answer gets the error anyway.
 *
 * A connection on which a statement got no answer in time (`query_timeout`) is closed, also when it is still checked
 * out, and with it those that lie idle: they most likely lead to the same silent server, and each would cost the next
 * caller as long again. The same holds for a connection whose server refuses to write: after a failover it leads to what
 * is a standby now, and would refuse for as long as it is kept.
 */
export function createPool(config: PoolConfig, log: Logger): Pool {
  const idle = new Set<object>();
  const giveUp = (client: object) => {
    for (const each of [client, ...idle]) destroy(each);
    idle.clear();
  };

  class PooledClient extends Client {
    constructor(options?: PoolConfig) {
      super(options);
      this.on('error', (error: Error) => log.debug({ err: error }, 'database connection lost'));
    }

    override query(...args: never[]): never {
      const span = typeof args.at(-1) === 'function' ? undefined : statementSpan(args[0]);
      const result: unknown = super.query(...(args as unknown as [string]));
      // With a callback, it is the pool's own query, which closes a connection after any error.
      if (result instanceof Promise) {
        result.catch((error: unknown) => {
          if (leadsNowhere(error)) giveUp(this);
        });
        if (span) endWith(span, result);
      }
      return result as never;
    }
  }

  /** A statement's span begins here, in the trace of whoever asks: its connection may come free in another's. */
  class TracedPool extends Pool {
    override query(...args: never[]): never {
      const span = statementSpan(args[0]);
      const result: unknown = super.query(...(args as unknown as [string]));
      if (span && result instanceof Promise) endWith(span, result);
      return result as never;
    }
  }

  const pool = new TracedPool({ ...config, Client: PooledClient });
  pool.on('error', (error) => log.warn({ err: error }, 'idle database connection lost'));
  pool.on('acquire', (client) => idle.delete(client));
  pool.on('remove', (client) => idle.delete(client));
  pool.on('release', (error, client) => {
    if (leadsNowhere(error)) giveUp(client);
    else idle.add(client);
  });
  return pool;
}

/** The span of a statement, Prisma's too; undefined where nothing is traced. Values of parameters are never in it. */
function statementSpan(statement: unknown): TraceSpan | undefined {
  const traces = tracing();
  if (!traces?.current()?.recording) return undefined;
  const { text, name } =
    typeof statement === 'string' ? { text: statement, name: undefined } : (statement as Statement);
  return traces.start({
    name: name ?? summaryOf(text),
    kind: 'client',
    attributes: { 'db.system.name': 'postgresql', 'db.query.text': text },
  });
}

interface Statement {
  text: string;
  /** Of a prepared one. */
  name?: string;
}

/** `SELECT orders`: what a statement does, and the first table that it names. */
function summaryOf(text: string): string {
  const verb = /^\s*(\w+)/.exec(text)?.[1]?.toUpperCase() ?? 'statement';
  const table = /\b(?:FROM|INTO|UPDATE)\s+(?:"?public"?\.)?"?(\w+)/i.exec(text)?.[1];
  return table === undefined ? verb : `${verb} ${table}`;
}

function endWith(span: TraceSpan, result: Promise<unknown>): void {
  result.then(
    () => span.end(),
    (error: unknown) => {
      span.fail(error);
      span.end();
    },
  );
}

/**
 * Runs something on a connection of its own: the one way to check one out (the linter holds it). It goes back to the pool
 * when `run` resolves; otherwise it is in an unknown state and is closed, which ends its transaction and its locks.
 * @throws whatever `run` throws; what `pg` throws when there is no connection in time.
 */
export async function withClient<T>(
  pool: Pick<Pool, 'connect'>,
  run: (client: PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let result: T;
  try {
    result = await run(client);
  } catch (error) {
    client.release(true);
    throw error;
  }
  client.release();
  return result;
}

/**
 * Runs something in a transaction: committed when `run` resolves, rolled back when it throws. A connection that breaks
 * during COMMIT leaves open whether it was carried out: callers repeat only what is idempotent.
 * @throws whatever `run` throws; what the database throws, also when COMMIT rolls back because a statement had failed.
 */
export async function inTransaction<T>(
  pool: Pick<Pool, 'connect'>,
  run: (client: PoolClient) => Promise<T>,
): Promise<T> {
  const outcome = await withClient(pool, async (client) => {
    await client.query('BEGIN');
    let result: T;
    try {
      result = await run(client);
    } catch (error) {
      // Refused, not broken: the connection is kept when it still takes a ROLLBACK.
      await client.query('ROLLBACK').catch(() => Promise.reject(error as Error));
      return { error };
    }
    const { command } = await client.query('COMMIT');
    if (command !== 'COMMIT')
      throw new Error('the transaction was rolled back: one of its statements had failed');
    return { result };
  });
  if ('error' in outcome) throw outcome.error;
  return outcome.result;
}
