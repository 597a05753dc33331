-- Orders: what they are to others, paying one from its user's balance, and the end of one that its provider never paid.
-- What a provider says of an order is in order-webhooks.sql, refunds are in refunds.sql.

-- What subscribers and other systems are told of an order.
CREATE OR REPLACE FUNCTION order_data(p_order orders) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('id', p_order.id, 'userId', p_order.user_id,
    'amount', format_minor(p_order.amount_minor, p_order.currency), 'currency', p_order.currency,
    'description', p_order.description, 'paymentMethod', p_order.payment_method, 'status', p_order.status, 'failureCode', p_order.failure_code,
    'createdAt', iso_utc(p_order.created_at), 'decidedAt', iso_utc(p_order.decided_at))
$$;

-- What the functions of orders answer: PayOrderResult of src/contracts/workflows/order.ts. 0.1 reads deliveries.
CREATE OR REPLACE FUNCTION order_result(p_order orders, p_outcome text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('outcome', p_outcome, 'status', p_order.status, 'failureCode', p_order.failure_code,
    'deliveries', '[]'::jsonb)
$$;

-- What of an order's payment is still there, in minor units: not refunded, not held for a dispute, not lost in one.
CREATE OR REPLACE FUNCTION order_left(p_order orders) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_order.status IN ('FINISHED', 'CHARGED_BACK')
    THEN p_order.amount_minor - p_order.refunded_minor - p_order.disputed_minor - p_order.charged_back_minor
    ELSE 0 END
$$;

-- Decides a NEW order: FINISHED, or CANCELLED with p_failure. Its row in payment_attempts is what makes that once, whichever
-- way it is paid (orders.payment_method); the money was moved before. Announced under p_event_id. Returns what
-- order_result makes of it. Not idempotent (unique_violation).
CREATE OR REPLACE FUNCTION decide_order(
  p_order orders, p_failure text, p_event_id text, p_correlation text
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_order orders;
BEGIN
  INSERT INTO payment_attempts (order_id, status, failure_code, amount_minor, webhook_event_id, method)
  VALUES (p_order.id, CASE WHEN p_failure IS NULL THEN 'succeeded' ELSE 'failed' END, p_failure, p_order.amount_minor,
          p_event_id, p_order.payment_method);
  UPDATE orders
     SET status = CASE WHEN p_failure IS NULL THEN 'FINISHED' ELSE 'CANCELLED' END, failure_code = p_failure,
         collected_as = CASE WHEN p_failure IS NULL AND payment_method = 'provider' THEN 'order' ELSE collected_as END,
         decided_at = now()
   WHERE id = p_order.id RETURNING * INTO v_order;
  PERFORM outbox_put('payment-status', v_order.id::text,
    jsonb_build_object('event', 'payment-status', 'orderId', v_order.id, 'userId', v_order.user_id,
      'paymentMethod', v_order.payment_method, 'status', CASE WHEN p_failure IS NULL THEN 'SUCCESS' ELSE 'FAILED' END, 'reason', p_failure,
      'amount', format_minor(v_order.amount_minor, v_order.currency), 'currency', v_order.currency,
      'decidedAt', iso_utc(v_order.decided_at)), p_correlation);
  PERFORM announce_event(p_event_id, v_order.tenant_id,
    CASE v_order.status WHEN 'FINISHED' THEN 'order.finished' ELSE 'order.cancelled' END,
    'order', v_order.id::text, order_data(v_order), p_correlation);
  RETURN order_result(v_order, 'applied');
END $$;

-- Pays an order from its user's balance: FINISHED, or CANCELLED without funds or account. p: orderId, userId, amountMinor,
-- currency, correlationId. Returns PayOrderResult. Idempotent: payment_attempts has one row per order, a repeated call is a
-- duplicate. An order that a provider pays is never debited (payment_method_mismatch).
CREATE OR REPLACE FUNCTION pay_order(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_order orders;
  v_account_id uuid;
  v_posted text := 'account_missing';
  v_correlation text := p->>'correlationId';
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_order FROM orders WHERE id = (p->>'orderId')::uuid FOR UPDATE;
  IF NOT FOUND THEN
    RETURN order_result(NULL, 'unknown_order');
  END IF;
  IF v_order.user_id <> p->>'userId' OR v_order.amount_minor <> (p->>'amountMinor')::bigint
     OR v_order.currency <> p->>'currency' THEN
    PERFORM audit_note(v_order.tenant_id, 'bridge', 'event_conflict', 'order:' || v_order.id, v_correlation, p);
    RETURN order_result(v_order, 'event_conflict');
  END IF;
  IF v_order.payment_method <> 'balance' THEN
    PERFORM audit_note(v_order.tenant_id, 'bridge', 'payment_method_mismatch', 'order:' || v_order.id, v_correlation, p);
    RETURN order_result(v_order, 'payment_method_mismatch');
  END IF;
  IF v_order.status <> 'NEW' THEN
    RETURN order_result(v_order, 'duplicate');
  END IF;

  SELECT id INTO v_account_id FROM accounts
   WHERE tenant_id = v_order.tenant_id AND user_id = v_order.user_id AND currency = v_order.currency;
  IF FOUND THEN
    v_posted := ledger_post(v_order.tenant_id, 'order', 'order:' || v_order.id, v_order.currency,
      ARRAY[(v_account_id, NULL, -v_order.amount_minor, 0)::ledger_line,
            (NULL, 'revenue:orders', v_order.amount_minor, 0)::ledger_line],
      'user:' || v_order.user_id, v_correlation);
  END IF;

  RETURN decide_order(v_order, nullif(v_posted, 'ok'), new_event_id(), v_correlation);
END $$;

-- Cancels an order that its provider has not paid in time. p: orderId. Returns PayOrderResult: applied; before its time, or
-- when it was decided otherwise, noted. Idempotent: repeated, it is a duplicate.
CREATE OR REPLACE FUNCTION expire_order(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_order orders;
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_order FROM orders WHERE id = (p->>'orderId')::uuid FOR UPDATE;
  IF NOT FOUND THEN RETURN order_result(NULL, 'unknown_order'); END IF;
  IF v_order.status = 'NEW' AND v_order.expires_at <= clock_timestamp() THEN
    RETURN decide_order(v_order, 'expired', new_event_id(), v_order.correlation_id);
  ELSIF v_order.failure_code = 'expired' THEN
    RETURN order_result(v_order, 'duplicate');
  END IF;
  RETURN order_result(v_order, 'noted');
END $$;
