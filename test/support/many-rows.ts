import type { Client } from 'pg';

/**
 * Fills a database with the long lists of one tenant, `big`, and a tenth of them of another, `small`, in the order of time: one
 * row a second up to now. Written straight into the tables, past the rules of money: for what reads lists, and nothing else.
 */
export async function fillLists(
  client: Pick<Client, 'query'>,
  { deliveries, rows }: { deliveries: number; rows: number },
): Promise<void> {
  const queries = [
    // Neither triggers nor foreign keys.
    `SET session_replication_role = replica`,
    `INSERT INTO subscriptions (id, tenant_id, url, event_types, secret_ciphertext, state, labels, created_at)
     SELECT 'sub_' || t || i, t, 'https://example.com/' || i, '{*}', '\\x00',
            CASE WHEN i % 10 = 3 THEN 'failing' ELSE 'active' END, ARRAY['n:' || i], now() - i * interval '1 minute'
       FROM unnest('{big,small}'::text[]) AS t, generate_series(0, 19) AS i`,
    // Of a thousand events, 989 are one of ten types, ten one of another, and one is rare.
    `INSERT INTO webhook_events (id, tenant_id, type, body, source, client_id, payload_hash, created_at, sequence)
     SELECT 'evt_' || i, CASE WHEN i % 11 = 5 THEN 'small' ELSE 'big' END,
            CASE WHEN i % 1000 = 7 THEN 'rare.thing' WHEN i % 100 = 3 THEN 'seldom.thing' ELSE 'often.' || i % 10 END,
            '{"type":"x","timestamp":"2026-01-01T00:00:00Z","data":{"n":' || i || ',"pad":"' || repeat('x', 100) || '"}}',
            CASE WHEN i % 3 = 0 THEN 'api' ELSE 'remit' END,
            CASE WHEN i % 3 = 0 THEN 'client-' || i END, CASE WHEN i % 3 = 0 THEN 'h' END,
            now() - (${deliveries} / 5 - i) * interval '5 seconds', i
       FROM generate_series(0, ${deliveries} / 5 - 1) AS i`,
    // Five of each event, of its 20 subscriptions. Of a thousand deliveries 985 are delivered.
    `INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, status, attempts, created_at, finished_at, sequence)
     SELECT e.tenant_id, e.id, 'sub_' || e.tenant_id || (e.sequence + n * 4) % 20, e.type,
            CASE WHEN (e.sequence * 5 + n) % 1000 < 5 THEN 'pending' WHEN (e.sequence * 5 + n) % 1000 < 12 THEN 'exhausted'
                 WHEN (e.sequence * 5 + n) % 1000 < 14 THEN 'cancelled' WHEN (e.sequence * 5 + n) % 1000 < 15 THEN 'held'
                 ELSE 'delivered' END,
            1, e.created_at + n * interval '1 second', NULL, e.sequence
       FROM webhook_events e, generate_series(0, 4) AS n`,
    `INSERT INTO delivery_attempts (delivery_id, attempt, started_at, duration_ms, result, tenant_id, subscription_id, event_type)
     SELECT id, 1, created_at, 20, CASE status WHEN 'delivered' THEN 'delivered' WHEN 'held' THEN 'timeout' ELSE 'http_error' END,
            tenant_id, subscription_id, event_type
       FROM deliveries ORDER BY created_at`,
    `INSERT INTO accounts (tenant_id, user_id, currency)
     SELECT CASE WHEN i % 11 = 5 THEN 'small' ELSE 'big' END, 'user-' || i, 'TRY' FROM generate_series(0, ${rows} / 10) AS i`,
    `INSERT INTO payments (tenant_id, type, provider, account_id, user_id, amount_minor, currency, status, created_at, expires_at, settled_at)
     SELECT a.tenant_id, CASE WHEN i % 10 = 1 THEN 'payout' ELSE 'payment' END, CASE WHEN i % 7 = 0 THEN 'stripe' ELSE 'decard' END,
            a.id, a.user_id, 100, 'TRY', CASE WHEN i % 500 = 3 THEN 'pending' ELSE 'succeeded' END,
            now() - (${rows} - i) * interval '1 second', now() + interval '1 day', CASE WHEN i % 500 = 3 THEN NULL ELSE now() END
       FROM generate_series(0, ${rows} - 1) AS i JOIN accounts a ON a.user_id = 'user-' || i % (${rows} / 10)`,
    `INSERT INTO orders (tenant_id, user_id, amount_minor, currency, description, status, created_at)
     SELECT a.tenant_id, a.user_id, 100, 'TRY', 'two tickets', CASE WHEN i % 500 = 3 THEN 'NEW' ELSE 'FINISHED' END,
            now() - (${rows} - i) * interval '1 second'
       FROM generate_series(0, ${rows} - 1) AS i JOIN accounts a ON a.user_id = 'user-' || i % (${rows} / 10)`,
    `INSERT INTO disputes (id, tenant_id, order_id, user_id, provider, amount_minor, covered_minor, currency, status, evidence_due_at,
                           opening_event_id, created_at, closed_at)
     SELECT 'dp_' || row_number() OVER (), o.tenant_id, o.id, o.user_id, 'decard', 100, 100, 'TRY',
            CASE WHEN n % 20 = 0 THEN 'opened' ELSE 'won' END, o.created_at + (n * 7919 % 30) * interval '1 day', 'e', o.created_at,
            CASE WHEN n % 20 = 0 THEN NULL ELSE now() END
       FROM (SELECT *, row_number() OVER (ORDER BY created_at) AS n FROM orders) AS o`,
    `INSERT INTO journal_transactions (tenant_id, kind, reference, created_at)
     SELECT tenant_id, CASE WHEN row_number() OVER (ORDER BY created_at) % 50 = 0 THEN 'refund' ELSE 'payment' END,
            'payment:' || id, created_at FROM payments ORDER BY created_at`,
    // The first account moves as often as all others together.
    `INSERT INTO ledger_entries (journal_id, account_id, currency, amount_minor, balance_after_minor, created_at)
     SELECT j.id, CASE n WHEN 0 THEN p.account_id ELSE (SELECT id FROM accounts WHERE user_id = 'user-0') END, 'TRY', 100, 100, j.created_at
       FROM journal_transactions j JOIN payments p ON j.reference = 'payment:' || p.id, generate_series(0, 1) AS n ORDER BY j.id, n`,
    `INSERT INTO audit_log (tenant_id, at, actor, action, account_id, cause)
     SELECT p.tenant_id, p.created_at, CASE WHEN n % 100 = 0 THEN 'console:ayse' ELSE 'system:worker' END,
            CASE WHEN n % 100 = 0 THEN 'subscription.paused' ELSE 'payment.succeeded' END,
            CASE WHEN n % 100 = 0 THEN NULL ELSE p.account_id END,
            CASE WHEN n % 100 = 0 THEN 'subscription:sub_big' || n % 20 ELSE 'payment:' || p.id END
       FROM (SELECT *, row_number() OVER (ORDER BY created_at) AS n FROM payments) AS p ORDER BY p.created_at`,
    `RESET session_replication_role`,
  ];
  for (const query of queries) await client.query(query);
  await client.query('VACUUM ANALYZE');
}
