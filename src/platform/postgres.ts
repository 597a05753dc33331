import { PrismaPg } from '@prisma/adapter-pg';
import type { Pool } from 'pg';
import { PrismaClient } from '../generated/prisma/client';
import type { Config } from './config';
import type { Logger } from './logging';
import { createPool } from './postgres-pool';

/** The database as the domain sees it. */
export interface Database {
  /** Reads and writes that move no money. */
  prisma: PrismaClient;
  /** The pool under `prisma`, for plain SQL (outbox, set-based statements). */
  pool: Pool;
  /** Connections whose every transaction is SERIALIZABLE; money functions refuse to run anywhere else. */
  moneyPool: Pool;
  /** One connection for what is shared about rate limits: it waits for nothing that the other pools do. */
  limitsPool: Pool;
  /** How money transactions of one account wait for each other and are tried again after conflicts. */
  retry: {
    maxAttempts: number;
    baseMs: number;
    capMs: number;
    deadlineMs: number;
    queueCalls: number;
    batchCalls: number;
  };
  /** Where operations on balances are told. */
  log: Logger;
  /** Rejects when the database can't be used. */
  check(): Promise<void>;
  /** Rejects when no money can be moved: no free connection of that pool, or one that is not SERIALIZABLE. */
  checkMoney(): Promise<void>;
  close(): Promise<void>;
}

type DatabaseConfig = Pick<
  Config,
  | 'DATABASE_URL'
  | 'DATABASE_POOL_CONNECTIONS'
  | 'DATABASE_MONEY_POOL_CONNECTIONS'
  | 'DATABASE_CONNECT_TIMEOUT_MS'
  | 'DATABASE_STATEMENT_TIMEOUT_MS'
  | 'DATABASE_ANSWER_TIMEOUT_MS'
  | 'DATABASE_KEEPALIVE_MS'
  | 'MONEY_RETRY_MAX_ATTEMPTS'
  | 'MONEY_RETRY_BASE_MS'
  | 'MONEY_RETRY_CAP_MS'
  | 'MONEY_RETRY_DEADLINE_MS'
  | 'MONEY_QUEUE_CALLS'
  | 'MONEY_BATCH_CALLS'
>;

/** Opens the pools; connects lazily. TLS comes from the URL (`?sslmode=verify-full&sslrootcert=…`). */
export function openDatabase(config: DatabaseConfig, log: Logger): Database {
  const common = {
    connectionString: config.DATABASE_URL,
    connectionTimeoutMillis: config.DATABASE_CONNECT_TIMEOUT_MS,
    statement_timeout: config.DATABASE_STATEMENT_TIMEOUT_MS,
    // The server can't end a statement when the way to it is gone without a word. A query that waits this long
    // rejects, and the pool closes its connection; the keepalive finds those on which nothing is waiting.
    query_timeout: config.DATABASE_ANSWER_TIMEOUT_MS,
    // A process that hangs (not one that died) in a transaction would keep its locks for as long as it hangs. (The
    // relay's turn has a time of its own.)
    idle_in_transaction_session_timeout: config.DATABASE_ANSWER_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: config.DATABASE_KEEPALIVE_MS,
    application_name: 'remit',
    idleTimeoutMillis: 30_000,
  };
  const pool = createPool({ ...common, max: config.DATABASE_POOL_CONNECTIONS }, log);
  const moneyPool = createPool(
    {
      ...common,
      max: config.DATABASE_MONEY_POOL_CONNECTIONS,
      options: '-c default_transaction_isolation=serializable',
    },
    log,
  );
  const limitsPool = createPool({ ...common, max: 1 }, log);
  const prisma = new PrismaClient({
    adapter: new PrismaPg(pool),
    transactionOptions: {
      maxWait: config.DATABASE_CONNECT_TIMEOUT_MS,
      timeout: config.DATABASE_ANSWER_TIMEOUT_MS,
    },
  });

  return {
    prisma,
    pool,
    moneyPool,
    limitsPool,
    log,
    retry: {
      maxAttempts: config.MONEY_RETRY_MAX_ATTEMPTS,
      baseMs: config.MONEY_RETRY_BASE_MS,
      capMs: config.MONEY_RETRY_CAP_MS,
      deadlineMs: config.MONEY_RETRY_DEADLINE_MS,
      queueCalls: config.MONEY_QUEUE_CALLS,
      batchCalls: config.MONEY_BATCH_CALLS,
    },
    async check() {
      await pool.query('SELECT 1');
    },
    async checkMoney() {
      const { rows } = await moneyPool.query<{ level: string }>(
        `SELECT current_setting('transaction_isolation') AS level`,
      );
      if (rows[0]?.level !== 'serializable')
        throw new Error(`its transactions are ${rows[0]?.level}, not serializable (docs/adr/0002)`);
    },
    async close() {
      await prisma.$disconnect();
      await Promise.all(
        [pool, moneyPool, limitsPool].filter((each) => !each.ended).map((each) => each.end()),
      );
    },
  };
}
