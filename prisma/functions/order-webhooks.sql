-- Orders that a provider collects: what its webhooks do to them (docs/disputes.md has every case).

-- A refused provider event: audited, not stored, so that it is judged again when it is redriven. Returns why: p_outcome, or
-- event_conflict when its id was stored with another body, which is the graver mistake of the two.
CREATE OR REPLACE FUNCTION refuse_event(p_order orders, p jsonb, p_stream text, p_outcome text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_outcome text := p_outcome;
BEGIN
  PERFORM FROM provider_events
    WHERE provider = p_stream AND provider_event_id = p->>'providerEventId' AND payload_hash <> p->>'payloadHash';
  IF FOUND THEN v_outcome := 'event_conflict'; END IF;
  PERFORM audit_note(p_order.tenant_id, 'provider:' || (p->>'provider'), v_outcome, 'order:' || p_order.id,
    p->>'correlationId', p);
  RETURN v_outcome;
END $$;

-- Decides a NEW order of the payment method `provider` by what its provider says: what it collected is revenue. The same row
-- in payment_attempts and the same journal reference as in pay_order: an order is paid once, whichever way.
CREATE OR REPLACE FUNCTION decide_order_by_provider(p_order orders, p_failure text, p_event_id text, p jsonb)
RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF p_failure IS NULL THEN
    PERFORM ledger_must_post(p_order.tenant_id, 'order', 'order:' || p_order.id, p_order.currency,
      ARRAY[(NULL, 'clearing:' || (p->>'provider'), -p_order.amount_minor, 0)::ledger_line,
            (NULL, 'revenue:orders', p_order.amount_minor, 0)::ledger_line],
      'provider:' || (p->>'provider'), p->>'correlationId');
  END IF;
  RETURN decide_order(p_order, p_failure, p_event_id, p->>'correlationId');
END $$;

-- A provider collected money for an order that the balance pays, or that had been cancelled: the money is the user's. What
-- disputes had taken of the order meanwhile was of this money: they are covered by it from now on, and the order's revenue, and
-- then what was lost, get back what they had given. The user keeps what is left, as if the collection had been heard of before
-- the disputes. An order that is CHARGED_BACK already stays so (docs/adr/0011).
CREATE OR REPLACE FUNCTION credit_collected(p_order orders, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_account uuid := account_of(p_order.tenant_id, p_order.user_id, p_order.currency);
  v_actor text := 'provider:' || (p->>'provider');
  v_dispute disputes;
  -- What is left of the collection when every dispute is covered as far as the order did it.
  v_rest bigint;
  v_more bigint;
  v_disputed bigint := 0;
  v_charged_back bigint := 0;
BEGIN
  PERFORM ledger_must_post(p_order.tenant_id, 'order_credit', 'order:' || p_order.id || ':credit', p_order.currency,
    ARRAY[(v_account, NULL, p_order.amount_minor, 0)::ledger_line,
          (NULL, 'clearing:' || (p->>'provider'), -p_order.amount_minor, 0)::ledger_line], v_actor, p->>'correlationId');
  SELECT p_order.amount_minor - coalesce(sum(covered_minor), 0) INTO v_rest
    FROM disputes WHERE order_id = p_order.id AND status <> 'won';
  FOR v_dispute IN
    SELECT * FROM disputes WHERE order_id = p_order.id AND status <> 'won' ORDER BY created_at, id
  LOOP
    v_more := least(v_dispute.amount_minor - v_dispute.covered_minor, v_rest);
    v_rest := v_rest - v_more;
    -- Nothing of it is covered, and nothing will ever be given back: it stays as it ended.
    CONTINUE WHEN v_dispute.closed_at IS NOT NULL AND v_dispute.covered_minor + v_more = 0;
    IF v_dispute.covered_minor + v_more > 0 THEN
      PERFORM ledger_must_post(p_order.tenant_id, 'dispute_collected', 'dispute:' || v_dispute.id || ':collected',
        p_order.currency,
        ARRAY[(v_account, NULL, -(v_dispute.covered_minor + v_more), 0)::ledger_line,
              (NULL, 'revenue:orders', v_dispute.covered_minor, 0)::ledger_line,
              (NULL, 'losses:disputes', v_more, 0)::ledger_line], v_actor, p->>'correlationId');
    END IF;
    IF v_dispute.closed_at IS NULL THEN
      v_disputed := v_disputed + v_dispute.covered_minor;
    ELSE
      v_charged_back := v_charged_back + v_dispute.covered_minor;
    END IF;
    UPDATE disputes SET account_id = v_account, covered_minor = covered_minor + v_more
     WHERE id = v_dispute.id RETURNING * INTO v_dispute;
    PERFORM audit_note(p_order.tenant_id, v_actor, 'dispute_collected', 'dispute:' || v_dispute.id, p->>'correlationId',
      dispute_data(v_dispute));
  END LOOP;
  UPDATE orders
     SET collected_as = 'account', disputed_minor = disputed_minor - v_disputed,
         charged_back_minor = charged_back_minor - v_charged_back
   WHERE id = p_order.id;
  PERFORM note_event(p_order.tenant_id, 'order.credited', 'order', p_order.id::text, order_data(p_order),
    p->>'correlationId');
END $$;

-- Applies one order webhook. p is OrderEvent of src/contracts/workflows/order.ts (without its source). Returns what order_result
-- makes. Only an order of the payment method `provider` is decided by it: of one that the balance pays, money that was
-- collected all the same is credited, whether the order is paid already or not, so that the outcome never depends on which
-- comes first. Idempotent by (provider, providerEventId), as settle_provider_event. Refused events leave only an audit row.
CREATE OR REPLACE FUNCTION settle_order_event(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_order orders;
  v_seen provider_events;
  v_stream text := (p->>'provider') || '.orders';
  v_failure text := CASE p->>'status' WHEN 'failed' THEN 'provider_declined' WHEN 'expired' THEN 'expired' END;
  v_outcome text;
  v_event_id text;
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_order FROM orders WHERE id = (p->>'orderId')::uuid FOR UPDATE;
  IF NOT FOUND THEN RETURN order_result(NULL, 'unknown_order'); END IF;

  v_outcome := CASE
    WHEN v_order.user_id <> p->>'userId' THEN 'user_mismatch'
    WHEN v_order.amount_minor <> (p->>'amountMinor')::bigint OR v_order.currency <> p->>'currency'
      THEN 'amount_mismatch' END;
  IF v_outcome IS NOT NULL THEN
    RETURN order_result(v_order, refuse_event(v_order, p, v_stream, v_outcome));
  END IF;

  v_outcome := CASE
    WHEN p->>'status' = 'pending' THEN 'noted'
    WHEN v_order.collected_as IS NOT NULL THEN
      CASE p->>'status' WHEN 'success' THEN 'duplicate' ELSE 'contradiction' END
    WHEN v_order.status = 'NEW' AND v_order.payment_method = 'provider' THEN 'applied'
    WHEN p->>'status' = 'success' THEN 'credited'
    WHEN v_order.failure_code = v_failure THEN 'duplicate'
    ELSE 'noted' END;
  IF v_outcome = 'applied' THEN v_event_id := new_event_id(); END IF;

  INSERT INTO provider_events (provider, provider_event_id, payload_hash, transaction_id, status, outcome,
                               webhook_event_id, received_at)
  VALUES (v_stream, p->>'providerEventId', p->>'payloadHash', v_order.id, p->>'status', v_outcome, v_event_id,
          (p->>'receivedAt')::timestamptz)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    SELECT * INTO STRICT v_seen FROM provider_events
     WHERE provider = v_stream AND provider_event_id = p->>'providerEventId';
    IF v_seen.payload_hash <> p->>'payloadHash' THEN
      RETURN order_result(v_order, refuse_event(v_order, p, v_stream, 'event_conflict'));
    END IF;
    RETURN order_result(v_order, 'duplicate');
  END IF;

  CASE v_outcome
    WHEN 'applied' THEN RETURN decide_order_by_provider(v_order, v_failure, v_event_id, p);
    WHEN 'credited' THEN PERFORM credit_collected(v_order, p);
    WHEN 'contradiction' THEN
      PERFORM audit_note(v_order.tenant_id, 'provider:' || (p->>'provider'), v_outcome, 'order:' || v_order.id,
        p->>'correlationId', p);
    ELSE NULL;
  END CASE;
  RETURN order_result(v_order, v_outcome);
END $$;
