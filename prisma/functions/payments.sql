-- Payments (money in) and payouts (money out): what a provider's event does to them.

-- What subscribers and other systems are told of a payment or payout.
CREATE OR REPLACE FUNCTION payment_data(p_payment payments) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('id', p_payment.id, 'type', p_payment.type, 'provider', p_payment.provider,
    'userId', p_payment.user_id, 'amount', format_minor(p_payment.amount_minor, p_payment.currency),
    'currency', p_payment.currency, 'status', p_payment.status, 'failureCode', p_payment.failure_code,
    'createdAt', iso_utc(p_payment.created_at), 'settledAt', iso_utc(p_payment.settled_at))
$$;

-- What settle_provider_event answers: SettleResult of src/contracts/workflows/payment.ts. 0.1 reads deliveries.
CREATE OR REPLACE FUNCTION settle_result(p_payment payments, p_outcome text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('outcome', p_outcome, 'status', p_payment.status, 'failureCode', p_payment.failure_code,
    'userId', p_payment.user_id,
    'expiresAt', CASE p_payment.status WHEN 'pending' THEN iso_utc(p_payment.expires_at) END,
    'deliveries', '[]'::jsonb)
$$;

-- Why a provider event can't belong to this payment, or NULL when it can.
CREATE OR REPLACE FUNCTION payment_mismatch(p_payment payments, p jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_payment.provider <> p->>'provider' OR p_payment.type <> p->>'type' THEN 'type_mismatch'
    WHEN p_payment.amount_minor <> (p->>'amountMinor')::bigint OR p_payment.currency <> p->>'currency'
      THEN 'amount_mismatch'
  END
$$;

-- Records an event that changed nothing but that someone should see.
CREATE OR REPLACE FUNCTION audit_event(p_payment payments, p jsonb, p_action text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO audit_log (tenant_id, actor, action, account_id, cause, correlation_id, details)
  VALUES (p_payment.tenant_id, 'provider:' || (p->>'provider'), p_action, p_payment.account_id,
          p_payment.type || ':' || p_payment.id, p->>'correlationId', p)
$$;

-- Moves the money of a payment or payout whose provider reports p_status; returns the ledger's answer. A payment is
-- credited; a payout's hold is posted or released, and without a hold (its request never reached us) funds are checked.
CREATE OR REPLACE FUNCTION post_settlement(p_payment payments, p_status text, p_actor text, p_correlation text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_held bigint := 0;
  v_clearing text := 'clearing:' || p_payment.provider;
  v_reference text := p_payment.type || ':' || p_payment.id || ':' || p_status;
BEGIN
  IF p_payment.type = 'payment' THEN
    IF p_status <> 'success' THEN RETURN 'ok'; END IF;
    RETURN ledger_post(p_payment.tenant_id, 'payment', v_reference, p_payment.currency,
      ARRAY[(p_payment.account_id, NULL, p_payment.amount_minor, 0)::ledger_line,
            (NULL, v_clearing, -p_payment.amount_minor, 0)::ledger_line], p_actor, p_correlation);
  END IF;

  UPDATE holds SET status = CASE p_status WHEN 'success' THEN 'posted' ELSE 'released' END, resolved_at = now()
   WHERE reference = 'payout:' || p_payment.id AND status = 'held' RETURNING amount_minor INTO v_held;
  v_held := coalesce(v_held, 0);
  IF p_status = 'success' THEN
    RETURN ledger_post(p_payment.tenant_id, 'payout', v_reference, p_payment.currency,
      ARRAY[(p_payment.account_id, NULL, -p_payment.amount_minor, -v_held)::ledger_line,
            (NULL, v_clearing, p_payment.amount_minor, 0)::ledger_line], p_actor, p_correlation);
  ELSIF v_held > 0 THEN
    RETURN ledger_post(p_payment.tenant_id, 'payout_release', v_reference, p_payment.currency,
      ARRAY[(p_payment.account_id, NULL, 0, -v_held)::ledger_line], p_actor, p_correlation);
  END IF;
  RETURN 'ok';
END $$;

-- Applies one provider event to its payment or payout. p is ProviderEvent of src/contracts/workflows/payment.ts (without its
-- source) and an optional actor. Returns SettleResult. Idempotent by (provider, providerEventId): the same body again is a
-- duplicate, another body an event_conflict. Refused events (mismatch, conflict) leave only an audit row: an operator who
-- redrives one has it judged again. Our own expiry (actor system:expiry) never contradicts: its timer, or the expiry job, may
-- run while the provider's event is being settled; only what a provider says against a state that has ended is flagged
-- (docs/adr/0011).
CREATE OR REPLACE FUNCTION settle_provider_event(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_payment payments;
  v_seen provider_events;
  v_actor text := coalesce(p->>'actor', 'provider:' || (p->>'provider'));
  v_correlation text := p->>'correlationId';
  v_status text := CASE p->>'status' WHEN 'success' THEN 'succeeded' ELSE p->>'status' END;
  v_failure text := CASE p->>'status' WHEN 'failed' THEN 'provider_declined' WHEN 'expired' THEN 'expired' END;
  v_outcome text;
  v_event_id text;
  v_posted text;
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_payment FROM payments WHERE id = (p->>'transactionId')::uuid FOR UPDATE;
  IF NOT FOUND THEN
    RETURN settle_result(NULL, 'unknown_transaction');
  END IF;

  v_outcome := payment_mismatch(v_payment, p);
  IF v_outcome IS NOT NULL THEN
    PERFORM FROM provider_events
      WHERE provider = p->>'provider' AND provider_event_id = p->>'providerEventId' AND payload_hash <> p->>'payloadHash';
    IF FOUND THEN v_outcome := 'event_conflict'; END IF;
    PERFORM audit_event(v_payment, p, v_outcome);
    RETURN settle_result(v_payment, v_outcome);
  END IF;

  v_outcome := CASE
    WHEN v_status = 'pending' THEN 'noted'
    WHEN v_payment.status = 'pending' THEN 'applied'
    WHEN v_payment.status = v_status THEN 'duplicate'
    WHEN v_actor = 'system:expiry' THEN 'noted'
    ELSE 'contradiction' END;
  IF v_outcome = 'applied' THEN v_event_id := new_event_id(); END IF;

  -- The judge of duplicates. Before the money, so that a conflict has nothing to undo.
  INSERT INTO provider_events (provider, provider_event_id, payload_hash, transaction_id, status, outcome,
                               webhook_event_id, received_at)
  VALUES (p->>'provider', p->>'providerEventId', p->>'payloadHash', v_payment.id, p->>'status', v_outcome,
          v_event_id, (p->>'receivedAt')::timestamptz)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    SELECT * INTO STRICT v_seen FROM provider_events
     WHERE provider = p->>'provider' AND provider_event_id = p->>'providerEventId';
    IF v_seen.payload_hash <> p->>'payloadHash' THEN
      PERFORM audit_event(v_payment, p, 'event_conflict');
      RETURN settle_result(v_payment, 'event_conflict');
    END IF;
    RETURN settle_result(v_payment, 'duplicate');
  END IF;

  IF v_outcome = 'applied' THEN
    v_posted := post_settlement(v_payment, p->>'status', v_actor, v_correlation);
    IF v_posted = 'insufficient_funds' THEN
      v_status := 'failed';
      v_failure := v_posted;
    ELSIF v_posted <> 'ok' THEN
      RAISE EXCEPTION 'payment % can not be posted: %', v_payment.id, v_posted;
    END IF;
    UPDATE payments SET status = v_status, failure_code = v_failure, settled_at = clock_timestamp()
     WHERE id = v_payment.id RETURNING * INTO v_payment;
    PERFORM announce_event(v_event_id, v_payment.tenant_id,
      CASE WHEN v_payment.type = 'payout' AND v_status = 'expired' THEN 'payout.failed'
           ELSE v_payment.type || '.' || v_status END,
      v_payment.type, v_payment.id::text, payment_data(v_payment), v_correlation);
  ELSIF v_outcome = 'contradiction' THEN
    PERFORM audit_event(v_payment, p, v_outcome);
  END IF;
  RETURN settle_result(v_payment, v_outcome);
END $$;
