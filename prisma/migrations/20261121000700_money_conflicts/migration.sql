-- What the property tests found, and rules that the database did not enforce yet.

-- As before, but the dispute is written before its money moves. Two chargebacks that name one dispute and different orders
-- lock different rows: both opened it, and the second failed on the journal's reference, which is no conflict to retry but
-- an error. Now it waits here for the first, is told of a conflict, and finds the dispute of the other order.
CREATE OR REPLACE FUNCTION open_dispute(p_order orders, p jsonb) RETURNS disputes LANGUAGE plpgsql AS $$
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
    -- Before the dispute refers to it: the check of that reference takes a lock which two calls could not both raise.
    PERFORM FROM accounts WHERE id = v_account FOR UPDATE;
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

  IF v_account IS NOT NULL THEN
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
  UPDATE disputes SET covered_minor = v_covered WHERE id = v_dispute.id RETURNING * INTO v_dispute;
  PERFORM audit_note(p_order.tenant_id, v_actor,
    CASE WHEN v_covered < v_amount THEN 'dispute_opened_uncovered' ELSE 'dispute_opened' END, 'dispute:' || v_dispute.id,
    v_correlation, dispute_data(v_dispute));
  PERFORM emit_event(v_dispute.opening_event_id, p_order.tenant_id, 'dispute.opened', 'dispute', v_dispute.id,
    dispute_data(v_dispute), v_correlation);
  RETURN v_dispute;
END $$;

-- As before, but our own expiry never contradicts: its timer, or the sweep, may run while the provider's event is being
-- settled. Only what a provider says against a state that has ended is flagged (docs/adr/0011).
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
  v_deliveries jsonb := '[]';
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_payment FROM payments WHERE id = (p->>'transactionId')::uuid FOR UPDATE;
  IF NOT FOUND THEN
    RETURN settle_result(NULL, 'unknown_transaction', '[]');
  END IF;

  v_outcome := payment_mismatch(v_payment, p);
  IF v_outcome IS NOT NULL THEN
    PERFORM FROM provider_events
      WHERE provider = p->>'provider' AND provider_event_id = p->>'providerEventId' AND payload_hash <> p->>'payloadHash';
    IF FOUND THEN v_outcome := 'event_conflict'; END IF;
    PERFORM audit_event(v_payment, p, v_outcome);
    RETURN settle_result(v_payment, v_outcome, '[]');
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
      RETURN settle_result(v_payment, 'event_conflict', '[]');
    END IF;
    RETURN settle_result(v_payment, 'duplicate', pending_deliveries(v_seen.webhook_event_id));
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
    v_deliveries := emit_event(v_event_id, v_payment.tenant_id,
      CASE WHEN v_payment.type = 'payout' AND v_status = 'expired' THEN 'payout.failed'
           ELSE v_payment.type || '.' || v_status END,
      v_payment.type, v_payment.id::text, payment_data(v_payment), v_correlation);
  ELSIF v_outcome = 'contradiction' THEN
    PERFORM audit_event(v_payment, p, v_outcome);
  END IF;
  RETURN settle_result(v_payment, v_outcome, v_deliveries);
END $$;

-- ---------------------------------------------------------------------------------------------- states that never change

CREATE TRIGGER decided_is_final BEFORE UPDATE ON orders FOR EACH ROW
  WHEN (OLD.status <> NEW.status AND OLD.status <> 'NEW' AND (OLD.status <> 'FINISHED' OR NEW.status <> 'CHARGED_BACK'))
  EXECUTE FUNCTION refuse_change('a decided order only ever becomes CHARGED_BACK, when it was FINISHED');
-- The rule above contains it.
DROP TRIGGER decided_is_not_new ON orders;

CREATE TRIGGER terminal_is_final BEFORE UPDATE ON disputes FOR EACH ROW
  WHEN (OLD.closed_at IS NOT NULL)
  EXECUTE FUNCTION refuse_change('a dispute that has ended never changes');
CREATE TRIGGER terms_are_final BEFORE UPDATE ON disputes FOR EACH ROW
  WHEN ((NEW.id, NEW.tenant_id, NEW.order_id, NEW.user_id, NEW.provider, NEW.account_id, NEW.amount_minor, NEW.currency)
        IS DISTINCT FROM
        (OLD.id, OLD.tenant_id, OLD.order_id, OLD.user_id, OLD.provider, OLD.account_id, OLD.amount_minor, OLD.currency))
  EXECUTE FUNCTION refuse_change('order, user, amount and currency never change');
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON disputes
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- As for the other tables that are only added to.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'remit_app') THEN
    REVOKE UPDATE, DELETE ON refunds, dispute_evidence FROM remit_app;
    REVOKE DELETE ON disputes FROM remit_app;
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'remit_app keeps its rights: %', SQLERRM;
END $$;
