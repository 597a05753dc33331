import { createHash } from 'node:crypto';
import { Client } from 'pg';
import type { OrderPayment } from '../../src/domain/orders';
import { createLogger } from '../../src/platform/logging';
import { openDatabase, type Database } from '../../src/platform/postgres';
import { migratePostgres } from '../../src/platform/postgres-migrations';
import { startLocalStack } from '../../src/roles/local-stack';

/** `spread` gives each account its share of the orders, `hot` gives all of them to one. */
export type OrderSpread = 'spread' | 'hot';

/** A PostgreSQL with databases of ledgers in it. */
export interface LedgerServer {
  /** A migrated database of accounts with money, and a history of paid orders that long. */
  create(name: string, accounts: number, historyEntries: number): Promise<BenchLedger>;
  stop(): Promise<void>;
}

export interface BenchLedger {
  url: string;
  db: Database;
  /** Places NEW orders whose ids follow from `run`. */
  placeOrders(run: string, count: number, spread: OrderSpread, amountMinor: number): Promise<void>;
  /** The payment requests of these orders. */
  orders(run: string, count: number, spread: OrderSpread): OrderPayment[];
  /** @throws when balances, entries and paid orders do not agree. */
  verify(): Promise<void>;
  close(): Promise<void>;
}

const OPENING_MINOR = 1_000_000_000;

export async function openLedger(dataDir: string, progress: (line: string) => void): Promise<LedgerServer> {
  const stack = await startLocalStack({
    env: { LOG_LEVEL: 'error', ...process.env },
    dataDir,
    ports: 'free',
    parts: ['postgres'],
    report: progress,
  });
  const log = createLogger(stack.config, 'bench');
  const at = (name: string) => {
    const url = new URL(stack.endpoints.postgres);
    url.pathname = name;
    return url.toString();
  };
  return {
    stop: () => stack.stop(),
    async create(name, accounts, historyEntries) {
      await onServer(stack.endpoints.postgres, `CREATE DATABASE ${name}`);
      const url = at(name);
      await migratePostgres(url);
      await onServer(url, fillSql(accounts, historyEntries));
      await onServer(url, 'VACUUM ANALYZE');
      const db = openDatabase({ ...stack.config, DATABASE_URL: url }, log);
      return ledger(url, db, accounts);
    },
  };
}

function ledger(url: string, db: Database, accounts: number): BenchLedger {
  const userOf = (i: number, spread: OrderSpread) => `user-${spread === 'hot' ? 0 : i % accounts}`;
  return {
    url,
    db,
    async placeOrders(run, count, spread, amountMinor) {
      await db.pool.query(
        `INSERT INTO orders (id, tenant_id, user_id, amount_minor, currency, description, correlation_id)
         SELECT md5($1 || '-' || i)::uuid, 'default', 'user-' || CASE WHEN $3 THEN 0 ELSE i % $4 END, $5, 'TRY', 'bench', 'bench'
           FROM generate_series(0, $2 - 1) AS i`,
        [run, count, spread === 'hot', accounts, amountMinor],
      );
      await db.pool.query('VACUUM ANALYZE orders');
      await db.pool.query('CHECKPOINT');
    },
    orders: (run, count, spread) =>
      Array.from({ length: count }, (_, i) => ({
        orderId: uuidOf(createHash('md5').update(`${run}-${i}`).digest('hex')),
        userId: userOf(i, spread),
        amountMinor: '1',
        currency: 'TRY',
        correlationId: 'bench',
      })),
    async verify() {
      const { rows } = await db.pool.query<{ wrong: string }>(
        `SELECT (SELECT count(*) FROM accounts a
                  WHERE balance_minor <> (SELECT sum(amount_minor) FROM ledger_entries e WHERE e.account_id = a.id))
              + (SELECT count(*) FROM orders o LEFT JOIN payment_attempts p ON p.order_id = o.id
                  WHERE (o.status = 'FINISHED') <> (p.order_id IS NOT NULL)) AS wrong`,
      );
      if (rows[0]?.wrong !== '0')
        throw new Error(`${rows[0]?.wrong} accounts or orders are wrong after the benchmark`);
    },
    close: () => db.close(),
  };
}

function uuidOf(hex: string): string {
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

async function onServer(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** Accounts with an opening balance, and orders that were paid from them: all the tables that a debit writes. */
function fillSql(accounts: number, entries: number): string {
  const orders = Math.max(0, Math.floor(entries / 2) - accounts);
  // A short history has fewer entries than there are accounts: only some of them have an opening entry of their own.
  const opened = Math.min(accounts, Math.floor(entries / 2));
  return `
BEGIN;
CREATE TEMP TABLE users ON COMMIT DROP AS SELECT i, gen_random_uuid() AS account_id FROM generate_series(0, ${accounts - 1}) AS i;
CREATE TEMP TABLE paid ON COMMIT DROP AS SELECT gen_random_uuid() AS order_id, i % ${accounts} AS u FROM generate_series(1, ${orders}) AS i;
INSERT INTO accounts (id, tenant_id, user_id, currency, balance_minor, version)
  SELECT account_id, 'default', 'user-' || i, 'TRY', ${OPENING_MINOR} - coalesce(n, 0), 1 + coalesce(n, 0)
    FROM users LEFT JOIN (SELECT u, count(*) AS n FROM paid GROUP BY u) p ON p.u = users.i;
INSERT INTO journal_transactions (tenant_id, kind, reference) SELECT 'default', 'top_up', 'top_up:' || i FROM generate_series(1, ${opened}) AS i;
INSERT INTO ledger_entries (journal_id, account_id, system_account, currency, amount_minor, balance_after_minor)
  SELECT j, u.account_id, NULL, 'TRY', ${OPENING_MINOR}, ${OPENING_MINOR}
    FROM users u, LATERAL (SELECT id AS j FROM journal_transactions WHERE reference = 'top_up:' || (u.i % ${opened} + 1)) x
  UNION ALL
  SELECT id, NULL, 'clearing:top_up', 'TRY', -${OPENING_MINOR}::bigint * (SELECT count(*) FROM users u WHERE 'top_up:' || (u.i % ${opened} + 1) = reference), NULL
    FROM journal_transactions;
INSERT INTO orders (id, tenant_id, user_id, amount_minor, currency, description, status, decided_at, correlation_id)
  SELECT order_id, 'default', 'user-' || u, 1, 'TRY', 'bench', 'FINISHED', now(), 'bench' FROM paid;
INSERT INTO payment_attempts (order_id, status, amount_minor) SELECT order_id, 'succeeded', 1 FROM paid;
INSERT INTO webhook_events (id, tenant_id, type, body) SELECT 'evt_' || md5(order_id::text), 'default', 'remit.order.finished', '{}' FROM paid;
INSERT INTO journal_transactions (tenant_id, kind, reference, correlation_id) SELECT 'default', 'order', 'order:' || order_id, 'bench' FROM paid;
CREATE TEMP TABLE booked ON COMMIT DROP AS
  SELECT j.id, p.order_id, a.account_id FROM paid p
    JOIN journal_transactions j ON j.reference = 'order:' || p.order_id JOIN users a ON a.i = p.u;
INSERT INTO ledger_entries (journal_id, account_id, system_account, currency, amount_minor, balance_after_minor)
  SELECT id, account_id, NULL, 'TRY', -1, 0 FROM booked UNION ALL SELECT id, NULL, 'revenue:orders', 'TRY', 1, NULL FROM booked;
INSERT INTO audit_log (tenant_id, actor, action, account_id, balance_before_minor, balance_after_minor, held_before_minor, held_after_minor, cause)
  SELECT 'default', 'bench', 'order', account_id, 1, 0, 0, 0, 'order:' || order_id FROM booked;
COMMIT;`;
}
