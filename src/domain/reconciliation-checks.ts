import { listed, tenant, type Check } from './reconciliation-check';
import { ORDER_CHECKS } from './reconciliation-order-checks';
import { WORK_CHECKS } from './reconciliation-work-checks';

/** Accounts and their entries, payments and payouts, and how orders were paid. */
const MONEY_CHECKS: readonly Check[] = [
  {
    name: 'balances_vs_entries',
    rule: 'a balance is the sum of its account’s entries, and what its last entry says',
    sql: listed(`
      SELECT 'account:' || a.id AS subject,
             format('balance %s, entries %s, after the last entry %s', a.balance_minor, coalesce(e.total, 0), l.balance_after_minor) AS detail
        FROM accounts a
        LEFT JOIN (SELECT account_id, sum(amount_minor) AS total, max(id) AS last FROM ledger_entries
                    WHERE account_id IS NOT NULL GROUP BY account_id) e ON e.account_id = a.id
        LEFT JOIN ledger_entries l ON l.id = e.last
       WHERE ${tenant('a')}
         AND (a.balance_minor <> coalesce(e.total, 0) OR a.balance_minor <> coalesce(l.balance_after_minor, 0))`),
  },
  {
    name: 'entries_vs_journal',
    rule: 'every entry belongs to a journal transaction, every journal transaction has entries, and they sum to zero',
    sql: listed(`
      SELECT 'journal:' || coalesce(j.id, e.journal_id) AS subject,
             CASE WHEN j.id IS NULL THEN 'entries without a journal transaction'
                  WHEN e.journal_id IS NULL THEN 'no entries'
                  ELSE format('entries sum to %s %s', e.total, e.currency) END AS detail
        FROM journal_transactions j
        FULL JOIN (SELECT journal_id, currency, sum(amount_minor) AS total FROM ledger_entries
                    GROUP BY journal_id, currency) e ON e.journal_id = j.id
       WHERE (${tenant('j')} OR j.id IS NULL)
         AND (j.id IS NULL OR e.journal_id IS NULL OR e.total <> 0)`),
  },
  {
    name: 'balances_vs_audit',
    rule: 'every change of a balance or held amount has its audit record, and the last one says what the account says',
    sql: listed(`
      SELECT 'account:' || a.id AS subject,
             format('version %s, audit records %s, balance and held %s/%s, in the last record %s/%s', a.version,
               coalesce(l.changes, 0), a.balance_minor, a.held_minor, r.balance_after_minor, r.held_after_minor) AS detail
        FROM accounts a
        LEFT JOIN (SELECT account_id, count(*) AS changes, max(id) AS last FROM audit_log
                    WHERE balance_after_minor IS NOT NULL GROUP BY account_id) l ON l.account_id = a.id
        LEFT JOIN audit_log r ON r.id = l.last
       WHERE ${tenant('a')}
         AND (a.version <> coalesce(l.changes, 0) OR a.balance_minor <> coalesce(r.balance_after_minor, 0)
              OR a.held_minor <> coalesce(r.held_after_minor, 0))`),
  },
  {
    name: 'holds_vs_accounts',
    rule: 'what an account holds is the sum of its open holds',
    sql: listed(`
      SELECT 'account:' || a.id AS subject, format('held %s, open holds %s', a.held_minor, coalesce(h.total, 0)) AS detail
        FROM accounts a
        LEFT JOIN (SELECT account_id, sum(amount_minor) AS total FROM holds WHERE status = 'held' GROUP BY account_id) h
          ON h.account_id = a.id
       WHERE ${tenant('a')} AND a.held_minor <> coalesce(h.total, 0)`),
  },
  {
    name: 'holds_vs_payouts',
    rule: 'a hold is open while its payout is pending, posted when it succeeded, released when it did not',
    sql: listed(`
      SELECT h.reference AS subject,
             CASE WHEN p.id IS NULL THEN 'there is no such payout'
                  ELSE format('hold of %s %s, payout of %s %s', h.amount_minor, h.status, p.amount_minor, p.status) END AS detail
        FROM holds h
        JOIN accounts a ON a.id = h.account_id
        LEFT JOIN payments p ON h.reference = 'payout:' || p.id
       WHERE ${tenant('a')} AND h.reference LIKE 'payout:%'
         AND (p.id IS NULL OR p.amount_minor <> h.amount_minor OR p.account_id <> h.account_id
              OR h.status <> CASE p.status WHEN 'pending' THEN 'held' WHEN 'succeeded' THEN 'posted' ELSE 'released' END)`),
  },
  {
    name: 'payments_vs_journal',
    rule: 'a payment or payout moved its amount if it succeeded, once, and nothing if it did not',
    sql: listed(`
      SELECT p.type || ':' || p.id AS subject,
             format('%s of %s is %s, its journal transaction moved %s', p.type, p.amount_minor, p.status,
               coalesce(e.amount_minor::text, 'nothing')) AS detail
        FROM payments p
        LEFT JOIN journal_transactions j ON j.reference = p.type || ':' || p.id || ':success'
        LEFT JOIN ledger_entries e ON e.journal_id = j.id AND e.account_id = p.account_id
       WHERE ${tenant('p')}
         AND CASE p.status WHEN 'succeeded' THEN CASE p.type WHEN 'payment' THEN p.amount_minor ELSE -p.amount_minor END END
             IS DISTINCT FROM e.amount_minor`),
  },
  {
    name: 'events_vs_payments',
    rule: 'a settled payment or payout was settled by one applied provider event, a pending one by none',
    sql: listed(`
      SELECT p.type || ':' || p.id AS subject,
             format('%s, provider events applied: %s', p.status, coalesce(e.applied, 0)) AS detail
        FROM payments p
        LEFT JOIN (SELECT transaction_id, count(*) AS applied FROM provider_events WHERE outcome = 'applied'
                    GROUP BY transaction_id) e ON e.transaction_id = p.id
       WHERE ${tenant('p')}
         AND coalesce(e.applied, 0) <> CASE
           WHEN p.status = 'pending' THEN 0
           -- Without funds to reserve, a payout fails when it is created; an event that finds none is one.
           WHEN p.failure_code = 'insufficient_funds' THEN coalesce(e.applied, 0) / greatest(coalesce(e.applied, 0), 1)
           ELSE 1 END`),
  },
  {
    name: 'payments_vs_expiry',
    rule: 'no payment or payout is pending that the expiry job has passed',
    sql: listed(`
      SELECT p.type || ':' || p.id AS subject,
             format('%s of %s pending, overdue since %s', p.type, p.amount_minor, p.expires_at) AS detail
        FROM payments p JOIN job_positions s ON s.job = 'payment-expiry'
       WHERE ${tenant('p')} AND p.status = 'pending' AND (p.expires_at, p.id) <= (s.reached_at, s.reached_id::uuid)`),
  },
  {
    name: 'orders_vs_expiry',
    rule: 'no order is NEW that the expiry job has passed',
    sql: listed(`
      SELECT 'order:' || o.id AS subject,
             format('order of %s NEW, overdue since %s', o.amount_minor, o.expires_at) AS detail
        FROM orders o JOIN job_positions s ON s.job = 'order-expiry'
       WHERE ${tenant('o')} AND o.status = 'NEW' AND (o.expires_at, o.id) <= (s.reached_at, s.reached_id::uuid)`),
  },
  {
    name: 'orders_vs_attempts',
    rule: 'a decided order has one payment attempt that says the same, by its payment method; a new one has none',
    sql: listed(`
      SELECT 'order:' || coalesce(o.id, t.order_id) AS subject,
             format('order of %s by %s is %s, payment attempt of %s by %s %s', o.amount_minor, o.payment_method, o.status,
               coalesce(t.amount_minor::text, '-'), coalesce(t.method, '-'), coalesce(t.status, 'missing')) AS detail
        FROM orders o FULL JOIN payment_attempts t ON t.order_id = o.id
       WHERE (${tenant('o')} OR o.id IS NULL)
         AND (o.id IS NULL OR o.amount_minor <> t.amount_minor OR o.payment_method <> t.method OR t.status IS DISTINCT FROM CASE
              WHEN o.status = 'NEW' THEN NULL WHEN o.status = 'CANCELLED' THEN 'failed' ELSE 'succeeded' END)`),
  },
  {
    name: 'attempts_vs_journal',
    rule: 'a successful payment attempt moved the order’s amount to revenue, once; a failed one moved nothing',
    sql: listed(`
      SELECT 'order:' || o.id AS subject,
             format('attempt of %s %s, its journal transaction moved %s', t.amount_minor, t.status,
               coalesce(e.amount_minor::text, 'nothing')) AS detail
        FROM payment_attempts t
        JOIN orders o ON o.id = t.order_id
        LEFT JOIN journal_transactions j ON j.reference = 'order:' || t.order_id
        LEFT JOIN ledger_entries e ON e.journal_id = j.id AND e.system_account = 'revenue:orders'
       WHERE ${tenant('o')}
         AND CASE t.status WHEN 'succeeded' THEN t.amount_minor END IS DISTINCT FROM e.amount_minor`),
  },
  {
    name: 'provider_totals',
    rule: 'what succeeded at a provider is what its clearing account moved',
    sql: listed(`
      SELECT 'clearing:' || coalesce(p.provider, e.provider) || ' ' || coalesce(p.type, e.kind) || ' ' || coalesce(p.currency, e.currency) AS subject,
             format('succeeded %s, cleared %s', coalesce(p.total, 0), coalesce(e.total, 0)) AS detail
        FROM (SELECT provider, type, currency, sum(CASE type WHEN 'payment' THEN amount_minor ELSE -amount_minor END) AS total
                FROM payments WHERE status = 'succeeded' AND ${tenant('payments')} GROUP BY 1, 2, 3) p
        FULL JOIN (SELECT substr(e.system_account, 10) AS provider, j.kind, e.currency, -sum(e.amount_minor) AS total
                     FROM ledger_entries e JOIN journal_transactions j ON j.id = e.journal_id
                    WHERE e.system_account LIKE 'clearing:%' AND j.kind IN ('payment', 'payout') AND ${tenant('j')}
                    GROUP BY 1, 2, 3) e
          ON e.provider = p.provider AND e.kind = p.type AND e.currency = p.currency
       WHERE coalesce(p.total, 0) <> coalesce(e.total, 0)`),
  },
];

/** In the order in which they are run and shown. A new rule of the ledger is a new entry in one of these. */
export const CHECKS: readonly Check[] = [...MONEY_CHECKS, ...ORDER_CHECKS, ...WORK_CHECKS];

/** Settled payments and payouts by provider and UTC day, the newest first. `$2` is the number of days. */
export const DAILY_TOTALS = `
  SELECT to_char(settled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, provider, type, currency,
         count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
         count(*) FILTER (WHERE status = 'failed') AS failed,
         count(*) FILTER (WHERE status = 'expired') AS expired,
         coalesce(sum(amount_minor) FILTER (WHERE status = 'succeeded'), 0)::text AS succeeded_minor
    FROM payments
   WHERE settled_at >= (date_trunc('day', now() AT TIME ZONE 'UTC') - ($2::int - 1) * interval '1 day') AT TIME ZONE 'UTC'
     AND ${tenant('payments')}
   GROUP BY 1, 2, 3, 4 ORDER BY 1 DESC, 2, 3, 4`;
