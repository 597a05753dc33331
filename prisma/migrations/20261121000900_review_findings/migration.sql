-- What a review found in the money functions.

-- As before, and a payout that exists is answered `ok` also when it has ended since: what became of it is in its row.
CREATE OR REPLACE FUNCTION reserve_payout(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_account accounts;
  v_payment payments;
  v_id uuid := coalesce((p->>'id')::uuid, gen_random_uuid());
  v_amount bigint := (p->>'amountMinor')::bigint;
  v_posted text;
  v_event_id text := new_event_id();
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
    RETURN jsonb_build_object('id', v_id, 'deliveries', v_deliveries, 'outcome',
      CASE v_payment.failure_code WHEN 'insufficient_funds' THEN 'insufficient_funds' ELSE 'ok' END);
  END IF;
  v_posted := ledger_post(v_account.tenant_id, 'payout_hold', 'payout:' || v_id || ':hold', v_account.currency,
    ARRAY[(v_account.id, NULL, 0, v_amount)::ledger_line], p->>'actor', p->>'correlationId');
  IF v_posted = 'ok' THEN
    INSERT INTO holds (account_id, reference, amount_minor) VALUES (v_account.id, 'payout:' || v_id, v_amount);
  ELSE
    UPDATE payments SET status = 'failed', failure_code = v_posted, settled_at = now()
     WHERE id = v_id RETURNING * INTO v_payment;
    v_deliveries := emit_event(v_event_id, v_payment.tenant_id, 'payout.failed', 'payout', v_id::text,
      payment_data(v_payment), p->>'correlationId');
    INSERT INTO outbox (topic, key, value, headers)
    VALUES ('events', v_event_id,
            jsonb_build_object('id', v_event_id, 'tenantId', v_payment.tenant_id, 'clientId', NULL,
              'type', 'payout.failed', 'timestamp', iso_utc(v_payment.settled_at), 'data', payment_data(v_payment))::text,
            jsonb_build_object('remit-correlation-id', coalesce(p->>'correlationId', '')));
  END IF;
  RETURN jsonb_build_object('outcome', v_posted, 'id', v_id, 'deliveries', v_deliveries);
END $$;

-- As before, and the account is locked before the refund refers to it: the check of that reference takes a lock which
-- two refunds of one user could not both raise.
CREATE OR REPLACE FUNCTION refund_order(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_order orders;
  v_refund refunds;
  v_amount bigint;
  v_account uuid;
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_order FROM orders
   WHERE id = (p->>'orderId')::uuid AND tenant_id = p->>'tenantId' FOR UPDATE;
  IF NOT FOUND THEN RETURN refund_result(NULL, NULL, 'unknown_order', '[]'); END IF;
  -- Only an order that was paid has something left.
  v_amount := coalesce((p->>'amountMinor')::bigint, order_left(v_order));
  IF v_amount > 0 AND v_amount <= order_left(v_order) THEN
    v_account := account_of(v_order.tenant_id, v_order.user_id, v_order.currency);
    PERFORM FROM accounts WHERE id = v_account FOR UPDATE;
    INSERT INTO refunds (id, tenant_id, order_id, account_id, amount_minor, currency, reason, actor, webhook_event_id,
                         correlation_id)
    VALUES ((p->>'refundId')::uuid, v_order.tenant_id, v_order.id, v_account, v_amount, v_order.currency, p->>'reason',
            p->>'actor', new_event_id(), p->>'correlationId')
    ON CONFLICT DO NOTHING RETURNING * INTO v_refund;
  END IF;
  IF v_refund.id IS NULL THEN
    SELECT * INTO v_refund FROM refunds WHERE id = (p->>'refundId')::uuid AND order_id = v_order.id;
    IF FOUND THEN
      RETURN refund_result(v_order, v_refund, 'duplicate', pending_deliveries(v_refund.webhook_event_id));
    END IF;
    RETURN refund_result(v_order, NULL,
      CASE WHEN v_order.status IN ('FINISHED', 'CHARGED_BACK') THEN 'exceeds' ELSE 'not_paid' END, '[]');
  END IF;
  PERFORM ledger_must_post(v_order.tenant_id, 'refund', 'refund:' || v_refund.id, v_order.currency,
    ARRAY[(v_account, NULL, v_amount, 0)::ledger_line, (NULL, 'revenue:orders', -v_amount, 0)::ledger_line],
    p->>'actor', p->>'correlationId');
  UPDATE orders SET refunded_minor = refunded_minor + v_amount WHERE id = v_order.id RETURNING * INTO v_order;
  RETURN refund_result(v_order, v_refund, 'ok',
    emit_event(v_refund.webhook_event_id, v_order.tenant_id, 'order.refunded', 'order', v_order.id::text,
      order_data(v_order) || jsonb_build_object('refundId', v_refund.id, 'reason', v_refund.reason,
        'refundAmount', format_minor(v_amount, v_order.currency),
        'refundedTotal', format_minor(v_order.refunded_minor, v_order.currency)),
      p->>'correlationId'));
END $$;

-- ------------------------------------------------------------------------------------------------ disputes

-- As before, but an account never covers more than what the provider's collection for the order had brought it: what
-- other disputes of the order took, and did not give back, is gone. The rest is a loss.
CREATE OR REPLACE FUNCTION open_dispute(p_order orders, p jsonb) RETURNS disputes LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes;
  v_amount bigint := coalesce((p->>'amountMinor')::bigint, p_order.amount_minor);
  v_account uuid;
  v_covered bigint := 0;
  v_reference text := 'dispute:' || (p->>'disputeId') || ':opened';
  v_actor text := 'provider:' || (p->>'provider');
  v_correlation text := p->>'correlationId';
BEGIN
  IF p_order.collected_as = 'account' THEN
    v_account := account_of(p_order.tenant_id, p_order.user_id, p_order.currency);
    -- Before the dispute refers to it: the check of that reference takes a lock which two calls could not both raise.
    PERFORM FROM accounts WHERE id = v_account FOR UPDATE;
    SELECT least(v_amount, p_order.amount_minor - coalesce(sum(covered_minor), 0)) INTO v_covered
      FROM disputes WHERE order_id = p_order.id AND account_id IS NOT NULL AND status <> 'won';
  END IF;
  INSERT INTO disputes (id, tenant_id, order_id, user_id, provider, account_id, amount_minor, covered_minor, currency,
                        reason, evidence_due_at, opening_event_id, correlation_id)
  VALUES (p->>'disputeId', p_order.tenant_id, p_order.id, p_order.user_id, p->>'provider', v_account, v_amount,
          0, p_order.currency, p->>'reason',
          coalesce((p->>'evidenceDueBy')::timestamptz,
                   clock_timestamp() + (p->>'evidenceDueMs')::bigint * interval '1 millisecond'),
          new_event_id(), v_correlation)
  ON CONFLICT (id) DO NOTHING RETURNING * INTO v_dispute;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'dispute % was opened by another transaction', p->>'disputeId' USING ERRCODE = 'serialization_failure';
  END IF;

  IF v_account IS NULL THEN
    v_covered := least(v_amount, order_left(p_order));
  ELSIF v_covered > 0 THEN
    v_covered := CASE ledger_post(p_order.tenant_id, 'dispute_hold', v_reference, p_order.currency,
      ARRAY[(v_account, NULL, -v_covered, 0)::ledger_line,
            (NULL, 'losses:disputes', -(v_amount - v_covered), 0)::ledger_line,
            (NULL, 'disputes:held', v_amount, 0)::ledger_line], v_actor, v_correlation)
      WHEN 'ok' THEN v_covered ELSE 0 END;
  END IF;
  IF v_account IS NULL OR v_covered = 0 THEN
    PERFORM ledger_must_post(p_order.tenant_id, 'dispute_hold', v_reference, p_order.currency,
      ARRAY[(NULL, 'revenue:orders', -v_covered, 0)::ledger_line,
            (NULL, 'losses:disputes', -(v_amount - v_covered), 0)::ledger_line,
            (NULL, 'disputes:held', v_amount, 0)::ledger_line], v_actor, v_correlation);
  END IF;
  IF v_account IS NULL THEN
    UPDATE orders SET disputed_minor = disputed_minor + v_covered WHERE id = p_order.id;
  END IF;
  UPDATE disputes SET covered_minor = v_covered WHERE id = v_dispute.id RETURNING * INTO v_dispute;
  PERFORM audit_note(p_order.tenant_id, v_actor,
    CASE WHEN v_covered < v_amount THEN 'dispute_opened_uncovered' ELSE 'dispute_opened' END, 'dispute:' || v_dispute.id,
    v_correlation, dispute_data(v_dispute));
  PERFORM emit_event(v_dispute.opening_event_id, p_order.tenant_id, 'dispute.opened', 'dispute', v_dispute.id,
    dispute_data(v_dispute), v_correlation);
  RETURN v_dispute;
END $$;

-- As before, and what an account covered in part goes back to it in part.
CREATE OR REPLACE FUNCTION close_dispute(p_dispute disputes, p_status text, p_actor text, p_correlation text)
RETURNS disputes LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes;
  v_order orders;
  v_reference text := 'dispute:' || p_dispute.id || ':' || p_status;
  -- What the order itself covered.
  v_of_order bigint := CASE WHEN p_dispute.account_id IS NULL THEN p_dispute.covered_minor ELSE 0 END;
  v_lines ledger_line[];
BEGIN
  IF p_status <> 'won' THEN
    PERFORM ledger_must_post(p_dispute.tenant_id, 'dispute_reversal', v_reference, p_dispute.currency,
      ARRAY[(NULL, 'disputes:held', -p_dispute.amount_minor, 0)::ledger_line,
            (NULL, 'clearing:' || p_dispute.provider, p_dispute.amount_minor, 0)::ledger_line], p_actor, p_correlation);
  ELSE
    v_lines := ARRAY[(NULL, 'disputes:held', -p_dispute.amount_minor, 0)::ledger_line,
                     (NULL, 'revenue:orders', v_of_order, 0)::ledger_line,
                     (NULL, 'losses:disputes', p_dispute.amount_minor - p_dispute.covered_minor, 0)::ledger_line];
    -- A line of nothing would count as a change of the account.
    IF p_dispute.account_id IS NOT NULL AND p_dispute.covered_minor > 0 THEN
      v_lines := v_lines || (p_dispute.account_id, NULL, p_dispute.covered_minor, 0)::ledger_line;
    END IF;
    PERFORM ledger_must_post(p_dispute.tenant_id, 'dispute_release', v_reference, p_dispute.currency, v_lines, p_actor,
      p_correlation);
  END IF;
  UPDATE disputes SET status = p_status, closed_at = clock_timestamp(), closing_event_id = new_event_id()
   WHERE id = p_dispute.id RETURNING * INTO v_dispute;
  UPDATE orders
     SET disputed_minor = disputed_minor - v_of_order,
         charged_back_minor = charged_back_minor + CASE p_status WHEN 'won' THEN 0 ELSE v_of_order END,
         -- A dispute of money that had gone to the user's account takes nothing from the order.
         status = CASE WHEN p_status <> 'won' AND p_dispute.account_id IS NULL THEN 'CHARGED_BACK' ELSE status END
   WHERE id = p_dispute.order_id RETURNING * INTO v_order;
  PERFORM audit_note(v_dispute.tenant_id, p_actor, 'dispute_' || p_status, 'dispute:' || v_dispute.id, p_correlation,
    dispute_data(v_dispute));
  PERFORM emit_event(v_dispute.closing_event_id, v_dispute.tenant_id, 'dispute.' || p_status, 'dispute', v_dispute.id,
    dispute_data(v_dispute), p_correlation);
  IF p_status <> 'won' AND v_dispute.account_id IS NULL THEN
    PERFORM emit_event(v_dispute.closing_event_id || '_order', v_dispute.tenant_id, 'order.charged_back', 'order',
      v_order.id::text, order_data(v_order) || jsonb_build_object('disputeId', v_dispute.id,
        'disputeAmount', format_minor(v_dispute.amount_minor, v_dispute.currency),
        'chargedBackTotal', format_minor(v_order.charged_back_minor, v_order.currency)), p_correlation);
  END IF;
  RETURN v_dispute;
END $$;

-- ------------------------------------------------------------------------------------------------ order of events

-- As before, but who covers a dispute may change once, also after its end: see credit_collected.
DROP TRIGGER terminal_is_final ON disputes;
CREATE TRIGGER terminal_is_final BEFORE UPDATE ON disputes FOR EACH ROW
  WHEN (OLD.closed_at IS NOT NULL
        AND (NEW.account_id IS NOT DISTINCT FROM OLD.account_id
             OR (NEW.status, NEW.reason, NEW.evidence_due_at, NEW.opening_event_id, NEW.closing_event_id, NEW.closed_at)
                IS DISTINCT FROM
                (OLD.status, OLD.reason, OLD.evidence_due_at, OLD.opening_event_id, OLD.closing_event_id, OLD.closed_at)))
  EXECUTE FUNCTION refuse_change('a dispute that has ended never changes, but for an account that covers it instead of the order');
DROP TRIGGER terms_are_final ON disputes;
CREATE TRIGGER terms_are_final BEFORE UPDATE ON disputes FOR EACH ROW
  WHEN ((NEW.id, NEW.tenant_id, NEW.order_id, NEW.user_id, NEW.provider, NEW.amount_minor, NEW.currency)
        IS DISTINCT FROM
        (OLD.id, OLD.tenant_id, OLD.order_id, OLD.user_id, OLD.provider, OLD.amount_minor, OLD.currency)
        OR (OLD.account_id IS NOT NULL AND NEW.account_id IS DISTINCT FROM OLD.account_id))
  EXECUTE FUNCTION refuse_change('order, user, amount, currency and the account that covers it never change');

-- As before, but what disputes had taken of the order meanwhile was of this money: they are covered by it from now on,
-- and the order's revenue, and then what was lost, get back what they had given. The user keeps what is left, as if the
-- collection had been heard of before the disputes. An order that is CHARGED_BACK already stays so (docs/adr/0011).
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

-- ------------------------------------------------------------------------------------------------ evidence

-- As before, and evidence is taken as long as it is not due, also when the provider reviews the dispute already.
CREATE OR REPLACE FUNCTION submit_evidence(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes := lock_dispute(p->>'disputeId');
  v_hash text;
BEGIN
  IF v_dispute.id IS NULL THEN RETURN dispute_result(NULL, 'unknown_dispute'); END IF;
  SELECT hash INTO v_hash FROM dispute_evidence WHERE dispute_id = v_dispute.id;
  IF FOUND THEN
    RETURN dispute_result(v_dispute, CASE WHEN v_hash = p->>'hash' THEN 'duplicate' ELSE 'already_submitted' END);
  ELSIF v_dispute.closed_at IS NOT NULL OR v_dispute.evidence_due_at <= clock_timestamp() THEN
    RETURN dispute_result(v_dispute, 'too_late');
  END IF;
  INSERT INTO dispute_evidence (dispute_id, hash, evidence, actor)
  VALUES (v_dispute.id, p->>'hash', p->'evidence', p->>'actor');
  IF v_dispute.status = 'opened' THEN
    v_dispute := review_dispute(v_dispute, p->>'actor', p->>'correlationId');
  ELSE
    PERFORM audit_note(v_dispute.tenant_id, p->>'actor', 'dispute_evidence', 'dispute:' || v_dispute.id,
      p->>'correlationId', dispute_data(v_dispute));
  END IF;
  RETURN dispute_result(v_dispute, 'ok');
END $$;
