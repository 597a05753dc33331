-- Accounts: finding the one of a user, and the user's own top-ups.

-- The user's account in a currency, opened when there is none: money that belongs to a user must have somewhere to go.
-- Idempotent. Raises serialization_failure when another transaction opens it at the same time.
CREATE OR REPLACE FUNCTION account_of(p_tenant text, p_user text, p_currency text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
  v_id uuid;
BEGIN
  SELECT id INTO v_id FROM accounts WHERE tenant_id = p_tenant AND user_id = p_user AND currency = p_currency;
  IF FOUND THEN RETURN v_id; END IF;
  INSERT INTO accounts (tenant_id, user_id, currency) VALUES (p_tenant, p_user, p_currency) RETURNING id INTO v_id;
  RETURN v_id;
EXCEPTION WHEN unique_violation THEN
  RAISE EXCEPTION 'the account was opened by another transaction' USING ERRCODE = 'serialization_failure';
END $$;

-- Adds money to a user's account. p: tenantId, userId, currency, amountMinor, reference, actor, correlationId. Returns
-- {outcome: ok | account_missing | currency_mismatch, accountId}. Idempotent by reference: one that was booked already answers
-- ok and books nothing. The account is locked by then, so that the second of two calls with one reference waits for the first,
-- or is told of a conflict.
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
