import { execFile } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import type { OrderSpread } from './ledger-stage';

/** From PATH, or where Debian's postgresql packages put it; undefined when there is none. */
export function findPgbench(): string | undefined {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  return [
    ...(process.env['PATH'] ?? '').split(path.delimiter),
    ...versions.map((version) => path.join(debian, version, 'bin')),
  ]
    .map((folder) => path.join(folder, 'pgbench'))
    .find((file) => existsSync(file));
}

export interface DebitScript {
  /** Names the orders, whose ids are made of it: see ledger-stage.ts. */
  run: string;
  spread: OrderSpread;
  accounts: number;
  clients: number;
}

/**
 * What `pay_order` does for an order that is paid, as statements of a client: the same tables, rows and order of locks
 * (prisma/functions: pay_order, ledger_post and announce_event). Client `c` pays the orders c, c + clients, …; it counts
 * after the commit, because a retried transaction begins at the first line with the variables as they stand.
 */
export function debitScript({ run, spread, accounts, clients }: DebitScript): string {
  const user = spread === 'hot' ? `'user-0'` : `'user-' || (:x::int % ${accounts})`;
  return `
\\set x :n * ${clients} + :client_id
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT id AS order_id, user_id, amount_minor AS amount FROM orders WHERE id = md5('${run}-' || :x::int)::uuid FOR UPDATE \\gset
SELECT id AS account_id FROM accounts WHERE tenant_id = 'default' AND user_id = ${user} AND currency = 'TRY' \\gset
SELECT balance_minor AS balance, held_minor AS held, version FROM accounts WHERE id = :account_id::uuid FOR UPDATE \\gset
UPDATE accounts SET balance_minor = balance_minor - :amount::bigint, version = version + 1, updated_at = now() WHERE id = :account_id::uuid AND version = :version::bigint;
INSERT INTO audit_log (tenant_id, actor, action, account_id, balance_before_minor, balance_after_minor, held_before_minor, held_after_minor, cause, correlation_id) VALUES ('default', 'user bench', 'order', :account_id::uuid, :balance::bigint, :balance::bigint - :amount::bigint, :held::bigint, :held::bigint, 'order:' || :order_id::text, 'bench');
INSERT INTO journal_transactions (tenant_id, kind, reference, correlation_id) VALUES ('default', 'order', 'order:' || :order_id::text, 'bench') RETURNING id AS journal_id \\gset
INSERT INTO ledger_entries (journal_id, account_id, system_account, currency, amount_minor, balance_after_minor) VALUES (:journal_id::bigint, :account_id::uuid, NULL, 'TRY', -(:amount::bigint), :balance::bigint - :amount::bigint), (:journal_id::bigint, NULL, 'revenue' || ':' || 'orders', 'TRY', :amount::bigint, NULL);
INSERT INTO payment_attempts (order_id, status, amount_minor, webhook_event_id) VALUES (:order_id::uuid, 'succeeded', :amount::bigint, 'evt_' || md5(:order_id::text));
UPDATE orders SET status = 'FINISHED', decided_at = now() WHERE id = :order_id::uuid;
INSERT INTO outbox (topic, key, value, headers) VALUES ('payment-status', :order_id::text, jsonb_build_object('event', 'payment-status', 'orderId', :order_id::text, 'userId', :user_id::text, 'status', 'SUCCESS', 'reason', NULL, 'amount', '0.01', 'currency', 'TRY', 'decidedAt', now())::text, jsonb_build_object('remit-correlation-id', 'bench'));
INSERT INTO outbox (topic, key, value, headers) VALUES ('domain.events', :order_id::text, jsonb_build_object('id', 'evt_' || md5(:order_id::text), 'type', 'order.finished', 'aggregate', 'order', 'aggregateId', :order_id::text, 'tenantId', 'default', 'occurredAt', now(), 'correlationId', 'bench', 'data', jsonb_build_object('id', :order_id::text, 'userId', :user_id::text, 'amount', '0.01', 'currency', 'TRY', 'description', 'bench', 'status', 'FINISHED', 'failureCode', NULL, 'createdAt', now(), 'decidedAt', now()))::text, jsonb_build_object('remit-correlation-id', 'bench'));
INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id) VALUES ('evt_' || md5(:order_id::text), 'default', 'remit.order.finished', jsonb_build_object('type', 'remit.order.finished', 'timestamp', now(), 'data', jsonb_build_object('id', :order_id::text, 'userId', :user_id::text, 'amount', '0.01', 'currency', 'TRY', 'description', 'bench', 'status', 'FINISHED', 'failureCode', NULL, 'createdAt', now(), 'decidedAt', now()))::text, 'bench');
INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type) SELECT 'default', 'evt_' || md5(:order_id::text), id, 'remit.order.finished' FROM subscriptions WHERE tenant_id = 'default' AND state = 'active' AND event_types && ARRAY['*', 'remit.order.finished', 'remit.order.*'];
COMMIT;
\\set n :n + 1
`;
}

/** @returns committed transactions per second, conflicts retried as often as ours. @throws when pgbench fails. */
export async function runPgbench(
  pgbench: string,
  url: string,
  script: string,
  clients: number,
  transactionsPerClient: number,
): Promise<number> {
  const file = path.join(os.tmpdir(), `remit-pgbench-${process.pid}.sql`);
  writeFileSync(file, script);
  const { stdout } = await promisify(execFile)(
    pgbench,
    [
      '--no-vacuum', '--protocol=prepared', `--client=${clients}`, '--jobs=2', '--define=n=0', '--max-tries=100',
      `--transactions=${transactionsPerClient}`, `--file=${file}`, url,
    ],
    { maxBuffer: 16 * 1_048_576 },
  ); // prettier-ignore
  const tps = /^tps = ([\d.]+)/m.exec(stdout)?.[1];
  if (tps === undefined) throw new Error(`pgbench did not say how fast it was:\n${stdout}`);
  return Number(tps);
}
