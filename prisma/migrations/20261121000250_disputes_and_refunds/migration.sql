-- Orders that a provider pays, disputes of orders, and refunds (docs/adr/0010, docs/disputes.md). The same rules as in
-- the money functions before: one call is one SERIALIZABLE transaction, the order is locked first, then its dispute,
-- then accounts by id; refusals are results; a repeated call changes nothing.

-- What of an order's amount has gone elsewhere since it was paid. One row, one lock, one constraint: together these
-- can never exceed what was paid. No index covers them, so that updates stay HOT.
ALTER TABLE orders
  ADD COLUMN collected_as text CHECK (collected_as IN ('order', 'account')),
  ADD COLUMN refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor >= 0),
  ADD COLUMN disputed_minor bigint NOT NULL DEFAULT 0 CHECK (disputed_minor >= 0),
  ADD COLUMN charged_back_minor bigint NOT NULL DEFAULT 0 CHECK (charged_back_minor >= 0),
  ADD CONSTRAINT not_more_than_paid CHECK (refunded_minor + disputed_minor + charged_back_minor <= amount_minor);
COMMENT ON COLUMN orders.collected_as IS
  'a provider collected the amount: for the order, or (it was decided already) for the user''s account';
COMMENT ON COLUMN orders.disputed_minor IS 'held for open disputes';

ALTER TABLE payment_attempts
  ADD COLUMN method text NOT NULL DEFAULT 'balance' CHECK (method IN ('balance', 'provider'));

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
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON dispute_evidence
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

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
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON refunds
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- What of an order's payment is still there: not refunded, not held for a dispute, not lost in one.
CREATE FUNCTION order_left(p_order orders) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_order.status IN ('FINISHED', 'CHARGED_BACK')
    THEN p_order.amount_minor - p_order.refunded_minor - p_order.disputed_minor - p_order.charged_back_minor
    ELSE 0 END
$$;

-- The user's account, opened when there is none: money that belongs to a user must have somewhere to go.
CREATE FUNCTION account_of(p_tenant text, p_user text, p_currency text) RETURNS uuid LANGUAGE plpgsql AS $$
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

-- ledger_post, where a refusal would be a defect.
CREATE FUNCTION ledger_must_post(
  p_tenant text, p_kind text, p_reference text, p_currency text, p_lines ledger_line[], p_actor text, p_correlation text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_posted text := ledger_post(p_tenant, p_kind, p_reference, p_currency, p_lines, p_actor, p_correlation);
BEGIN
  IF v_posted <> 'ok' THEN RAISE EXCEPTION '% can not be posted: %', p_reference, v_posted; END IF;
END $$;

-- A state change that other systems should see but that subscribers are not told of: domain.events alone.
CREATE FUNCTION note_event(
  p_tenant text, p_type text, p_aggregate text, p_aggregate_id text, p_data jsonb, p_correlation text
) RETURNS void LANGUAGE sql AS $$
  INSERT INTO outbox (topic, key, value, headers)
  VALUES ('domain.events', p_aggregate_id,
          jsonb_build_object('id', new_event_id(), 'type', p_type, 'aggregate', p_aggregate,
            'aggregateId', p_aggregate_id, 'tenantId', p_tenant, 'occurredAt', iso_utc(clock_timestamp()),
            'correlationId', p_correlation, 'data', p_data)::text,
          jsonb_build_object('remit-correlation-id', coalesce(p_correlation, '')))
$$;

-- Records what moved no user's balance but that someone should see.
CREATE FUNCTION audit_note(p_tenant text, p_actor text, p_action text, p_cause text, p_correlation text, p_details jsonb)
RETURNS void LANGUAGE sql AS $$
  INSERT INTO audit_log (tenant_id, actor, action, cause, correlation_id, details)
  VALUES (p_tenant, p_actor, p_action, p_cause, p_correlation, p_details)
$$;

-- A refused provider event: audited, not stored, so that it is judged anew when it is redriven. An event id that was
-- stored with another body is the graver mistake of the two.
CREATE FUNCTION refuse_event(p_order orders, p jsonb, p_stream text, p_outcome text) RETURNS text LANGUAGE plpgsql AS $$
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

-- ------------------------------------------------------------------------------------------------ order webhooks

-- Decides a NEW order by what a provider says of it: FINISHED, or CANCELLED with p_failure. The same row in
-- payment_attempts and the same journal reference as in pay_order: an order is paid once, whichever way.
CREATE FUNCTION decide_order_by_provider(p_order orders, p_failure text, p_event_id text, p jsonb)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_order orders;
BEGIN
  IF p_failure IS NULL THEN
    PERFORM ledger_must_post(p_order.tenant_id, 'order', 'order:' || p_order.id, p_order.currency,
      ARRAY[(NULL, 'clearing:' || (p->>'provider'), -p_order.amount_minor, 0)::ledger_line,
            (NULL, 'revenue:orders', p_order.amount_minor, 0)::ledger_line],
      'provider:' || (p->>'provider'), p->>'correlationId');
  END IF;
  INSERT INTO payment_attempts (order_id, status, failure_code, amount_minor, webhook_event_id, method)
  VALUES (p_order.id, CASE WHEN p_failure IS NULL THEN 'succeeded' ELSE 'failed' END, p_failure, p_order.amount_minor,
          p_event_id, 'provider');
  UPDATE orders
     SET status = CASE WHEN p_failure IS NULL THEN 'FINISHED' ELSE 'CANCELLED' END,
         collected_as = CASE WHEN p_failure IS NULL THEN 'order' END,
         failure_code = p_failure, decided_at = now()
   WHERE id = p_order.id RETURNING * INTO v_order;
  INSERT INTO outbox (topic, key, value, headers)
  VALUES ('payment-status', v_order.id::text,
          jsonb_build_object('event', 'payment-status', 'orderId', v_order.id, 'userId', v_order.user_id,
            'status', CASE WHEN p_failure IS NULL THEN 'SUCCESS' ELSE 'FAILED' END, 'reason', p_failure,
            'amount', format_minor(v_order.amount_minor, v_order.currency), 'currency', v_order.currency,
            'decidedAt', iso_utc(v_order.decided_at))::text,
          jsonb_build_object('remit-correlation-id', coalesce(p->>'correlationId', '')));
  RETURN emit_event(p_event_id, v_order.tenant_id,
    CASE v_order.status WHEN 'FINISHED' THEN 'order.finished' ELSE 'order.cancelled' END,
    'order', v_order.id::text, order_data(v_order), p->>'correlationId');
END $$;

-- A provider collected money for an order that was decided without it: the money is the user's.
CREATE FUNCTION credit_collected(p_order orders, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM ledger_must_post(p_order.tenant_id, 'order_credit', 'order:' || p_order.id || ':credit', p_order.currency,
    ARRAY[(account_of(p_order.tenant_id, p_order.user_id, p_order.currency), NULL, p_order.amount_minor, 0)::ledger_line,
          (NULL, 'clearing:' || (p->>'provider'), -p_order.amount_minor, 0)::ledger_line],
    'provider:' || (p->>'provider'), p->>'correlationId');
  UPDATE orders SET collected_as = 'account' WHERE id = p_order.id;
  PERFORM note_event(p_order.tenant_id, 'order.credited', 'order', p_order.id::text, order_data(p_order),
    p->>'correlationId');
END $$;

-- Applies one order webhook, once. p is contracts/workflows.ts OrderEvent (without its source).
CREATE FUNCTION settle_order_event(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_order orders;
  v_seen provider_events;
  v_stream text := (p->>'provider') || '.orders';
  v_failure text := CASE p->>'status' WHEN 'failed' THEN 'provider_declined' WHEN 'expired' THEN 'expired' END;
  v_outcome text;
  v_event_id text;
  v_deliveries jsonb := '[]';
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_order FROM orders WHERE id = (p->>'orderId')::uuid FOR UPDATE;
  IF NOT FOUND THEN RETURN order_result(NULL, 'unknown_order', '[]'); END IF;

  v_outcome := CASE
    WHEN v_order.user_id <> p->>'userId' THEN 'user_mismatch'
    WHEN v_order.amount_minor <> (p->>'amountMinor')::bigint OR v_order.currency <> p->>'currency'
      THEN 'amount_mismatch' END;
  IF v_outcome IS NOT NULL THEN
    RETURN order_result(v_order, refuse_event(v_order, p, v_stream, v_outcome), '[]');
  END IF;

  v_outcome := CASE
    WHEN p->>'status' = 'pending' THEN 'noted'
    WHEN p->>'status' = 'success' AND v_order.collected_as IS NOT NULL THEN 'duplicate'
    WHEN p->>'status' = 'success' AND v_order.status <> 'NEW' THEN 'credited'
    WHEN v_order.status = 'NEW' THEN 'applied'
    WHEN v_order.collected_as IS NOT NULL THEN 'contradiction'
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
      RETURN order_result(v_order, refuse_event(v_order, p, v_stream, 'event_conflict'), '[]');
    END IF;
    RETURN order_result(v_order, 'duplicate', pending_deliveries(v_seen.webhook_event_id));
  END IF;

  CASE v_outcome
    WHEN 'applied' THEN
      v_deliveries := decide_order_by_provider(v_order, v_failure, v_event_id, p);
      SELECT * INTO STRICT v_order FROM orders WHERE id = v_order.id;
    WHEN 'credited' THEN PERFORM credit_collected(v_order, p);
    WHEN 'contradiction' THEN
      PERFORM audit_note(v_order.tenant_id, 'provider:' || (p->>'provider'), v_outcome, 'order:' || v_order.id,
        p->>'correlationId', p);
    ELSE NULL;
  END CASE;
  RETURN order_result(v_order, v_outcome, v_deliveries);
END $$;

-- ------------------------------------------------------------------------------------------------ refunds

CREATE FUNCTION refund_result(p_order orders, p_refund refunds, p_outcome text, p_deliveries jsonb)
RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('outcome', p_outcome, 'refundId', p_refund.id, 'currency', p_order.currency,
    'refundableMinor', order_left(p_order)::text, 'deliveries', coalesce(p_deliveries, '[]'))
$$;

-- Gives money of a paid order back to its user's balance, once by refundId. p: refundId, tenantId, orderId, amountMinor
-- (absent: all that is left), reason, actor, correlationId. Returns ok, duplicate, unknown_order, not_paid or exceeds.
CREATE FUNCTION refund_order(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
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

-- What subscribers and other systems are told of a dispute.
CREATE FUNCTION dispute_data(p_dispute disputes) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('id', p_dispute.id, 'orderId', p_dispute.order_id, 'userId', p_dispute.user_id,
    'amount', format_minor(p_dispute.amount_minor, p_dispute.currency), 'currency', p_dispute.currency,
    'uncovered', format_minor(p_dispute.amount_minor - p_dispute.covered_minor, p_dispute.currency),
    'status', p_dispute.status, 'reason', p_dispute.reason, 'evidenceDueAt', iso_utc(p_dispute.evidence_due_at),
    'openedAt', iso_utc(p_dispute.created_at), 'closedAt', iso_utc(p_dispute.closed_at))
$$;

-- Every delivery of a dispute that is not finished: a repeated step hands back all that may not have been started.
CREATE FUNCTION dispute_deliveries(p_dispute disputes) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT pending_deliveries(p_dispute.opening_event_id) || pending_deliveries(p_dispute.closing_event_id)
    || pending_deliveries(p_dispute.closing_event_id || '_order')
$$;

CREATE FUNCTION dispute_result(p_dispute disputes, p_outcome text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('outcome', p_outcome, 'status', p_dispute.status, 'userId', p_dispute.user_id,
    'evidenceDueAt', CASE p_dispute.status WHEN 'opened' THEN iso_utc(p_dispute.evidence_due_at) END,
    'correlationId', p_dispute.correlation_id, 'deliveries', CASE WHEN p_dispute.id IS NULL THEN '[]' ELSE dispute_deliveries(p_dispute) END)
$$;

-- Opens a dispute and holds its money. Normally it comes out of the order's revenue, as far as the order has some left
-- (the rest was refunded or is disputed already). When the provider's payment had gone to the user's account, that
-- account covers it, if it can. What nobody covers is booked as a loss until the dispute is won.
CREATE FUNCTION open_dispute(p_order orders, p jsonb) RETURNS disputes LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes;
  v_amount bigint := coalesce((p->>'amountMinor')::bigint, p_order.amount_minor);
  v_account uuid;
  v_covered bigint;
  v_reference text := 'dispute:' || (p->>'disputeId') || ':opened';
  v_actor text := 'provider:' || (p->>'provider');
  v_correlation text := p->>'correlationId';
BEGIN
  IF p_order.collected_as = 'account' THEN
    v_account := account_of(p_order.tenant_id, p_order.user_id, p_order.currency);
    v_covered := CASE ledger_post(p_order.tenant_id, 'dispute_hold', v_reference, p_order.currency,
      ARRAY[(v_account, NULL, -v_amount, 0)::ledger_line, (NULL, 'disputes:held', v_amount, 0)::ledger_line],
      v_actor, v_correlation) WHEN 'ok' THEN v_amount ELSE 0 END;
  ELSE
    v_covered := least(v_amount, order_left(p_order));
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
  INSERT INTO disputes (id, tenant_id, order_id, user_id, provider, account_id, amount_minor, covered_minor, currency,
                        reason, evidence_due_at, opening_event_id, correlation_id)
  VALUES (p->>'disputeId', p_order.tenant_id, p_order.id, p_order.user_id, p->>'provider', v_account, v_amount,
          v_covered, p_order.currency, p->>'reason',
          coalesce((p->>'evidenceDueBy')::timestamptz,
                   clock_timestamp() + (p->>'evidenceDueMs')::bigint * interval '1 millisecond'),
          new_event_id(), v_correlation)
  RETURNING * INTO v_dispute;
  PERFORM audit_note(p_order.tenant_id, v_actor,
    CASE WHEN v_covered < v_amount THEN 'dispute_opened_uncovered' ELSE 'dispute_opened' END, 'dispute:' || v_dispute.id,
    v_correlation, dispute_data(v_dispute));
  PERFORM emit_event(v_dispute.opening_event_id, p_order.tenant_id, 'dispute.opened', 'dispute', v_dispute.id,
    dispute_data(v_dispute), v_correlation);
  RETURN v_dispute;
END $$;

-- Ends a dispute: won gives the held money back to where it came from, lost and expired hand it to the provider.
CREATE FUNCTION close_dispute(p_dispute disputes, p_status text, p_actor text, p_correlation text)
RETURNS disputes LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes;
  v_order orders;
  v_reference text := 'dispute:' || p_dispute.id || ':' || p_status;
  v_uncovered bigint := p_dispute.amount_minor - p_dispute.covered_minor;
  -- What the order itself covered.
  v_of_order bigint := CASE WHEN p_dispute.account_id IS NULL THEN p_dispute.covered_minor ELSE 0 END;
BEGIN
  IF p_status <> 'won' THEN
    PERFORM ledger_must_post(p_dispute.tenant_id, 'dispute_reversal', v_reference, p_dispute.currency,
      ARRAY[(NULL, 'disputes:held', -p_dispute.amount_minor, 0)::ledger_line,
            (NULL, 'clearing:' || p_dispute.provider, p_dispute.amount_minor, 0)::ledger_line], p_actor, p_correlation);
  ELSIF p_dispute.account_id IS NOT NULL AND v_uncovered = 0 THEN
    PERFORM ledger_must_post(p_dispute.tenant_id, 'dispute_release', v_reference, p_dispute.currency,
      ARRAY[(NULL, 'disputes:held', -p_dispute.amount_minor, 0)::ledger_line,
            (p_dispute.account_id, NULL, p_dispute.amount_minor, 0)::ledger_line], p_actor, p_correlation);
  ELSE
    PERFORM ledger_must_post(p_dispute.tenant_id, 'dispute_release', v_reference, p_dispute.currency,
      ARRAY[(NULL, 'disputes:held', -p_dispute.amount_minor, 0)::ledger_line,
            (NULL, 'revenue:orders', v_of_order, 0)::ledger_line,
            (NULL, 'losses:disputes', v_uncovered, 0)::ledger_line], p_actor, p_correlation);
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

CREATE FUNCTION review_dispute(p_dispute disputes, p_actor text, p_correlation text) RETURNS disputes LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes;
BEGIN
  UPDATE disputes SET status = 'under_review' WHERE id = p_dispute.id RETURNING * INTO v_dispute;
  PERFORM audit_note(v_dispute.tenant_id, p_actor, 'dispute_under_review', 'dispute:' || v_dispute.id, p_correlation,
    dispute_data(v_dispute));
  PERFORM note_event(v_dispute.tenant_id, 'dispute.under_review', 'dispute', v_dispute.id, dispute_data(v_dispute),
    p_correlation);
  RETURN v_dispute;
END $$;

-- What a status that a provider reports does to a dispute that is in another one (or not known: NULL).
CREATE FUNCTION dispute_transition(p_from text, p_to text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_from IS NULL THEN 'applied'
    WHEN p_from = p_to THEN 'duplicate'
    WHEN p_to = 'opened' THEN 'noted'
    WHEN p_from = 'opened' THEN 'applied'
    WHEN p_to = 'under_review' THEN 'noted'
    WHEN p_from = 'under_review' THEN 'applied'
    -- Lost and expired are the same for the money: it went to the provider.
    WHEN p_from IN ('lost', 'expired') AND p_to IN ('lost', 'expired') THEN 'noted'
    ELSE 'contradiction' END
$$;

-- Applies one chargeback webhook, once. p is contracts/workflows.ts DisputeEvent (without its source) and evidenceDueMs.
-- A dispute whose first event is not `opened` is opened all the same, and then goes on to what the event says.
CREATE FUNCTION settle_dispute_event(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_order orders;
  v_dispute disputes;
  v_seen provider_events;
  v_stream text := (p->>'provider') || '.disputes';
  v_actor text := 'provider:' || (p->>'provider');
  v_status text := p->>'status';
  v_amount bigint := (p->>'amountMinor')::bigint;
  v_outcome text;
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_order FROM orders WHERE id = (p->>'orderId')::uuid FOR UPDATE;
  IF NOT FOUND THEN RETURN dispute_result(NULL, 'unknown_order'); END IF;
  SELECT * INTO v_dispute FROM disputes WHERE id = p->>'disputeId' FOR UPDATE;

  v_outcome := CASE
    WHEN v_dispute.order_id <> v_order.id THEN 'dispute_mismatch'
    WHEN v_order.currency <> p->>'currency' OR v_amount > v_order.amount_minor OR v_amount <> v_dispute.amount_minor
      THEN 'amount_mismatch' END;
  IF v_outcome IS NOT NULL THEN
    -- Of a dispute of another order this order's workflow must not learn anything but the refusal.
    RETURN dispute_result(CASE v_outcome WHEN 'amount_mismatch' THEN v_dispute END,
      refuse_event(v_order, p, v_stream, v_outcome));
  END IF;
  -- Nothing was paid (yet): the webhook overtook the payment, or means another order.
  IF v_dispute.id IS NULL AND v_order.collected_as IS NULL AND v_order.status IN ('NEW', 'CANCELLED') THEN
    RETURN dispute_result(NULL, 'order_not_paid');
  END IF;

  v_outcome := dispute_transition(v_dispute.status, v_status);
  INSERT INTO provider_events (provider, provider_event_id, payload_hash, transaction_id, status, outcome, received_at)
  VALUES (v_stream, p->>'providerEventId', p->>'payloadHash', v_order.id, v_status, v_outcome,
          (p->>'receivedAt')::timestamptz)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    SELECT * INTO STRICT v_seen FROM provider_events
     WHERE provider = v_stream AND provider_event_id = p->>'providerEventId';
    IF v_seen.payload_hash <> p->>'payloadHash' THEN
      RETURN dispute_result(v_dispute, refuse_event(v_order, p, v_stream, 'event_conflict'));
    END IF;
    RETURN dispute_result(v_dispute, 'duplicate');
  END IF;

  IF v_outcome = 'applied' THEN
    IF v_dispute.id IS NULL THEN v_dispute := open_dispute(v_order, p); END IF;
    IF v_status = 'under_review' THEN
      v_dispute := review_dispute(v_dispute, v_actor, p->>'correlationId');
    ELSIF v_status <> 'opened' THEN
      v_dispute := close_dispute(v_dispute, v_status, v_actor, p->>'correlationId');
    END IF;
  ELSIF v_outcome = 'contradiction' THEN
    PERFORM audit_note(v_order.tenant_id, v_actor, v_outcome, 'dispute:' || v_dispute.id, p->>'correlationId', p);
  END IF;
  RETURN dispute_result(v_dispute, v_outcome);
END $$;

-- The dispute of p.disputeId, with its order locked before it. NULL when there is none.
CREATE FUNCTION lock_dispute(p_id text) RETURNS disputes LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes;
BEGIN
  PERFORM require_serializable();
  PERFORM FROM orders WHERE id = (SELECT order_id FROM disputes WHERE id = p_id) FOR UPDATE;
  SELECT * INTO v_dispute FROM disputes WHERE id = p_id FOR UPDATE;
  RETURN v_dispute;
END $$;

-- Expires a dispute whose evidence was due. p: disputeId. Before its time, or when it is not waiting for
-- evidence any more, nothing changes.
CREATE FUNCTION expire_dispute(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes := lock_dispute(p->>'disputeId');
BEGIN
  IF v_dispute.id IS NULL THEN RETURN dispute_result(NULL, 'unknown_dispute'); END IF;
  IF v_dispute.status <> 'opened' OR v_dispute.evidence_due_at > clock_timestamp() THEN
    RETURN dispute_result(v_dispute, CASE v_dispute.status WHEN 'expired' THEN 'duplicate' ELSE 'noted' END);
  END IF;
  RETURN dispute_result(close_dispute(v_dispute, 'expired', 'system:expiry', v_dispute.correlation_id), 'applied');
END $$;

-- Submits evidence, once a dispute. p: disputeId, hash, evidence, actor, correlationId. Returns ok, duplicate (the same
-- evidence again), already_submitted, too_late or unknown_dispute.
CREATE FUNCTION submit_evidence(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes := lock_dispute(p->>'disputeId');
  v_hash text;
BEGIN
  IF v_dispute.id IS NULL THEN RETURN dispute_result(NULL, 'unknown_dispute'); END IF;
  SELECT hash INTO v_hash FROM dispute_evidence WHERE dispute_id = v_dispute.id;
  IF FOUND THEN
    RETURN dispute_result(v_dispute, CASE WHEN v_hash = p->>'hash' THEN 'duplicate' ELSE 'already_submitted' END);
  ELSIF v_dispute.status <> 'opened' OR v_dispute.evidence_due_at <= clock_timestamp() THEN
    RETURN dispute_result(v_dispute, 'too_late');
  END IF;
  INSERT INTO dispute_evidence (dispute_id, hash, evidence, actor)
  VALUES (v_dispute.id, p->>'hash', p->'evidence', p->>'actor');
  RETURN dispute_result(review_dispute(v_dispute, p->>'actor', p->>'correlationId'), 'ok');
END $$;
