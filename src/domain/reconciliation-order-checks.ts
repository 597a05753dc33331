import { listed, tenant, type Check } from './reconciliation-check';

/** What was collected, refunded, held and charged back of orders, against their rows and the journal. */
export const ORDER_CHECKS: readonly Check[] = [
  {
    name: 'collections_vs_journal',
    rule: 'what a provider collected for an order was booked once, for the order or for its user, by one event',
    sql: listed(`
      SELECT 'order:' || o.id AS subject,
             format('order of %s collected for %s: events %s, booked for the order %s, for the user %s', o.amount_minor,
               coalesce(o.collected_as, 'nobody'), coalesce(v.taken, 0), coalesce(-p.amount_minor, 0),
               coalesce(c.amount_minor, 0)) AS detail
        FROM orders o
        LEFT JOIN payment_attempts t ON t.order_id = o.id
        LEFT JOIN journal_transactions jp ON jp.reference = 'order:' || o.id
        LEFT JOIN ledger_entries p ON p.journal_id = jp.id AND p.system_account LIKE 'clearing:%'
        LEFT JOIN journal_transactions jc ON jc.reference = 'order:' || o.id || ':credit'
        LEFT JOIN ledger_entries c ON c.journal_id = jc.id AND c.account_id IS NOT NULL
        LEFT JOIN (SELECT transaction_id, count(*) AS taken FROM provider_events
                    WHERE provider LIKE '%.orders' AND status = 'success' AND outcome IN ('applied', 'credited')
                    GROUP BY transaction_id) v ON v.transaction_id = o.id
       WHERE ${tenant('o')}
         AND (-p.amount_minor IS DISTINCT FROM CASE o.collected_as WHEN 'order' THEN o.amount_minor END
              OR c.amount_minor IS DISTINCT FROM CASE o.collected_as WHEN 'account' THEN o.amount_minor END
              OR coalesce(v.taken, 0) <> (o.collected_as IS NOT NULL)::int
              OR coalesce(t.method = 'provider' AND t.status = 'succeeded', false)
                 <> coalesce(o.collected_as = 'order', false))`),
  },
  {
    name: 'refunds_vs_orders',
    rule: 'what a paid order counts as refunded is the sum of its refunds, and no more than its amount',
    sql: listed(`
      SELECT 'order:' || coalesce(o.id, r.order_id) AS subject,
             format('order of %s is %s, refunded %s, its refunds %s', o.amount_minor, o.status, o.refunded_minor,
               coalesce(r.total, 0)) AS detail
        FROM orders o
        FULL JOIN (SELECT order_id, tenant_id, currency, sum(amount_minor) AS total
                     FROM refunds GROUP BY order_id, tenant_id, currency) r
          ON r.order_id = o.id
       WHERE ($1::text IS NULL OR coalesce(o.tenant_id, r.tenant_id) = $1)
         AND (o.id IS NULL OR o.refunded_minor <> coalesce(r.total, 0) OR r.total > o.amount_minor
              OR r.currency <> o.currency
              OR (r.order_id IS NOT NULL AND o.status NOT IN ('FINISHED', 'CHARGED_BACK')))`),
  },
  {
    name: 'refunds_vs_journal',
    rule: 'every refund moved its amount from revenue to its account, once, and nothing else did',
    sql: listed(`
      SELECT coalesce('refund:' || r.id, m.reference) AS subject,
             format('refund of %s, credited %s, taken from revenue %s', coalesce(r.amount_minor::text, 'nothing'),
               coalesce(m.credited, 0), coalesce(-m.revenue, 0)) AS detail
        FROM refunds r
        FULL JOIN (SELECT j.reference, j.tenant_id, e.currency, max(e.account_id::text) AS account_id,
                          sum(e.amount_minor) FILTER (WHERE e.account_id IS NOT NULL) AS credited,
                          sum(e.amount_minor) FILTER (WHERE e.system_account = 'revenue:orders') AS revenue
                     FROM journal_transactions j JOIN ledger_entries e ON e.journal_id = j.id
                    WHERE j.kind = 'refund' GROUP BY j.reference, j.tenant_id, e.currency) m
          ON m.reference = 'refund:' || r.id
       WHERE ($1::text IS NULL OR coalesce(r.tenant_id, m.tenant_id) = $1)
         AND (r.amount_minor IS DISTINCT FROM m.credited OR r.amount_minor IS DISTINCT FROM -m.revenue
              OR r.account_id::text <> m.account_id OR r.currency <> m.currency)`),
  },
  {
    name: 'disputes_vs_orders',
    rule:
      'an order holds what its open disputes cover, lost what its lost ones did, and is CHARGED_BACK when one is lost; ' +
      'no more comes from its user than what was collected for it',
    sql: listed(`
      SELECT 'order:' || o.id AS subject,
             format('order of %s is %s, disputed %s, charged back %s; open disputes %s, lost ones %s, of the account %s',
               o.amount_minor, o.status, o.disputed_minor, o.charged_back_minor, coalesce(d.held, 0), coalesce(d.lost, 0),
               coalesce(d.of_account, 0)) AS detail
        FROM orders o
        LEFT JOIN (SELECT order_id, max(amount_minor) AS largest,
                          sum(covered_minor) FILTER (WHERE account_id IS NULL AND closed_at IS NULL) AS held,
                          sum(covered_minor) FILTER (WHERE account_id IS NULL AND status IN ('lost', 'expired')) AS lost,
                          sum(covered_minor) FILTER (WHERE account_id IS NOT NULL AND status <> 'won') AS of_account,
                          bool_or(j.id IS NOT NULL AND status IN ('lost', 'expired')) AS lost_then_collected
                     FROM disputes LEFT JOIN journal_transactions j ON j.reference = 'dispute:' || disputes.id || ':collected'
                    GROUP BY order_id) d ON d.order_id = o.id
       WHERE ${tenant('o')}
         AND (o.disputed_minor <> coalesce(d.held, 0) OR o.charged_back_minor <> coalesce(d.lost, 0)
              OR (o.status <> 'CHARGED_BACK' AND d.lost IS NOT NULL)
              OR (o.status = 'CHARGED_BACK' AND d.lost IS NULL AND d.lost_then_collected IS NOT TRUE)
              OR d.largest > o.amount_minor
              OR d.of_account > CASE o.collected_as WHEN 'account' THEN o.amount_minor ELSE 0 END)`),
  },
  {
    name: 'disputes_vs_journal',
    rule: 'a dispute holds its amount while it is open; won, it was released; lost or expired, it went to the provider',
    sql: listed(`
      SELECT 'dispute:' || coalesce(d.id, m.id) AS subject,
             format('%s, of %s with %s covered: held %s, released %s, reversed %s, of revenue %s, of the account %s, lost %s',
               coalesce(d.status, 'there is no such dispute'), d.amount_minor, d.covered_minor, coalesce(m.held, 0),
               coalesce(-m.released, 0), coalesce(m.reversed, 0), coalesce(-m.revenue, 0), coalesce(-m.account, 0),
               coalesce(-m.losses, 0)) AS detail
        FROM disputes d
        FULL JOIN (
          SELECT split_part(j.reference, ':', 2) AS id, j.tenant_id,
                 sum(e.amount_minor) FILTER (WHERE e.system_account = 'disputes:held' AND j.kind = 'dispute_hold') AS held,
                 sum(e.amount_minor) FILTER (WHERE e.system_account = 'disputes:held' AND j.kind = 'dispute_release') AS released,
                 sum(e.amount_minor) FILTER (WHERE e.system_account LIKE 'clearing:%') AS reversed,
                 sum(e.amount_minor) FILTER (WHERE e.system_account = 'revenue:orders') AS revenue,
                 sum(e.amount_minor) FILTER (WHERE e.account_id IS NOT NULL) AS account,
                 sum(e.amount_minor) FILTER (WHERE e.system_account = 'losses:disputes') AS losses
            FROM journal_transactions j JOIN ledger_entries e ON e.journal_id = j.id
           WHERE j.kind IN ('dispute_hold', 'dispute_release', 'dispute_reversal', 'dispute_collected')
           GROUP BY 1, 2) m ON m.id = d.id
       WHERE ($1::text IS NULL OR coalesce(d.tenant_id, m.tenant_id) = $1)
         AND (d.id IS NULL OR d.amount_minor IS DISTINCT FROM m.held
              OR coalesce(-m.released, 0) <> CASE d.status WHEN 'won' THEN d.amount_minor ELSE 0 END
              OR coalesce(m.reversed, 0) <> CASE WHEN d.status IN ('lost', 'expired') THEN d.amount_minor ELSE 0 END
              OR coalesce(-m.revenue, 0)
                 <> CASE WHEN d.status <> 'won' AND d.account_id IS NULL THEN d.covered_minor ELSE 0 END
              OR coalesce(-m.account, 0)
                 <> CASE WHEN d.status <> 'won' AND d.account_id IS NOT NULL THEN d.covered_minor ELSE 0 END
              OR coalesce(-m.losses, 0)
                 <> CASE WHEN d.status <> 'won' THEN d.amount_minor - d.covered_minor ELSE 0 END)`),
  },
  {
    name: 'order_totals',
    rule: 'revenue, what is held for disputes and what was lost in them are what all orders and disputes say',
    sql: listed(`
      SELECT coalesce(w.account, b.account) || ' ' || coalesce(w.currency, b.currency) AS subject,
             format('booked %s, by orders and disputes %s', coalesce(b.total, 0), coalesce(w.total, 0)) AS detail
        FROM (SELECT 'revenue:orders' AS account, currency,
                     sum(amount_minor - refunded_minor - disputed_minor - charged_back_minor) AS total
                FROM orders WHERE status IN ('FINISHED', 'CHARGED_BACK') AND ${tenant('orders')} GROUP BY currency
              UNION ALL
              SELECT 'disputes:held', currency, sum(amount_minor)
                FROM disputes WHERE closed_at IS NULL AND ${tenant('disputes')} GROUP BY currency
              UNION ALL
              SELECT 'losses:disputes', currency, sum(covered_minor - amount_minor)
                FROM disputes WHERE status <> 'won' AND ${tenant('disputes')} GROUP BY currency) w
        FULL JOIN (SELECT e.system_account AS account, e.currency, sum(e.amount_minor) AS total
                     FROM ledger_entries e JOIN journal_transactions j ON j.id = e.journal_id
                    WHERE e.system_account IN ('revenue:orders', 'disputes:held', 'losses:disputes') AND ${tenant('j')}
                    GROUP BY 1, 2) b
          ON b.account = w.account AND b.currency = w.currency
       WHERE coalesce(w.total, 0) <> coalesce(b.total, 0)`),
  },
];
