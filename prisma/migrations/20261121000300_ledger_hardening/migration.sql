-- What the database itself enforces of the ledger, idempotency keys of the API, and the places that scheduled jobs have
-- reached. Money functions stay the only way of money; these rules hold also for whoever goes around them by hand.

-- An order or payment is updated once in its life, an account all the time: with room for a second version of every row
-- on its page these updates stay HOT. One that does not inserts into the index pages that others have read, which is a
-- conflict with each of them (docs/adr/0002): 0.18 a debit with 8,000 orders, at fillfactor 70.
ALTER TABLE orders SET (fillfactor = 45);
ALTER TABLE payments SET (fillfactor = 45);
ALTER TABLE accounts SET (fillfactor = 40);

-- ---------------------------------------------------------------------------------------------- closed journals

-- A journal transaction gets its entries from one statement, in the database transaction that created it: what sums to
-- zero stays so for ever. The ids that are still open are kept in a setting local to the transaction, because looking
-- them up would read the index page that every concurrent movement inserts into (docs/adr/0002).
CREATE FUNCTION open_journals() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  v_range text;
BEGIN
  SELECT min(id) || '-' || max(id) INTO v_range FROM new_journals;
  PERFORM set_config('remit.open_journals', coalesce(v_range, ''), true);
  RETURN NULL;
END $$;

CREATE TRIGGER opened AFTER INSERT ON journal_transactions
  REFERENCING NEW TABLE AS new_journals FOR EACH STATEMENT EXECUTE FUNCTION open_journals();

CREATE OR REPLACE FUNCTION require_zero_sum() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  v_bad record;
  v_open text := coalesce(current_setting('remit.open_journals', true), '');
BEGIN
  SELECT journal_id, currency, sum(amount_minor) AS total INTO v_bad
    FROM new_entries GROUP BY journal_id, currency HAVING sum(amount_minor) <> 0 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entries of journal transaction % sum to % %, not zero', v_bad.journal_id, v_bad.total, v_bad.currency
      USING ERRCODE = 'check_violation';
  END IF;
  SELECT journal_id INTO v_bad FROM new_entries
   WHERE v_open = '' OR journal_id < split_part(v_open, '-', 1)::bigint OR journal_id > split_part(v_open, '-', 2)::bigint
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'journal transaction % is closed: entries are written once, together with it', v_bad.journal_id
      USING ERRCODE = 'restrict_violation';
  END IF;
  PERFORM set_config('remit.open_journals', '', true);
  RETURN NULL;
END $$;

-- ---------------------------------------------------------------------------------------------- states that never change

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%: %', TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER terminal_is_final BEFORE UPDATE ON payments FOR EACH ROW
  WHEN (OLD.status <> 'pending' AND NEW.status <> OLD.status)
  EXECUTE FUNCTION refuse_change('a terminal status never changes');
CREATE TRIGGER terms_are_final BEFORE UPDATE ON payments FOR EACH ROW
  WHEN ((NEW.id, NEW.tenant_id, NEW.type, NEW.provider, NEW.account_id, NEW.user_id, NEW.amount_minor, NEW.currency,
         NEW.expires_at)
        IS DISTINCT FROM
        (OLD.id, OLD.tenant_id, OLD.type, OLD.provider, OLD.account_id, OLD.user_id, OLD.amount_minor, OLD.currency,
         OLD.expires_at))
  EXECUTE FUNCTION refuse_change('only status, failure code and time of settling change');

CREATE TRIGGER decided_is_not_new BEFORE UPDATE ON orders FOR EACH ROW
  WHEN (OLD.status <> 'NEW' AND NEW.status = 'NEW')
  EXECUTE FUNCTION refuse_change('a decided order never becomes NEW again');
CREATE TRIGGER terms_are_final BEFORE UPDATE ON orders FOR EACH ROW
  WHEN ((NEW.id, NEW.tenant_id, NEW.user_id, NEW.amount_minor, NEW.currency)
        IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.user_id, OLD.amount_minor, OLD.currency))
  EXECUTE FUNCTION refuse_change('user, amount and currency never change');

CREATE TRIGGER resolved_is_final BEFORE UPDATE ON holds FOR EACH ROW
  WHEN (OLD.status <> 'held')
  EXECUTE FUNCTION refuse_change('a resolved hold never changes');

-- A balance that changed without its version was not changed by a money function.
CREATE TRIGGER version_counts_changes BEFORE UPDATE ON accounts FOR EACH ROW
  WHEN ((NEW.balance_minor <> OLD.balance_minor OR NEW.held_minor <> OLD.held_minor) AND NEW.version <> OLD.version + 1)
  EXECUTE FUNCTION refuse_change('balance and held amount change only with the version');
CREATE TRIGGER identity_is_final BEFORE UPDATE ON accounts FOR EACH ROW
  WHEN ((NEW.id, NEW.tenant_id, NEW.user_id, NEW.currency)
        IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.user_id, OLD.currency))
  EXECUTE FUNCTION refuse_change('tenant, user and currency never change');

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON payment_attempts
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON accounts
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON holds
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON payments
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON orders
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- ---------------------------------------------------------------------------------------------- repeatable creations

-- As before, and repeatable: a reference that was booked already answers ok and books nothing. The account is locked
-- first, so that the second of two calls with one reference waits for the first, or is told of a conflict.
CREATE OR REPLACE FUNCTION top_up(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_account accounts;
  v_amount bigint := (p->>'amountMinor')::bigint;
  v_posted text;
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_account FROM accounts
   WHERE tenant_id = p->>'tenantId' AND user_id = p->>'userId' AND currency = p->>'currency';
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'account_missing'); END IF;
  BEGIN
    v_posted := ledger_post(v_account.tenant_id, 'top_up', p->>'reference', v_account.currency,
      ARRAY[(v_account.id, NULL, v_amount, 0)::ledger_line, (NULL, 'clearing:top_up', -v_amount, 0)::ledger_line],
      p->>'actor', p->>'correlationId');
  EXCEPTION WHEN unique_violation THEN
    v_posted := 'ok';
  END;
  RETURN jsonb_build_object('outcome', v_posted, 'accountId', v_account.id);
END $$;

-- As before, and repeatable when p has an id: a payout that exists already is answered as it is, and nothing is held
-- again. The row is written before the hold, because only that insert can tell without looking.
CREATE OR REPLACE FUNCTION reserve_payout(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_account accounts;
  v_payment payments;
  v_id uuid := coalesce((p->>'id')::uuid, gen_random_uuid());
  v_amount bigint := (p->>'amountMinor')::bigint;
  v_posted text;
  v_deliveries jsonb := '[]';
BEGIN
  PERFORM require_serializable();
  -- Locked before the payment refers to it: the check of that reference takes a lock which two calls could not both raise.
  SELECT * INTO v_account FROM accounts
   WHERE tenant_id = p->>'tenantId' AND user_id = p->>'userId' AND currency = p->>'currency' FOR UPDATE;
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'account_missing'); END IF;
  INSERT INTO payments (id, tenant_id, type, provider, account_id, user_id, amount_minor, currency, status,
                        correlation_id, expires_at)
  VALUES (v_id, v_account.tenant_id, 'payout', p->>'provider', v_account.id, v_account.user_id, v_amount,
          v_account.currency, 'pending', p->>'correlationId',
          now() + (p->>'expiresAfterMs')::bigint * interval '1 millisecond')
  ON CONFLICT (id) DO NOTHING RETURNING * INTO v_payment;
  IF NOT FOUND THEN
    SELECT * INTO STRICT v_payment FROM payments WHERE id = v_id;
    RETURN jsonb_build_object('outcome', coalesce(v_payment.failure_code, 'ok'), 'id', v_id, 'deliveries', v_deliveries);
  END IF;
  v_posted := ledger_post(v_account.tenant_id, 'payout_hold', 'payout:' || v_id || ':hold', v_account.currency,
    ARRAY[(v_account.id, NULL, 0, v_amount)::ledger_line], p->>'actor', p->>'correlationId');
  IF v_posted = 'ok' THEN
    INSERT INTO holds (account_id, reference, amount_minor) VALUES (v_account.id, 'payout:' || v_id, v_amount);
  ELSE
    UPDATE payments SET status = 'failed', failure_code = v_posted, settled_at = now()
     WHERE id = v_id RETURNING * INTO v_payment;
    v_deliveries := emit_event(new_event_id(), v_payment.tenant_id, 'payout.failed', 'payout', v_id::text,
      payment_data(v_payment), p->>'correlationId');
  END IF;
  RETURN jsonb_build_object('outcome', v_posted, 'id', v_id, 'deliveries', v_deliveries);
END $$;

-- ---------------------------------------------------------------------------------------------- idempotency keys

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

-- ---------------------------------------------------------------------------------------------- scheduled jobs

-- How far a job that walks a table in order has come.
CREATE TABLE job_positions (
  job text PRIMARY KEY,
  reached_at timestamptz(3) NOT NULL,
  reached_id text NOT NULL,
  updated_at timestamptz(3) NOT NULL DEFAULT now()
);

-- Not a partial index over pending payments: settling would then change an indexed column (docs/adr/0002).
CREATE INDEX payments_expires_at_id_idx ON payments (expires_at, id);

-- ---------------------------------------------------------------------------------------------- rights

-- What the application may do when it does not own the tables: `GRANT remit_app TO <login>`. A managed database that
-- lets nobody create roles goes without; the triggers above hold in any case.
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
    CONTINUE WHEN v_table = '_prisma_migrations';
    EXECUTE format('GRANT SELECT ON %I TO remit_app', v_table);
    CONTINUE WHEN v_table = 'currencies';
    EXECUTE format('GRANT INSERT ON %I TO remit_app', v_table);
    CONTINUE WHEN v_table IN ('journal_transactions', 'ledger_entries', 'audit_log', 'provider_events', 'payment_attempts');
    EXECUTE format('GRANT UPDATE ON %I TO remit_app', v_table);
    CONTINUE WHEN v_table IN ('accounts', 'holds', 'payments', 'orders');
    EXECUTE format('GRANT DELETE ON %I TO remit_app', v_table);
  END LOOP;
  EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO remit_app', current_schema());
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'remit_app was not given its rights: %', SQLERRM;
END $$;
