-- Refunds: giving money of a paid order back to its user's balance.

-- What refund_order answers. 0.1 reads deliveries.
CREATE OR REPLACE FUNCTION refund_result(p_order orders, p_refund refunds, p_outcome text)
RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('outcome', p_outcome, 'refundId', p_refund.id, 'currency', p_order.currency,
    'refundableMinor', order_left(p_order)::text, 'deliveries', '[]'::jsonb)
$$;

-- Gives money of a paid order back to its user's balance. p: refundId, tenantId, orderId, amountMinor (absent: all that is
-- left), reason, actor, correlationId. Returns ok, duplicate, unknown_order, not_paid or exceeds. Idempotent by refundId.
-- The account is locked before the refund refers to it: the check of that reference takes a lock which two refunds of one
-- user could not both raise.
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
  IF NOT FOUND THEN RETURN refund_result(NULL, NULL, 'unknown_order'); END IF;
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
      RETURN refund_result(v_order, v_refund, 'duplicate');
    END IF;
    RETURN refund_result(v_order, NULL,
      CASE WHEN v_order.status IN ('FINISHED', 'CHARGED_BACK') THEN 'exceeds' ELSE 'not_paid' END);
  END IF;
  PERFORM ledger_must_post(v_order.tenant_id, 'refund', 'refund:' || v_refund.id, v_order.currency,
    ARRAY[(v_account, NULL, v_amount, 0)::ledger_line, (NULL, 'revenue:orders', -v_amount, 0)::ledger_line],
    p->>'actor', p->>'correlationId');
  UPDATE orders SET refunded_minor = refunded_minor + v_amount WHERE id = v_order.id RETURNING * INTO v_order;
  PERFORM announce_event(v_refund.webhook_event_id, v_order.tenant_id, 'order.refunded', 'order', v_order.id::text,
    order_data(v_order) || jsonb_build_object('refundId', v_refund.id, 'reason', v_refund.reason,
      'refundAmount', format_minor(v_amount, v_order.currency),
      'refundedTotal', format_minor(v_order.refunded_minor, v_order.currency)),
    p->>'correlationId');
  RETURN refund_result(v_order, v_refund, 'ok');
END $$;
