-- The money functions: every movement is one call, one round trip, one SERIALIZABLE transaction. They lock in one
-- order (payment or order row first, then accounts by id), answer business refusals as results, and raise only for
-- defects and conflicts. They read no index that concurrent movements insert into: under SERIALIZABLE such a read is
-- a conflict with every one of them.

CREATE FUNCTION iso_utc(p_at timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- Minor units as a decimal string in major units: 10000 TRY is 100.00.
CREATE FUNCTION format_minor(p_minor bigint, p_currency text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_exponent integer;
  v_digits text := abs(p_minor)::text;
BEGIN
  SELECT exponent INTO STRICT v_exponent FROM currencies WHERE code = p_currency;
  v_digits := lpad(v_digits, greatest(length(v_digits), v_exponent + 1), '0');
  RETURN CASE WHEN p_minor < 0 THEN '-' ELSE '' END
    || left(v_digits, length(v_digits) - v_exponent)
    || CASE WHEN v_exponent > 0 THEN '.' || right(v_digits, v_exponent) ELSE '' END;
END $$;

CREATE FUNCTION require_serializable() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'serializable' THEN
    RAISE EXCEPTION 'money moves only in a SERIALIZABLE transaction, this one is %', current_setting('transaction_isolation')
      USING ERRCODE = 'invalid_transaction_state';
  END IF;
END $$;

-- One side of a movement. amount_minor changes the balance (0 for none), hold_minor the held amount.
CREATE TYPE ledger_line AS (account_id uuid, system_account text, amount_minor bigint, hold_minor bigint);

-- Moves money: locks the accounts in id order, checks funds, writes balances, journal, entries and audit.
-- Returns 'ok', 'insufficient_funds', 'account_missing' or 'currency_mismatch'; unless 'ok', nothing was written.
-- p_reference is unique for ever: the same movement can't be written twice.
CREATE FUNCTION ledger_post(
  p_tenant text, p_kind text, p_reference text, p_currency text, p_lines ledger_line[], p_actor text, p_correlation text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_line record;
  v_account accounts;
  v_ids uuid[] := '{}';
  v_versions bigint[] := '{}';
  v_balances bigint[] := '{}';
  v_helds bigint[] := '{}';
  v_amounts bigint[] := '{}';
  v_holds bigint[] := '{}';
  v_journal bigint;
  i integer;
BEGIN
  PERFORM require_serializable();

  FOR v_line IN
    SELECT account_id, sum(amount_minor)::bigint AS amount, sum(hold_minor)::bigint AS hold
      FROM unnest(p_lines) WHERE account_id IS NOT NULL GROUP BY account_id ORDER BY account_id
  LOOP
    SELECT * INTO v_account FROM accounts WHERE id = v_line.account_id FOR UPDATE;
    IF NOT FOUND THEN RETURN 'account_missing'; END IF;
    IF v_account.currency <> p_currency THEN RETURN 'currency_mismatch'; END IF;
    -- Only what takes money away can lack funds; a credit or a release is never refused.
    IF v_line.amount - v_line.hold < 0
       AND v_account.balance_minor - v_account.held_minor + v_line.amount - v_line.hold < 0 THEN
      RETURN 'insufficient_funds';
    END IF;
    v_ids := v_ids || v_account.id;
    v_versions := v_versions || v_account.version;
    v_balances := v_balances || v_account.balance_minor;
    v_helds := v_helds || v_account.held_minor;
    v_amounts := v_amounts || v_line.amount;
    v_holds := v_holds || v_line.hold;
  END LOOP;

  FOR i IN 1 .. cardinality(v_ids) LOOP
    UPDATE accounts
       SET balance_minor = balance_minor + v_amounts[i],
           held_minor = held_minor + v_holds[i],
           version = version + 1,
           updated_at = now()
     WHERE id = v_ids[i] AND version = v_versions[i];
    IF NOT FOUND THEN
      RAISE EXCEPTION 'account % changed under its lock', v_ids[i] USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO audit_log (tenant_id, actor, action, account_id, balance_before_minor, balance_after_minor,
                           held_before_minor, held_after_minor, cause, correlation_id)
    VALUES (p_tenant, p_actor, p_kind, v_ids[i], v_balances[i], v_balances[i] + v_amounts[i],
            v_helds[i], v_helds[i] + v_holds[i], p_reference, p_correlation);
  END LOOP;

  -- A hold alone moves nothing between accounts, so it has an audit row but no journal.
  IF EXISTS (SELECT FROM unnest(p_lines) WHERE amount_minor <> 0) THEN
    INSERT INTO journal_transactions (tenant_id, kind, reference, correlation_id)
    VALUES (p_tenant, p_kind, p_reference, p_correlation) RETURNING id INTO v_journal;
    INSERT INTO ledger_entries (journal_id, account_id, system_account, currency, amount_minor, balance_after_minor)
    SELECT v_journal, l.account_id, l.system_account, p_currency, l.amount_minor,
           v_balances[array_position(v_ids, l.account_id)] + v_amounts[array_position(v_ids, l.account_id)]
      FROM unnest(p_lines) AS l WHERE l.amount_minor <> 0;
  END IF;
  RETURN 'ok';
END $$;

-- The subscriptions' patterns that match an event type: payment.succeeded → {payment.succeeded, payment.*, *}.
CREATE FUNCTION event_type_patterns(p_type text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
  SELECT ARRAY['*', p_type] || ARRAY(
    SELECT array_to_string((string_to_array(p_type, '.'))[1:n], '.') || '.*'
      FROM generate_series(1, cardinality(string_to_array(p_type, '.')) - 1) AS n)
$$;

CREATE FUNCTION new_event_id() RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT 'evt_' || replace(gen_random_uuid()::text, '-', '')
$$;

-- Announces a state change: a domain.events message in the outbox, the webhook event, and one delivery for each
-- active subscription that matches. Returns the deliveries: [DeliveryRef without scheduleMs].
CREATE FUNCTION emit_event(
  p_id text, p_tenant text, p_type text, p_aggregate text, p_aggregate_id text, p_data jsonb, p_correlation text
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_at text := iso_utc(clock_timestamp());
  v_deliveries jsonb;
BEGIN
  INSERT INTO outbox (topic, key, value, headers)
  VALUES ('domain.events', p_aggregate_id,
          jsonb_build_object('id', p_id, 'type', p_type, 'aggregate', p_aggregate, 'aggregateId', p_aggregate_id,
            'tenantId', p_tenant, 'occurredAt', v_at, 'correlationId', p_correlation, 'data', p_data)::text,
          jsonb_build_object('remit-correlation-id', coalesce(p_correlation, '')));
  INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id)
  VALUES (p_id, p_tenant, p_type,
          jsonb_build_object('type', p_type, 'timestamp', v_at, 'data', p_data)::text, p_correlation);
  WITH written AS (
    INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type)
    SELECT p_tenant, p_id, s.id, p_type FROM subscriptions s
     WHERE s.tenant_id = p_tenant AND s.state = 'active' AND s.event_types && event_type_patterns(p_type)
    RETURNING id, subscription_id)
  SELECT jsonb_agg(jsonb_build_object('deliveryId', id, 'eventId', p_id, 'subscriptionId', subscription_id,
           'eventType', p_type)) INTO v_deliveries FROM written;
  RETURN coalesce(v_deliveries, '[]');
END $$;

-- Deliveries of an event that are not finished: what a repeated activity hands back after a crash.
CREATE FUNCTION pending_deliveries(p_event_id text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object('deliveryId', id, 'eventId', event_id,
           'subscriptionId', subscription_id, 'eventType', event_type)), '[]')
    FROM deliveries WHERE event_id = p_event_id AND status = 'pending'
$$;

-- Adds money to a user's account. p: tenantId, userId, currency, amountMinor, reference, actor, correlationId.
CREATE FUNCTION top_up(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_account accounts;
  v_amount bigint := (p->>'amountMinor')::bigint;
  v_posted text;
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_account FROM accounts
   WHERE tenant_id = p->>'tenantId' AND user_id = p->>'userId' AND currency = p->>'currency';
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'account_missing'); END IF;
  v_posted := ledger_post(v_account.tenant_id, 'top_up', p->>'reference', v_account.currency,
    ARRAY[(v_account.id, NULL, v_amount, 0)::ledger_line, (NULL, 'clearing:top_up', -v_amount, 0)::ledger_line],
    p->>'actor', p->>'correlationId');
  RETURN jsonb_build_object('outcome', v_posted, 'accountId', v_account.id);
END $$;

-- What subscribers and other systems are told of a payment or payout.
CREATE FUNCTION payment_data(p_payment payments) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('id', p_payment.id, 'type', p_payment.type, 'provider', p_payment.provider,
    'userId', p_payment.user_id, 'amount', format_minor(p_payment.amount_minor, p_payment.currency),
    'currency', p_payment.currency, 'status', p_payment.status, 'failureCode', p_payment.failure_code,
    'createdAt', iso_utc(p_payment.created_at), 'settledAt', iso_utc(p_payment.settled_at))
$$;

-- Creates a payout and reserves its money. p: tenantId, provider, userId, currency, amountMinor, expiresAfterMs,
-- actor, correlationId. Without funds the payout exists all the same, failed with insufficient_funds.
CREATE FUNCTION reserve_payout(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_account accounts;
  v_payment payments;
  v_id uuid := gen_random_uuid();
  v_amount bigint := (p->>'amountMinor')::bigint;
  v_posted text;
  v_deliveries jsonb := '[]';
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_account FROM accounts
   WHERE tenant_id = p->>'tenantId' AND user_id = p->>'userId' AND currency = p->>'currency';
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'account_missing'); END IF;
  v_posted := ledger_post(v_account.tenant_id, 'payout_hold', 'payout:' || v_id || ':hold', v_account.currency,
    ARRAY[(v_account.id, NULL, 0, v_amount)::ledger_line], p->>'actor', p->>'correlationId');
  INSERT INTO payments (id, tenant_id, type, provider, account_id, user_id, amount_minor, currency, status,
                        failure_code, correlation_id, expires_at, settled_at)
  VALUES (v_id, v_account.tenant_id, 'payout', p->>'provider', v_account.id, v_account.user_id, v_amount,
          v_account.currency, CASE v_posted WHEN 'ok' THEN 'pending' ELSE 'failed' END,
          CASE v_posted WHEN 'ok' THEN NULL ELSE v_posted END, p->>'correlationId',
          now() + (p->>'expiresAfterMs')::bigint * interval '1 millisecond',
          CASE v_posted WHEN 'ok' THEN NULL ELSE now() END)
  RETURNING * INTO v_payment;
  IF v_posted = 'ok' THEN
    INSERT INTO holds (account_id, reference, amount_minor) VALUES (v_account.id, 'payout:' || v_id, v_amount);
  ELSE
    v_deliveries := emit_event(new_event_id(), v_payment.tenant_id, 'payout.failed', 'payout', v_id::text,
      payment_data(v_payment), p->>'correlationId');
  END IF;
  RETURN jsonb_build_object('outcome', v_posted, 'id', v_id, 'deliveries', v_deliveries);
END $$;

CREATE FUNCTION settle_result(p_payment payments, p_outcome text, p_deliveries jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('outcome', p_outcome, 'status', p_payment.status, 'failureCode', p_payment.failure_code,
    'userId', p_payment.user_id,
    'expiresAt', CASE p_payment.status WHEN 'pending' THEN iso_utc(p_payment.expires_at) END,
    'deliveries', p_deliveries)
$$;

-- What subscribers and other systems are told of an order.
CREATE FUNCTION order_data(p_order orders) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('id', p_order.id, 'userId', p_order.user_id,
    'amount', format_minor(p_order.amount_minor, p_order.currency), 'currency', p_order.currency,
    'description', p_order.description, 'status', p_order.status, 'failureCode', p_order.failure_code,
    'createdAt', iso_utc(p_order.created_at), 'decidedAt', iso_utc(p_order.decided_at))
$$;

CREATE FUNCTION order_result(p_order orders, p_outcome text, p_deliveries jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('outcome', p_outcome, 'status', p_order.status, 'failureCode', p_order.failure_code,
    'deliveries', coalesce(p_deliveries, '[]'))
$$;

-- Why a provider event can't belong to this payment, or NULL when it can.
CREATE FUNCTION payment_mismatch(p_payment payments, p jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_payment.provider <> p->>'provider' OR p_payment.type <> p->>'type' THEN 'type_mismatch'
    WHEN p_payment.amount_minor <> (p->>'amountMinor')::bigint OR p_payment.currency <> p->>'currency'
      THEN 'amount_mismatch'
  END
$$;

-- Records an event that changed nothing but that someone should see.
CREATE FUNCTION audit_event(p_payment payments, p jsonb, p_action text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO audit_log (tenant_id, actor, action, account_id, cause, correlation_id, details)
  VALUES (p_payment.tenant_id, 'provider:' || (p->>'provider'), p_action, p_payment.account_id,
          p_payment.type || ':' || p_payment.id, p->>'correlationId', p)
$$;

-- Moves the money of a payment or payout whose provider reports p_status; returns the ledger's answer.
CREATE FUNCTION post_settlement(p_payment payments, p_status text, p_actor text, p_correlation text)
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

-- Applies one provider event to its payment or payout, once. p is contracts/workflows.ts ProviderEvent (without its
-- source) and an optional actor. Returns SettleResult, its deliveries without scheduleMs.
-- Refused events (mismatch, conflict) leave only an audit row: an operator who redrives one has it judged anew.
CREATE FUNCTION settle_provider_event(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
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

-- Pays an order from its user's balance, exactly once. p: orderId, userId, amountMinor, currency, correlationId.
-- Returns PayOrderResult, its deliveries without scheduleMs.
CREATE FUNCTION pay_order(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_order orders;
  v_account_id uuid;
  v_posted text := 'account_missing';
  v_event_id text := new_event_id();
  v_correlation text := p->>'correlationId';
  v_deliveries jsonb;
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_order FROM orders WHERE id = (p->>'orderId')::uuid FOR UPDATE;
  IF NOT FOUND THEN
    RETURN order_result(NULL, 'unknown_order', '[]');
  END IF;
  IF v_order.user_id <> p->>'userId' OR v_order.amount_minor <> (p->>'amountMinor')::bigint
     OR v_order.currency <> p->>'currency' THEN
    INSERT INTO audit_log (tenant_id, actor, action, cause, correlation_id, details)
    VALUES (v_order.tenant_id, 'bridge', 'event_conflict', 'order:' || v_order.id, v_correlation, p);
    RETURN order_result(v_order, 'event_conflict', '[]');
  END IF;
  IF v_order.status <> 'NEW' THEN
    RETURN order_result(v_order, 'duplicate',
      (SELECT pending_deliveries(webhook_event_id) FROM payment_attempts WHERE order_id = v_order.id));
  END IF;

  SELECT id INTO v_account_id FROM accounts
   WHERE tenant_id = v_order.tenant_id AND user_id = v_order.user_id AND currency = v_order.currency;
  IF FOUND THEN
    v_posted := ledger_post(v_order.tenant_id, 'order', 'order:' || v_order.id, v_order.currency,
      ARRAY[(v_account_id, NULL, -v_order.amount_minor, 0)::ledger_line,
            (NULL, 'revenue:orders', v_order.amount_minor, 0)::ledger_line],
      'user:' || v_order.user_id, v_correlation);
  END IF;

  INSERT INTO payment_attempts (order_id, status, failure_code, amount_minor, webhook_event_id)
  VALUES (v_order.id, CASE v_posted WHEN 'ok' THEN 'succeeded' ELSE 'failed' END, nullif(v_posted, 'ok'),
          v_order.amount_minor, v_event_id);
  UPDATE orders
     SET status = CASE v_posted WHEN 'ok' THEN 'FINISHED' ELSE 'CANCELLED' END,
         failure_code = nullif(v_posted, 'ok'), decided_at = now()
   WHERE id = v_order.id RETURNING * INTO v_order;

  INSERT INTO outbox (topic, key, value, headers)
  VALUES ('payment-status', v_order.id::text,
          jsonb_build_object('event', 'payment-status', 'orderId', v_order.id, 'userId', v_order.user_id,
            'status', CASE v_posted WHEN 'ok' THEN 'SUCCESS' ELSE 'FAILED' END, 'reason', nullif(v_posted, 'ok'),
            'amount', format_minor(v_order.amount_minor, v_order.currency), 'currency', v_order.currency,
            'decidedAt', iso_utc(v_order.decided_at))::text,
          jsonb_build_object('remit-correlation-id', coalesce(v_correlation, '')));
  v_deliveries := emit_event(v_event_id, v_order.tenant_id,
    CASE v_order.status WHEN 'FINISHED' THEN 'order.finished' ELSE 'order.cancelled' END,
    'order', v_order.id::text, order_data(v_order), v_correlation);
  RETURN order_result(v_order, 'applied', v_deliveries);
END $$;
