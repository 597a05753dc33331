-- Tables of remit. Rules that the database itself must hold are constraints and triggers here; the money functions
-- follow in the next migration. Amounts are bigint minor units everywhere.

CREATE TABLE currencies (
  code text PRIMARY KEY CHECK (code ~ '^[A-Z]{3}$'),
  exponent smallint NOT NULL CHECK (exponent BETWEEN 0 AND 4)
);

-- fillfactor: balance updates stay on their page (HOT), so that a SERIALIZABLE reader of an index page is not in
-- conflict with them.
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
) WITH (fillfactor = 70);

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
) WITH (fillfactor = 70);
CREATE INDEX payments_tenant_id_created_at_id_idx ON payments (tenant_id, created_at DESC, id DESC);
CREATE INDEX payments_tenant_id_user_id_created_at_id_idx ON payments (tenant_id, user_id, created_at DESC, id DESC);

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
  decided_at timestamptz(3)
) WITH (fillfactor = 70);
CREATE INDEX orders_tenant_id_user_id_created_at_id_idx ON orders (tenant_id, user_id, created_at DESC, id DESC);

CREATE TABLE payment_attempts (
  order_id uuid PRIMARY KEY REFERENCES orders,
  status text NOT NULL CHECK (status IN ('succeeded', 'failed')),
  failure_code text,
  amount_minor bigint NOT NULL,
  webhook_event_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now()
);

-- topic is the logical name (`payment-request`); the relay maps it to the configured one.
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic text NOT NULL,
  key text NOT NULL,
  value text NOT NULL,
  headers jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz(3) NOT NULL DEFAULT now()
);

CREATE TABLE subscriptions (
  id text PRIMARY KEY,
  tenant_id text NOT NULL,
  url text NOT NULL,
  event_types text[] NOT NULL CHECK (cardinality(event_types) > 0),
  description text NOT NULL DEFAULT '',
  state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled', 'deleted')),
  secret_ciphertext bytea NOT NULL,
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX subscriptions_tenant_id_created_at_id_idx ON subscriptions (tenant_id, created_at DESC, id DESC);
CREATE INDEX subscriptions_active_idx ON subscriptions (tenant_id) WHERE state = 'active';

CREATE TABLE webhook_events (
  id text PRIMARY KEY,
  tenant_id text NOT NULL,
  type text NOT NULL,
  body text NOT NULL,
  correlation_id text,
  created_at timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX webhook_events_tenant_id_created_at_id_idx ON webhook_events (tenant_id, created_at DESC, id DESC);

CREATE TABLE deliveries (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  event_id text NOT NULL, -- no foreign key, for the same reason as ledger_entries.journal_id
  subscription_id text NOT NULL REFERENCES subscriptions,
  event_type text NOT NULL,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'exhausted', 'cancelled')),
  attempts integer NOT NULL DEFAULT 0,
  last_status_code integer,
  last_error text,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  finished_at timestamptz(3),
  UNIQUE (event_id, subscription_id)
) WITH (fillfactor = 70);
CREATE INDEX deliveries_subscription_id_created_at_id_idx ON deliveries (subscription_id, created_at DESC, id DESC);

CREATE TABLE delivery_attempts (
  delivery_id uuid NOT NULL REFERENCES deliveries,
  attempt integer NOT NULL CHECK (attempt > 0),
  started_at timestamptz(3) NOT NULL,
  duration_ms integer NOT NULL,
  result text NOT NULL,
  status_code integer,
  error text,
  response_body text,
  PRIMARY KEY (delivery_id, attempt)
);

-- What happened to money is never rewritten: corrections are new entries.
CREATE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_transactions
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON provider_events
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- The entries that one statement adds to a journal transaction sum to zero in every currency. A statement trigger
-- over the new rows costs one aggregate, where deferred row triggers would cost a query an entry.
CREATE FUNCTION require_zero_sum() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  v_bad record;
BEGIN
  SELECT journal_id, currency, sum(amount_minor) AS total INTO v_bad
    FROM new_entries GROUP BY journal_id, currency HAVING sum(amount_minor) <> 0 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entries of journal transaction % sum to % %, not zero', v_bad.journal_id, v_bad.total, v_bad.currency
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER zero_sum AFTER INSERT ON ledger_entries
  REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT EXECUTE FUNCTION require_zero_sum();

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
