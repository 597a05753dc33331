-- What the database itself refuses, whoever asks: states and terms that never change, rows that are never rewritten or
-- deleted, entries that do not sum to zero. Only money functions move money; these rules hold also for whoever
-- goes around them by hand. Applied last and only when this file has changed: replacing a trigger waits for the writers
-- of its table. A trigger that is no longer wanted is dropped by a migration.

-- ---------------------------------------------------------------------------------------------- ledger

CREATE OR REPLACE TRIGGER opened AFTER INSERT ON journal_transactions
  REFERENCING NEW TABLE AS new_journals FOR EACH STATEMENT EXECUTE FUNCTION open_journals();
CREATE OR REPLACE TRIGGER zero_sum AFTER INSERT ON ledger_entries
  REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT EXECUTE FUNCTION require_zero_sum();

-- A balance that changed without its version was not changed by a money function.
CREATE OR REPLACE TRIGGER version_counts_changes BEFORE UPDATE ON accounts FOR EACH ROW
  WHEN ((NEW.balance_minor <> OLD.balance_minor OR NEW.held_minor <> OLD.held_minor) AND NEW.version <> OLD.version + 1)
  EXECUTE FUNCTION refuse_change('balance and held amount change only with the version');
CREATE OR REPLACE TRIGGER identity_is_final BEFORE UPDATE ON accounts FOR EACH ROW
  WHEN ((NEW.id, NEW.tenant_id, NEW.user_id, NEW.currency)
        IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.user_id, OLD.currency))
  EXECUTE FUNCTION refuse_change('tenant, user and currency never change');
CREATE OR REPLACE TRIGGER resolved_is_final BEFORE UPDATE ON holds FOR EACH ROW
  WHEN (OLD.status <> 'held')
  EXECUTE FUNCTION refuse_change('a resolved hold never changes');

-- ---------------------------------------------------------------------------------------------- payments and payouts

CREATE OR REPLACE TRIGGER terminal_is_final BEFORE UPDATE ON payments FOR EACH ROW
  WHEN (OLD.status <> 'pending' AND NEW.status <> OLD.status)
  EXECUTE FUNCTION refuse_change('a terminal status never changes');
CREATE OR REPLACE TRIGGER terms_are_final BEFORE UPDATE ON payments FOR EACH ROW
  WHEN ((NEW.id, NEW.tenant_id, NEW.type, NEW.provider, NEW.account_id, NEW.user_id, NEW.amount_minor, NEW.currency,
         NEW.expires_at)
        IS DISTINCT FROM
        (OLD.id, OLD.tenant_id, OLD.type, OLD.provider, OLD.account_id, OLD.user_id, OLD.amount_minor, OLD.currency,
         OLD.expires_at))
  EXECUTE FUNCTION refuse_change('only status, failure code and time of settling change');

-- ---------------------------------------------------------------------------------------------- orders

CREATE OR REPLACE TRIGGER decided_is_final BEFORE UPDATE ON orders FOR EACH ROW
  WHEN (OLD.status <> NEW.status AND OLD.status <> 'NEW' AND (OLD.status <> 'FINISHED' OR NEW.status <> 'CHARGED_BACK'))
  EXECUTE FUNCTION refuse_change('a decided order only ever becomes CHARGED_BACK, when it was FINISHED');
CREATE OR REPLACE TRIGGER terms_are_final BEFORE UPDATE ON orders FOR EACH ROW
  WHEN ((NEW.id, NEW.tenant_id, NEW.user_id, NEW.amount_minor, NEW.currency, NEW.payment_method, NEW.expires_at)
        IS DISTINCT FROM
        (OLD.id, OLD.tenant_id, OLD.user_id, OLD.amount_minor, OLD.currency, OLD.payment_method, OLD.expires_at))
  EXECUTE FUNCTION refuse_change('user, amount, currency and payment method never change');

-- ---------------------------------------------------------------------------------------------- disputes

-- Who covers a dispute may change once, also after its end: see credit_collected() in order-webhooks.sql.
CREATE OR REPLACE TRIGGER terminal_is_final BEFORE UPDATE ON disputes FOR EACH ROW
  WHEN (OLD.closed_at IS NOT NULL
        AND (NEW.account_id IS NOT DISTINCT FROM OLD.account_id
             OR (NEW.status, NEW.reason, NEW.evidence_due_at, NEW.opening_event_id, NEW.closing_event_id, NEW.closed_at)
                IS DISTINCT FROM
                (OLD.status, OLD.reason, OLD.evidence_due_at, OLD.opening_event_id, OLD.closing_event_id, OLD.closed_at)))
  EXECUTE FUNCTION refuse_change('a dispute that has ended never changes, but for an account that covers it instead of the order');
CREATE OR REPLACE TRIGGER terms_are_final BEFORE UPDATE ON disputes FOR EACH ROW
  WHEN ((NEW.id, NEW.tenant_id, NEW.order_id, NEW.user_id, NEW.provider, NEW.amount_minor, NEW.currency)
        IS DISTINCT FROM
        (OLD.id, OLD.tenant_id, OLD.order_id, OLD.user_id, OLD.provider, OLD.amount_minor, OLD.currency)
        OR (OLD.account_id IS NOT NULL AND NEW.account_id IS DISTINCT FROM OLD.account_id))
  EXECUTE FUNCTION refuse_change('order, user, amount, currency and the account that covers it never change');

-- ---------------------------------------------------------------------------------------------- never rewritten or deleted

CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_transactions
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON provider_events
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON payment_attempts
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON dispute_evidence
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON refunds
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

CREATE OR REPLACE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON accounts
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON holds
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON payments
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON orders
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE OR REPLACE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON disputes
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
