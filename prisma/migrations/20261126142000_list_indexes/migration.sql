-- What the long lists of the API and the console are read by (test/integration/database/lists.test.ts).

-- Deliveries by status: of a tenant, and of a subscription, which also finds what is pending and held. What is delivered is in
-- neither: it is nearly all there is, and found on the way of the other indexes.
CREATE INDEX deliveries_tenant_status_idx ON deliveries (tenant_id, status, created_at, id) WHERE status <> 'delivered';
CREATE INDEX deliveries_subscription_status_idx ON deliveries (subscription_id, status, created_at, id) WHERE status <> 'delivered';
DROP INDEX deliveries_pending_idx;
DROP INDEX deliveries_held_idx;
-- Deliveries and events of a type, which may be rare.
CREATE INDEX deliveries_tenant_id_event_type_created_at_id_idx ON deliveries (tenant_id, event_type, created_at DESC, id DESC);
CREATE INDEX webhook_events_tenant_id_type_created_at_id_idx ON webhook_events (tenant_id, type, created_at DESC, id DESC);

-- Disputes that wait for evidence, the first due first.
CREATE INDEX disputes_due_idx ON disputes (tenant_id, evidence_due_at, id) WHERE status = 'opened';

-- A time of the audit log, of which a page in the order of writing would read everything that is newer. Rows come in the order of
-- time, so that a few block ranges hold it, and writing costs nothing that can be measured. No money function reads by it.
CREATE INDEX audit_log_at_idx ON audit_log USING brin (at) WITH (autosummarize = on, pages_per_range = 32);
CREATE INDEX journal_transactions_created_at_idx ON journal_transactions USING brin (created_at) WITH (autosummarize = on, pages_per_range = 32);
