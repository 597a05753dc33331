-- The ledger: the one way in which money moves, and the rules that entries sum to zero and are written once. Amounts are
-- bigint minor units.

-- Raises invalid_transaction_state unless the transaction is SERIALIZABLE: every money function calls it first.
CREATE OR REPLACE FUNCTION require_serializable() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'serializable' THEN
    RAISE EXCEPTION 'money moves only in a SERIALIZABLE transaction, this one is %', current_setting('transaction_isolation')
      USING ERRCODE = 'invalid_transaction_state';
  END IF;
END $$;

-- Moves money: locks the accounts in the order of their ids, checks funds, writes balances, journal, entries and audit.
-- Each line of p_lines is one side: amount_minor changes the balance (0 for none), hold_minor the held amount.
-- Returns 'ok', 'insufficient_funds', 'account_missing' or 'currency_mismatch'; unless 'ok', nothing was written.
-- Not idempotent: p_reference is unique forever, so that writing one movement twice raises unique_violation. Raises
-- numeric_value_out_of_range when a balance would leave bigint.
CREATE OR REPLACE FUNCTION ledger_post(
  p_tenant text, p_kind text, p_reference text, p_currency text, p_lines ledger_line[], p_actor text, p_correlation text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_line record;
  v_account accounts;
  v_ids uuid[] := '{}';
  v_versions bigint[] := '{}';
  v_balances bigint[] := '{}';
  v_helds bigint[] := '{}';
  v_amounts bigint[] := '{}';
  v_holds bigint[] := '{}';
  v_journal bigint;
  i integer;
BEGIN
  PERFORM require_serializable();

  FOR v_line IN
    SELECT account_id, sum(amount_minor)::bigint AS amount, sum(hold_minor)::bigint AS hold
      FROM unnest(p_lines) WHERE account_id IS NOT NULL GROUP BY account_id ORDER BY account_id
  LOOP
    SELECT * INTO v_account FROM accounts WHERE id = v_line.account_id FOR UPDATE;
    IF NOT FOUND THEN RETURN 'account_missing'; END IF;
    IF v_account.currency <> p_currency THEN RETURN 'currency_mismatch'; END IF;
    -- Only what takes money away can lack funds; a credit or a release is never refused.
    IF v_line.amount - v_line.hold < 0
       AND v_account.balance_minor - v_account.held_minor + v_line.amount - v_line.hold < 0 THEN
      RETURN 'insufficient_funds';
    END IF;
    v_ids := v_ids || v_account.id;
    v_versions := v_versions || v_account.version;
    v_balances := v_balances || v_account.balance_minor;
    v_helds := v_helds || v_account.held_minor;
    v_amounts := v_amounts || v_line.amount;
    v_holds := v_holds || v_line.hold;
  END LOOP;

  FOR i IN 1 .. cardinality(v_ids) LOOP
    UPDATE accounts
       SET balance_minor = balance_minor + v_amounts[i],
           held_minor = held_minor + v_holds[i],
           version = version + 1,
           updated_at = now()
     WHERE id = v_ids[i] AND version = v_versions[i];
    IF NOT FOUND THEN
      RAISE EXCEPTION 'account % changed under its lock', v_ids[i] USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO audit_log (tenant_id, actor, action, account_id, balance_before_minor, balance_after_minor,
                           held_before_minor, held_after_minor, cause, correlation_id)
    VALUES (p_tenant, p_actor, p_kind, v_ids[i], v_balances[i], v_balances[i] + v_amounts[i],
            v_helds[i], v_helds[i] + v_holds[i], p_reference, p_correlation);
  END LOOP;

  -- A hold alone moves nothing between accounts, so it has an audit row but no journal.
  IF EXISTS (SELECT FROM unnest(p_lines) WHERE amount_minor <> 0) THEN
    INSERT INTO journal_transactions (tenant_id, kind, reference, correlation_id)
    VALUES (p_tenant, p_kind, p_reference, p_correlation) RETURNING id INTO v_journal;
    INSERT INTO ledger_entries (journal_id, account_id, system_account, currency, amount_minor, balance_after_minor)
    SELECT v_journal, l.account_id, l.system_account, p_currency, l.amount_minor,
           v_balances[array_position(v_ids, l.account_id)] + v_amounts[array_position(v_ids, l.account_id)]
      FROM unnest(p_lines) AS l WHERE l.amount_minor <> 0;
  END IF;
  RETURN 'ok';
END $$;

-- ledger_post, where a refusal would be a defect: raises (raise_exception) instead of returning it.
CREATE OR REPLACE FUNCTION ledger_must_post(
  p_tenant text, p_kind text, p_reference text, p_currency text, p_lines ledger_line[], p_actor text, p_correlation text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_posted text := ledger_post(p_tenant, p_kind, p_reference, p_currency, p_lines, p_actor, p_correlation);
BEGIN
  IF v_posted <> 'ok' THEN RAISE EXCEPTION '% can not be posted: %', p_reference, v_posted; END IF;
END $$;

-- Trigger function: notes which journal transactions this statement has created, in a setting local to the transaction,
-- for require_zero_sum. Looking them up instead would read the index page that every concurrent movement inserts into
-- (docs/adr/0002).
CREATE OR REPLACE FUNCTION open_journals() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  v_range text;
BEGIN
  SELECT min(id) || '-' || max(id) INTO v_range FROM new_journals;
  PERFORM set_config('remit.open_journals', coalesce(v_range, ''), true);
  RETURN NULL;
END $$;

-- Trigger function: the entries that one statement adds to a journal transaction sum to zero in every currency
-- (check_violation), and the database transaction that created it adds them at once (restrict_violation): what sums to
-- zero stays so forever. Over all new rows of the statement, which costs one aggregate where row triggers would cost a
-- query an entry.
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
