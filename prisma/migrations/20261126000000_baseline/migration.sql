-- The tables of remit, with the constraints and indexes that hold their rules, what they begin with, and the rights of
-- the application. Rules that need code are functions (prisma/functions, applied after the migrations), those that
-- refuse a change are triggers (prisma/functions/triggers.sql). Amounts are bigint minor units everywhere.
--
-- fillfactor: an order or payment is updated once in its life, an account all the time. With room for a second version
-- of every row on its page these updates stay HOT. One that does not inserts into the index pages that others have read,
-- which under SERIALIZABLE is a conflict with each of them (docs/adr/0002). For the same reason no index covers a column
-- that a movement updates.

-- ---------------------------------------------------------------------------------------------- ledger

CREATE TABLE currencies (
  code text PRIMARY KEY CHECK (code ~ '^[A-Z]{3}$'),
  exponent smallint NOT NULL CHECK (exponent BETWEEN 0 AND 4)
);

CREATE TABLE accounts (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  user_id text NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
  currency text NOT NULL REFERENCES currencies,
  balance_minor bigint NOT NULL DEFAULT 0 CHECK (balance_minor >= 0),
  held_minor bigint NOT NULL DEFAULT 0 CHECK (held_minor >= 0),
  version bigint NOT NULL DEFAULT 0,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, user_id, currency),
  CONSTRAINT holds_are_covered CHECK (held_minor <= balance_minor)
) WITH (fillfactor = 40);

CREATE TABLE journal_transactions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL,
  kind text NOT NULL,
  reference text NOT NULL UNIQUE,
  correlation_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now()
);

-- journal_id has no foreign key on purpose: under SERIALIZABLE its check reads the index page that every concurrent
-- movement inserts into, which makes each of them conflict with all others. ledger_post() is the only writer, and
-- reconciliation compares both tables.
CREATE TABLE ledger_entries (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  journal_id bigint NOT NULL,
  account_id uuid REFERENCES accounts,
  system_account text,
  currency text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
  balance_after_minor bigint,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  CONSTRAINT one_side CHECK (num_nonnulls(account_id, system_account) = 1),
  CONSTRAINT balance_after_of_accounts CHECK ((account_id IS NULL) = (balance_after_minor IS NULL))
);
CREATE INDEX ledger_entries_account_id_id_idx ON ledger_entries (account_id, id) WHERE account_id IS NOT NULL;
CREATE INDEX ledger_entries_journal_id_idx ON ledger_entries (journal_id);

-- One side of a movement, as ledger_post() takes it: amount_minor changes the balance (0 for none), hold_minor the held
-- amount.
CREATE TYPE ledger_line AS (account_id uuid, system_account text, amount_minor bigint, hold_minor bigint);

CREATE TABLE holds (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES accounts,
  reference text NOT NULL UNIQUE,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  status text NOT NULL DEFAULT 'held' CHECK (status IN ('held', 'posted', 'released')),
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  resolved_at timestamptz(3),
  CHECK ((status = 'held') = (resolved_at IS NULL))
) WITH (fillfactor = 70);

CREATE TABLE audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL,
  at timestamptz(3) NOT NULL DEFAULT now(),
  actor text NOT NULL,
  action text NOT NULL,
  account_id uuid,
  balance_before_minor bigint,
  balance_after_minor bigint,
  held_before_minor bigint,
  held_after_minor bigint,
  cause text NOT NULL,
  correlation_id text,
  details jsonb
);
CREATE INDEX audit_log_account_id_id_idx ON audit_log (account_id, id);
-- The audit log as a tenant reads it: all of it, or without the balance operations.
CREATE INDEX audit_log_tenant_id_id_idx ON audit_log (tenant_id, id DESC);
CREATE INDEX audit_log_configuration_idx ON audit_log (tenant_id, id DESC) WHERE account_id IS NULL;

-- ---------------------------------------------------------------------------------------------- payments and payouts

CREATE TABLE payments (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  type text NOT NULL CHECK (type IN ('payment', 'payout')),
  provider text NOT NULL,
  account_id uuid NOT NULL REFERENCES accounts,
  user_id text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL REFERENCES currencies,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'succeeded', 'failed', 'expired')),
  failure_code text,
  correlation_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  expires_at timestamptz(3) NOT NULL,
  settled_at timestamptz(3),
  CHECK ((status = 'pending') = (settled_at IS NULL))
) WITH (fillfactor = 45);
CREATE INDEX payments_tenant_id_created_at_id_idx ON payments (tenant_id, created_at DESC, id DESC);
CREATE INDEX payments_tenant_id_user_id_created_at_id_idx ON payments (tenant_id, user_id, created_at DESC, id DESC);
-- Not a partial index over pending payments: settling would then change an indexed column (docs/adr/0002).
CREATE INDEX payments_expires_at_id_idx ON payments (expires_at, id);

-- Which provider events have been judged, with the hash of what they said: the judge of duplicates.
CREATE TABLE provider_events (
  provider text NOT NULL,
  provider_event_id text NOT NULL,
  payload_hash text NOT NULL,
  transaction_id uuid NOT NULL,
  status text NOT NULL,
  outcome text NOT NULL,
  webhook_event_id text,
  received_at timestamptz(3) NOT NULL,
  applied_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (provider, provider_event_id)
);

-- ---------------------------------------------------------------------------------------------- orders

-- The last three columns are what of an order's amount has gone elsewhere since it was paid. One row, one lock, one
-- constraint: together these can never exceed what was paid.
CREATE TABLE orders (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  user_id text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL REFERENCES currencies,
  description text NOT NULL,
  status text NOT NULL DEFAULT 'NEW' CHECK (status IN ('NEW', 'FINISHED', 'CANCELLED', 'CHARGED_BACK')),
  failure_code text,
  correlation_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  decided_at timestamptz(3),
  collected_as text CHECK (collected_as IN ('order', 'account')),
  refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor >= 0),
  disputed_minor bigint NOT NULL DEFAULT 0 CHECK (disputed_minor >= 0),
  charged_back_minor bigint NOT NULL DEFAULT 0 CHECK (charged_back_minor >= 0),
  CONSTRAINT not_more_than_paid CHECK (refunded_minor + disputed_minor + charged_back_minor <= amount_minor)
) WITH (fillfactor = 45);
COMMENT ON COLUMN orders.collected_as IS
  'a provider collected the amount: for the order, or (it was decided already) for the user''s account';
COMMENT ON COLUMN orders.disputed_minor IS 'held for open disputes';
CREATE INDEX orders_tenant_id_user_id_created_at_id_idx ON orders (tenant_id, user_id, created_at DESC, id DESC);

-- The one attempt to pay an order, from its user's balance or by a provider: what makes it exactly once.
CREATE TABLE payment_attempts (
  order_id uuid PRIMARY KEY REFERENCES orders,
  status text NOT NULL CHECK (status IN ('succeeded', 'failed')),
  failure_code text,
  amount_minor bigint NOT NULL,
  webhook_event_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  method text NOT NULL DEFAULT 'balance' CHECK (method IN ('balance', 'provider'))
);

-- ---------------------------------------------------------------------------------------------- disputes and refunds

-- covered_minor: what the order (or, when the provider's payment went there, the user's account) still had of the
-- disputed amount when it was opened; the rest is a loss of ours until the dispute is won.
CREATE TABLE disputes (
  id text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
  tenant_id text NOT NULL,
  order_id uuid NOT NULL REFERENCES orders,
  user_id text NOT NULL,
  provider text NOT NULL,
  account_id uuid REFERENCES accounts,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  covered_minor bigint NOT NULL CHECK (covered_minor >= 0),
  currency text NOT NULL REFERENCES currencies,
  status text NOT NULL DEFAULT 'opened' CHECK (status IN ('opened', 'under_review', 'won', 'lost', 'expired')),
  reason text,
  evidence_due_at timestamptz(3) NOT NULL,
  opening_event_id text NOT NULL,
  closing_event_id text,
  correlation_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  closed_at timestamptz(3),
  CHECK (covered_minor <= amount_minor),
  CHECK ((status IN ('opened', 'under_review')) = (closed_at IS NULL))
) WITH (fillfactor = 70);
COMMENT ON COLUMN disputes.account_id IS 'the account that covers it, when it is not the order''s revenue';
CREATE INDEX disputes_tenant_id_created_at_id_idx ON disputes (tenant_id, created_at DESC, id DESC);
CREATE INDEX disputes_order_id_idx ON disputes (order_id);

-- One submission a dispute; hash tells the same evidence sent again from other evidence.
CREATE TABLE dispute_evidence (
  dispute_id text PRIMARY KEY REFERENCES disputes,
  hash text NOT NULL,
  evidence jsonb NOT NULL,
  actor text NOT NULL,
  submitted_at timestamptz(3) NOT NULL DEFAULT now()
);

CREATE TABLE refunds (
  id uuid PRIMARY KEY,
  tenant_id text NOT NULL,
  order_id uuid NOT NULL REFERENCES orders,
  account_id uuid NOT NULL REFERENCES accounts,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL REFERENCES currencies,
  reason text,
  actor text NOT NULL,
  webhook_event_id text NOT NULL,
  correlation_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX refunds_order_id_created_at_id_idx ON refunds (order_id, created_at DESC, id DESC);

-- ---------------------------------------------------------------------------------------------- messages for Kafka

-- topic is the logical name (`payment-request`); the relay maps it to the configured one. A queue's table: rows live for
-- milliseconds. Vacuum by dead rows, not by a share of a size that is always small.
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic text NOT NULL,
  key text NOT NULL,
  value text NOT NULL,
  headers jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz(3) NOT NULL DEFAULT now()
) WITH (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 100000
);

-- Outbox rows that Kafka will never take (a topic nobody knows, larger than the brokers allow). The relay moves them
-- here, so that they hold back nothing; `reason` says why. To send one again, mend it and insert it into outbox.
CREATE TABLE outbox_refused (
  id bigint PRIMARY KEY,
  topic text NOT NULL,
  key text NOT NULL,
  value text NOT NULL,
  headers jsonb NOT NULL,
  created_at timestamptz(3) NOT NULL,
  refused_at timestamptz(3) NOT NULL DEFAULT now(),
  reason text NOT NULL
);

-- ---------------------------------------------------------------------------------------------- events and subscriptions

-- Types that a tenant defines and publishes. Those of remit itself need no row.
CREATE TABLE event_types (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  schema jsonb,
  example jsonb,
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, name)
);
CREATE INDEX event_types_tenant_id_created_at_id_idx ON event_types (tenant_id, created_at DESC, id DESC);

-- How events of one type are delivered, for remit's own types too. NULL, or an empty schedule: as the deployment is
-- configured.
CREATE TABLE event_configs (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  event_type text NOT NULL,
  enabled boolean NOT NULL DEFAULT true,
  schedule_ms bigint[] NOT NULL DEFAULT '{}' CHECK (cardinality(schedule_ms) <= 50),
  timeout_ms integer CHECK (timeout_ms > 0),
  retention_days integer CHECK (retention_days > 0),
  ordered boolean NOT NULL DEFAULT false,
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, event_type)
);
CREATE INDEX event_configs_tenant_id_created_at_id_idx ON event_configs (tenant_id, created_at DESC, id DESC);

-- active and failing get events; paused, disabled and deleted get none.
-- filter: [{path, op, value}], all of which must hold of the event's data. headers_ciphertext: what is sent with every
-- webhook, as encrypted JSON, because such headers often carry credentials. The previous secret still signs while its
-- time runs. exhausted_since: the first exhausted delivery since the last success. throttled_until: the subscriber asked
-- for patience or does not answer; no attempt before then. missed_since: since when a paused or disabled subscription has
-- been missing events. secret_operation_id: the operation that made the present secret; repeated, it hands the secret
-- back and makes no other.
CREATE TABLE subscriptions (
  id text PRIMARY KEY,
  tenant_id text NOT NULL,
  url text NOT NULL,
  event_types text[] NOT NULL CHECK (cardinality(event_types) > 0),
  description text NOT NULL DEFAULT '',
  state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'failing', 'paused', 'disabled', 'deleted')),
  secret_ciphertext bytea NOT NULL,
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  filter jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(filter) = 'array'),
  header_names text[] NOT NULL DEFAULT '{}',
  headers_ciphertext bytea,
  rate_limit_per_second integer CHECK (rate_limit_per_second > 0),
  ordered boolean NOT NULL DEFAULT false,
  previous_secret_ciphertext bytea,
  previous_secret_valid_until timestamptz(3),
  state_reason text,
  state_changed_at timestamptz(3) NOT NULL DEFAULT now(),
  exhausted_since timestamptz(3),
  exhausted_at timestamptz(3),
  throttled_until timestamptz(3),
  throttle_level smallint NOT NULL DEFAULT 0,
  missed_since timestamptz(3),
  secret_operation_id uuid,
  CONSTRAINT previous_secret_has_an_end
    CHECK ((previous_secret_ciphertext IS NULL) = (previous_secret_valid_until IS NULL))
);
CREATE INDEX subscriptions_tenant_id_created_at_id_idx ON subscriptions (tenant_id, created_at DESC, id DESC);
CREATE INDEX subscriptions_active_idx ON subscriptions (tenant_id) WHERE state IN ('active', 'failing');

-- When the next attempt of a subscription with a rate limit may be made, for all workers together.
CREATE TABLE subscription_pacing (
  subscription_id text PRIMARY KEY REFERENCES subscriptions,
  next_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- fanned_out_at is NULL only while a published event waits for its deliveries to be written; what emit_event() writes has
-- them from the start. only_subscription_id: an event for one subscription alone, whatever its types, such as a test.
CREATE TABLE webhook_events (
  id text PRIMARY KEY,
  tenant_id text NOT NULL,
  type text NOT NULL,
  body text NOT NULL,
  correlation_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  source text NOT NULL DEFAULT 'remit' CHECK (source IN ('remit', 'api')),
  client_id text,
  payload_hash text,
  only_subscription_id text,
  fanned_out_at timestamptz(3) DEFAULT now(),
  CONSTRAINT client_id_has_a_hash CHECK (client_id IS NULL OR payload_hash IS NOT NULL)
);
CREATE INDEX webhook_events_tenant_id_created_at_id_idx ON webhook_events (tenant_id, created_at DESC, id DESC);
-- The judge of repeated publications. Partial: what the money functions write is in neither index.
CREATE UNIQUE INDEX webhook_events_tenant_id_client_id_idx ON webhook_events (tenant_id, client_id)
  WHERE client_id IS NOT NULL;
CREATE INDEX webhook_events_waiting_idx ON webhook_events (tenant_id, created_at, id) WHERE fanned_out_at IS NULL;
-- For what ends by age, whatever its tenant.
CREATE INDEX webhook_events_created_at_id_idx ON webhook_events (created_at, id);

-- ---------------------------------------------------------------------------------------------- deliveries

-- held: not delivered because the subscription was paused or disabled; a resume brings it back. generation counts how
-- often a finished delivery was sent again; attempts go on counting, attempts_before is where the present one began.
-- to_start_since: since when a delivery that was opened anew by hand waits for its workflow to be started; NULL once it is.
-- event_id has no foreign key, for the same reason as ledger_entries.journal_id.
CREATE TABLE deliveries (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  event_id text NOT NULL,
  subscription_id text NOT NULL REFERENCES subscriptions,
  event_type text NOT NULL,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'exhausted', 'cancelled', 'held')),
  attempts integer NOT NULL DEFAULT 0,
  last_status_code integer,
  last_error text,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  finished_at timestamptz(3),
  generation integer NOT NULL DEFAULT 0,
  attempts_before integer NOT NULL DEFAULT 0,
  replay_id uuid,
  to_start_since timestamptz(3),
  UNIQUE (event_id, subscription_id)
) WITH (fillfactor = 70);
CREATE INDEX deliveries_subscription_id_created_at_id_idx ON deliveries (subscription_id, created_at DESC, id DESC);
CREATE INDEX deliveries_tenant_id_created_at_id_idx ON deliveries (tenant_id, created_at DESC, id DESC);
-- Which delivery of an ordered subscription is next.
CREATE INDEX deliveries_pending_idx ON deliveries (subscription_id, created_at, id) WHERE status = 'pending';
CREATE INDEX deliveries_held_idx ON deliveries (subscription_id, created_at, id) WHERE status = 'held';
CREATE INDEX deliveries_to_start_idx ON deliveries (to_start_since, id) WHERE to_start_since IS NOT NULL;

-- emitted_event_id: the event that the attempt gave rise to (subscription.failing and the like), so that a repeated
-- activity finds it.
CREATE TABLE delivery_attempts (
  delivery_id uuid NOT NULL REFERENCES deliveries,
  attempt integer NOT NULL CHECK (attempt > 0),
  started_at timestamptz(3) NOT NULL,
  duration_ms integer NOT NULL,
  result text NOT NULL,
  status_code integer,
  error text,
  response_body text,
  emitted_event_id text,
  PRIMARY KEY (delivery_id, attempt)
);

-- failed: exhausted deliveries created in the time. all: every event of the time. missed: events of the time that the
-- subscription never got, and deliveries that were held. event_types empty: every type.
CREATE TABLE replays (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  subscription_id text NOT NULL REFERENCES subscriptions,
  kind text NOT NULL CHECK (kind IN ('failed', 'all', 'missed')),
  event_types text[] NOT NULL DEFAULT '{}',
  since timestamptz(3) NOT NULL,
  until timestamptz(3) NOT NULL,
  rate_per_second integer NOT NULL CHECK (rate_per_second > 0),
  status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'paused', 'done', 'cancelled', 'stopped')),
  status_reason text,
  examined bigint NOT NULL DEFAULT 0,
  replayed bigint NOT NULL DEFAULT 0,
  reached_at timestamptz(3),
  actor text NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  finished_at timestamptz(3),
  CHECK (since <= until)
) WITH (fillfactor = 70);
CREATE INDEX replays_tenant_id_created_at_id_idx ON replays (tenant_id, created_at DESC, id DESC);
-- Replays that no workflow may have begun yet: the schedule asks for them.
CREATE INDEX replays_not_begun_idx ON replays (created_at, id) WHERE status = 'running' AND reached_at IS NULL;

-- ---------------------------------------------------------------------------------------------- API and scheduled jobs

-- operation_id is what makes a repeated execution harmless: everything that the operation writes is named by it. The
-- answer is encrypted, because it may hold a subscriber's secret.
CREATE TABLE idempotency_keys (
  tenant_id text NOT NULL,
  subject text NOT NULL,
  route text NOT NULL,
  key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request_hash text NOT NULL,
  operation_id uuid NOT NULL,
  locked_until timestamptz(3) NOT NULL,
  answer bytea,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, subject, route, key)
) WITH (fillfactor = 70);
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

-- How far a job that walks a table in order has come.
CREATE TABLE job_positions (
  job text PRIMARY KEY,
  reached_at timestamptz(3) NOT NULL,
  reached_id text NOT NULL,
  updated_at timestamptz(3) NOT NULL DEFAULT now()
);

-- ---------------------------------------------------------------------------------------------- reference data

-- ISO 4217, the active currencies and their decimals.
INSERT INTO currencies (code, exponent) VALUES
  ('AED', 2), ('AFN', 2), ('ALL', 2), ('AMD', 2), ('ANG', 2), ('AOA', 2), ('ARS', 2), ('AUD', 2),
  ('AWG', 2), ('AZN', 2), ('BAM', 2), ('BBD', 2), ('BDT', 2), ('BGN', 2), ('BHD', 3), ('BIF', 0),
  ('BMD', 2), ('BND', 2), ('BOB', 2), ('BOV', 2), ('BRL', 2), ('BSD', 2), ('BTN', 2), ('BWP', 2),
  ('BYN', 2), ('BZD', 2), ('CAD', 2), ('CDF', 2), ('CHE', 2), ('CHF', 2), ('CHW', 2), ('CLF', 4),
  ('CLP', 0), ('CNY', 2), ('COP', 2), ('COU', 2), ('CRC', 2), ('CUC', 2), ('CUP', 2), ('CVE', 2),
  ('CZK', 2), ('DJF', 0), ('DKK', 2), ('DOP', 2), ('DZD', 2), ('EGP', 2), ('ERN', 2), ('ETB', 2),
  ('EUR', 2), ('FJD', 2), ('FKP', 2), ('GBP', 2), ('GEL', 2), ('GHS', 2), ('GIP', 2), ('GMD', 2),
  ('GNF', 0), ('GTQ', 2), ('GYD', 2), ('HKD', 2), ('HNL', 2), ('HTG', 2), ('HUF', 2), ('IDR', 2),
  ('ILS', 2), ('INR', 2), ('IQD', 3), ('IRR', 2), ('ISK', 0), ('JMD', 2), ('JOD', 3), ('JPY', 0),
  ('KES', 2), ('KGS', 2), ('KHR', 2), ('KMF', 0), ('KPW', 2), ('KRW', 0), ('KWD', 3), ('KYD', 2),
  ('KZT', 2), ('LAK', 2), ('LBP', 2), ('LKR', 2), ('LRD', 2), ('LSL', 2), ('LYD', 3), ('MAD', 2),
  ('MDL', 2), ('MGA', 2), ('MKD', 2), ('MMK', 2), ('MNT', 2), ('MOP', 2), ('MRU', 2), ('MUR', 2),
  ('MVR', 2), ('MWK', 2), ('MXN', 2), ('MXV', 2), ('MYR', 2), ('MZN', 2), ('NAD', 2), ('NGN', 2),
  ('NIO', 2), ('NOK', 2), ('NPR', 2), ('NZD', 2), ('OMR', 3), ('PAB', 2), ('PEN', 2), ('PGK', 2),
  ('PHP', 2), ('PKR', 2), ('PLN', 2), ('PYG', 0), ('QAR', 2), ('RON', 2), ('RSD', 2), ('RUB', 2),
  ('RWF', 0), ('SAR', 2), ('SBD', 2), ('SCR', 2), ('SDG', 2), ('SEK', 2), ('SGD', 2), ('SHP', 2),
  ('SLE', 2), ('SOS', 2), ('SRD', 2), ('SSP', 2), ('STN', 2), ('SVC', 2), ('SYP', 2), ('SZL', 2),
  ('THB', 2), ('TJS', 2), ('TMT', 2), ('TND', 3), ('TOP', 2), ('TRY', 2), ('TTD', 2), ('TWD', 2),
  ('TZS', 2), ('UAH', 2), ('UGX', 0), ('USD', 2), ('USN', 2), ('UYI', 0), ('UYU', 2), ('UYW', 4),
  ('UZS', 2), ('VED', 2), ('VES', 2), ('VND', 0), ('VUV', 0), ('WST', 2), ('XAF', 0), ('XAG', 0),
  ('XAU', 0), ('XBA', 0), ('XBB', 0), ('XBC', 0), ('XBD', 0), ('XCD', 2), ('XDR', 0), ('XOF', 0),
  ('XPD', 0), ('XPF', 0), ('XPT', 0), ('XSU', 0), ('XTS', 0), ('XUA', 0), ('XXX', 0), ('YER', 2),
  ('ZAR', 2), ('ZMW', 2), ('ZWG', 2);

-- ---------------------------------------------------------------------------------------------- rights

-- What the application may do when it does not own the tables: `GRANT remit_app TO <login>`. A managed database that
-- lets nobody create roles goes without; the triggers hold in any case. Names that begin with _ are the migrator's own.
DO $$
BEGIN
  CREATE ROLE remit_app NOLOGIN;
EXCEPTION
  WHEN duplicate_object OR unique_violation THEN NULL;
  WHEN insufficient_privilege THEN RAISE NOTICE 'role remit_app was not created: %', SQLERRM;
END $$;

DO $$
DECLARE
  v_table text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'remit_app') THEN RETURN; END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO remit_app', current_schema());
  FOR v_table IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP
    CONTINUE WHEN starts_with(v_table, '_');
    EXECUTE format('GRANT SELECT ON %I TO remit_app', v_table);
    CONTINUE WHEN v_table = 'currencies';
    EXECUTE format('GRANT INSERT ON %I TO remit_app', v_table);
    CONTINUE WHEN v_table IN ('journal_transactions', 'ledger_entries', 'audit_log', 'provider_events',
                              'payment_attempts', 'refunds', 'dispute_evidence');
    EXECUTE format('GRANT UPDATE ON %I TO remit_app', v_table);
    CONTINUE WHEN v_table IN ('accounts', 'holds', 'payments', 'orders', 'disputes');
    EXECUTE format('GRANT DELETE ON %I TO remit_app', v_table);
  END LOOP;
  EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO remit_app', current_schema());
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'remit_app was not given its rights: %', SQLERRM;
END $$;
