-- Payouts: reserving their money. What their provider reports is settled in payments.sql.

-- Creates a payout and reserves its money. p: id (optional), tenantId, provider, userId, currency, amountMinor, expiresAfterMs,
-- actor, correlationId. Returns {outcome: ok | insufficient_funds | account_missing, id}. Without funds the payout still
-- exists, failed with insufficient_funds; no workflow runs for it. 0.1 reads deliveries. Idempotent by id: a payout that exists
-- is answered as it was, ok also when it has ended since, and nothing is held again. The row is written before the hold,
-- because only that insert can tell without looking.
CREATE OR REPLACE FUNCTION reserve_payout(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_account accounts;
  v_payment payments;
  v_id uuid := coalesce((p->>'id')::uuid, gen_random_uuid());
  v_amount bigint := (p->>'amountMinor')::bigint;
  v_posted text;
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
    RETURN jsonb_build_object('id', v_id, 'deliveries', '[]'::jsonb, 'outcome',
      CASE v_payment.failure_code WHEN 'insufficient_funds' THEN 'insufficient_funds' ELSE 'ok' END);
  END IF;
  v_posted := ledger_post(v_account.tenant_id, 'payout_hold', 'payout:' || v_id || ':hold', v_account.currency,
    ARRAY[(v_account.id, NULL, 0, v_amount)::ledger_line], p->>'actor', p->>'correlationId');
  IF v_posted = 'ok' THEN
    INSERT INTO holds (account_id, reference, amount_minor) VALUES (v_account.id, 'payout:' || v_id, v_amount);
  ELSE
    UPDATE payments SET status = 'failed', failure_code = v_posted, settled_at = now()
     WHERE id = v_id RETURNING * INTO v_payment;
    PERFORM announce_event(new_event_id(), v_payment.tenant_id, 'payout.failed', 'payout', v_id::text,
      payment_data(v_payment), p->>'correlationId');
  END IF;
  RETURN jsonb_build_object('outcome', v_posted, 'id', v_id, 'deliveries', '[]'::jsonb);
END $$;
