-- Disputes (chargebacks) of orders: their states, their deadline for evidence (open_dispute sets it, expire_dispute and
-- submit_evidence hold it), and where their money is until the verdict (docs/adr/0010, docs/disputes.md). The order is
-- locked first, then its dispute, then accounts.

-- What subscribers and other systems are told of a dispute.
CREATE OR REPLACE FUNCTION dispute_data(p_dispute disputes) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('id', p_dispute.id, 'orderId', p_dispute.order_id, 'userId', p_dispute.user_id,
    'amount', format_minor(p_dispute.amount_minor, p_dispute.currency), 'currency', p_dispute.currency,
    'uncovered', format_minor(p_dispute.amount_minor - p_dispute.covered_minor, p_dispute.currency),
    'status', p_dispute.status, 'reason', p_dispute.reason, 'evidenceDueAt', iso_utc(p_dispute.evidence_due_at),
    'openedAt', iso_utc(p_dispute.created_at), 'closedAt', iso_utc(p_dispute.closed_at))
$$;

-- What the functions of disputes answer: DisputeResult of src/contracts/workflows/dispute.ts. 0.1 reads deliveries.
CREATE OR REPLACE FUNCTION dispute_result(p_dispute disputes, p_outcome text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('outcome', p_outcome, 'status', p_dispute.status, 'userId', p_dispute.user_id,
    'evidenceDueAt', CASE p_dispute.status WHEN 'opened' THEN iso_utc(p_dispute.evidence_due_at) END,
    'correlationId', p_dispute.correlation_id, 'deliveries', '[]'::jsonb)
$$;

-- What a status that a provider reports does to a dispute that is in another one (or not known: NULL).
CREATE OR REPLACE FUNCTION dispute_transition(p_from text, p_to text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
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

-- The dispute of an id, with its order locked before it. NULL when there is none.
CREATE OR REPLACE FUNCTION lock_dispute(p_id text) RETURNS disputes LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes;
BEGIN
  PERFORM require_serializable();
  PERFORM FROM orders WHERE id = (SELECT order_id FROM disputes WHERE id = p_id) FOR UPDATE;
  SELECT * INTO v_dispute FROM disputes WHERE id = p_id FOR UPDATE;
  RETURN v_dispute;
END $$;

-- Opens a dispute and holds its money. Evidence is due when the provider says (evidenceDueBy), otherwise evidenceDueMs from
-- now. Normally the money comes out of the order's revenue, as far as the order has some left (the rest was refunded or is
-- disputed already). When the provider's payment had gone to the user's account, that account covers it, if it can, and
-- never more than the collection had brought it: what other disputes of the order took, and did not give back, is gone.
-- What nobody covers is booked as a loss until the dispute is won.
-- The dispute is written before its money moves: two chargebacks that name one dispute and different orders lock different
-- rows, so that the second waits here for the first, is told of a conflict (serialization_failure), and finds the dispute
-- of the other order.
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
  PERFORM announce_event(v_dispute.opening_event_id, p_order.tenant_id, 'dispute.opened', 'dispute', v_dispute.id,
    dispute_data(v_dispute), v_correlation);
  RETURN v_dispute;
END $$;

-- Puts a dispute under review: its evidence was submitted, or the provider says so.
CREATE OR REPLACE FUNCTION review_dispute(p_dispute disputes, p_actor text, p_correlation text) RETURNS disputes LANGUAGE plpgsql AS $$
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

-- Ends a dispute (p_status won, lost or expired): won gives the held money back to where it came from, in the same parts;
-- lost and expired hand it to the provider, and what the order had covered is charged back.
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
  PERFORM announce_event(v_dispute.closing_event_id, v_dispute.tenant_id, 'dispute.' || p_status, 'dispute', v_dispute.id,
    dispute_data(v_dispute), p_correlation);
  IF p_status <> 'won' AND v_dispute.account_id IS NULL THEN
    PERFORM announce_event(v_dispute.closing_event_id || '_order', v_dispute.tenant_id, 'order.charged_back', 'order',
      v_order.id::text, order_data(v_order) || jsonb_build_object('disputeId', v_dispute.id,
        'disputeAmount', format_minor(v_dispute.amount_minor, v_dispute.currency),
        'chargedBackTotal', format_minor(v_order.charged_back_minor, v_order.currency)), p_correlation);
  END IF;
  RETURN v_dispute;
END $$;

-- Applies one chargeback webhook. p is DisputeEvent of src/contracts/workflows/dispute.ts (without its source) and evidenceDueMs.
-- A dispute whose first event is not `opened` is still opened, and then brought to what the event says. Idempotent
-- by (provider, providerEventId), as settle_provider_event. Refused events leave only an audit row.
CREATE OR REPLACE FUNCTION settle_dispute_event(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
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
    WHEN v_dispute.order_id <> v_order.id OR v_dispute.provider <> p->>'provider' THEN 'dispute_mismatch'
    WHEN v_order.currency <> p->>'currency' OR v_amount > v_order.amount_minor OR v_amount <> v_dispute.amount_minor
      THEN 'amount_mismatch' END;
  IF v_outcome IS NOT NULL THEN
    -- Of another order's or provider's dispute nobody must learn anything but the refusal.
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

-- Expires a dispute whose evidence was due. p: disputeId. Before its time, or when it is not waiting for evidence any more,
-- nothing changes. Idempotent.
CREATE OR REPLACE FUNCTION expire_dispute(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_dispute disputes := lock_dispute(p->>'disputeId');
BEGIN
  IF v_dispute.id IS NULL THEN RETURN dispute_result(NULL, 'unknown_dispute'); END IF;
  IF v_dispute.status <> 'opened' OR v_dispute.evidence_due_at > clock_timestamp() THEN
    RETURN dispute_result(v_dispute, CASE v_dispute.status WHEN 'expired' THEN 'duplicate' ELSE 'noted' END);
  END IF;
  v_dispute := close_dispute(v_dispute, 'expired', 'system:expiry', v_dispute.correlation_id);
  RETURN dispute_result(v_dispute, 'applied');
END $$;

-- Submits evidence, once per dispute and only until it is due, also when the provider reviews the dispute already.
-- p: disputeId, hash, evidence, actor, correlationId. Returns ok, duplicate (the same evidence again: idempotent by hash),
-- already_submitted, too_late or unknown_dispute.
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
