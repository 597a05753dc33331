-- What timelines, searches and operators' lists read, and what they keep. Each index is written to by every row of its
-- table; none covers a column that a movement updates, and no money function reads by one (docs/adr/0002).

-- The orders of a tenant, whoever's.
CREATE INDEX orders_tenant_id_created_at_id_idx ON orders (tenant_id, created_at DESC, id DESC);
-- The movements of a tenant.
CREATE INDEX journal_transactions_tenant_id_id_idx ON journal_transactions (tenant_id, id DESC);
-- What providers have said of one payment, payout or order.
CREATE INDEX provider_events_transaction_id_idx ON provider_events (transaction_id);
-- The audit log of one thing.
CREATE INDEX audit_log_tenant_id_cause_id_idx ON audit_log (tenant_id, cause, id DESC);
-- The attempts of a time. Rows come in the order of time, so that a few block ranges hold it.
CREATE INDEX delivery_attempts_started_at_idx ON delivery_attempts USING brin (started_at) WITH (autosummarize = on, pages_per_range = 32);

-- Runs of reconciliation. tenant_id is NULL for one over all tenants. report is Reconciliation of src/contracts/accounts.ts.
CREATE TABLE reconciliation_runs (
  id uuid PRIMARY KEY,
  tenant_id text,
  at timestamptz(3) NOT NULL,
  duration_ms integer NOT NULL CHECK (duration_ms >= 0),
  clean boolean NOT NULL,
  found bigint NOT NULL,
  started_by text NOT NULL,
  report jsonb NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX reconciliation_runs_tenant_id_created_at_id_idx ON reconciliation_runs (tenant_id, created_at DESC, id DESC);
CREATE INDEX reconciliation_runs_created_at_idx ON reconciliation_runs (created_at);

-- Movements that correct an account: proposed by one person, posted when another approves. amount_minor is what the account
-- gets; below 0, what it gives. account_id has no foreign key: its check would lock the account's row.
CREATE TABLE corrections (
  id uuid PRIMARY KEY,
  tenant_id text NOT NULL,
  account_id uuid NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
  reason text NOT NULL,
  run_id uuid,
  status text NOT NULL DEFAULT 'proposed' CHECK (status IN ('proposed', 'posted', 'rejected')),
  proposed_by text NOT NULL,
  correlation_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  decided_by text,
  decided_at timestamptz(3),
  comment text,
  CHECK ((status = 'proposed') = (decided_at IS NULL)),
  CONSTRAINT two_persons CHECK (status <> 'posted' OR decided_by <> proposed_by)
);
CREATE INDEX corrections_tenant_id_created_at_id_idx ON corrections (tenant_id, created_at DESC, id DESC);

-- Who proposed and who approved stays.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'remit_app') THEN
    GRANT SELECT, INSERT, UPDATE, DELETE ON reconciliation_runs TO remit_app;
    REVOKE DELETE ON corrections FROM remit_app;
    GRANT SELECT, INSERT, UPDATE ON corrections TO remit_app;
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'remit_app was not given its rights: %', SQLERRM;
END $$;
