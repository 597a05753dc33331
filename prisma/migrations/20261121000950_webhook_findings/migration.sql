-- Webhooks: whom the end of a delivery wakes, deliveries that were sent again while Temporal was away, rotations that are
-- repeated, places in a rate that are given back, and what operators do as domain events.

-- ---------------------------------------------------------------------------------------------- order

-- As before, but nobody is woken that was not waiting for this one: what is older than a delivery never waits for it. A
-- wake ends any pause, so that the end of one in the queue would use up the schedule of the one at its head.
CREATE OR REPLACE FUNCTION after_attempt(p_delivery uuid, p_ordered boolean) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_delivery deliveries;
  v_next deliveries;
  v_event_id text;
BEGIN
  SELECT * INTO v_delivery FROM deliveries WHERE id = p_delivery;
  SELECT emitted_event_id INTO v_event_id FROM delivery_attempts
   WHERE delivery_id = p_delivery AND attempt = v_delivery.attempts;
  IF p_ordered AND v_delivery.status <> 'pending' THEN
    v_next := next_in_order(v_delivery.subscription_id,
      CASE WHEN (SELECT ordered FROM subscriptions WHERE id = v_delivery.subscription_id) THEN NULL
           ELSE v_delivery.event_type END);
    IF (v_next.created_at, v_next.id) < (v_delivery.created_at, v_delivery.id) THEN v_next := NULL; END IF;
  END IF;
  IF v_event_id IS NULL AND v_next.id IS NULL THEN RETURN NULL; END IF;
  RETURN jsonb_build_object(
    'deliveries', CASE WHEN v_event_id IS NULL THEN '[]' ELSE pending_deliveries(v_event_id) END,
    'next', CASE WHEN v_next.id IS NOT NULL THEN delivery_ref_of(v_next) END);
END $$;

-- ---------------------------------------------------------------------------------------------- sent again

-- Since when a delivery that was opened anew by hand waits for its workflow to be started; NULL once it is. What a replay
-- opens is started by the replay's workflow.
ALTER TABLE deliveries ADD COLUMN to_start_since timestamptz(3);
CREATE INDEX deliveries_to_start_idx ON deliveries (to_start_since, id) WHERE to_start_since IS NOT NULL;

CREATE OR REPLACE FUNCTION reopen_deliveries(p_ids uuid[], p_replay uuid) RETURNS void LANGUAGE sql AS $$
  UPDATE deliveries
     SET status = 'pending', finished_at = NULL, generation = generation + 1, attempts_before = attempts,
         replay_id = p_replay, to_start_since = CASE WHEN p_replay IS NULL THEN clock_timestamp() END
   WHERE id = ANY(p_ids) AND status <> 'pending'
$$;

-- ---------------------------------------------------------------------------------------------- rotations

-- The operation that made the present secret: repeated, it hands the secret back and makes no other.
ALTER TABLE subscriptions ADD COLUMN secret_operation_id uuid;

-- ---------------------------------------------------------------------------------------------- operators

-- As before; its event is a domain event too, under the same id, and a resume gives back the places in the rate.
CREATE OR REPLACE FUNCTION operate_subscription(
  p_tenant text, p_id text, p_action text, p_actor text, p_correlation text,
  p_replay uuid DEFAULT NULL, p_rate integer DEFAULT NULL, p_max_running integer DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  s subscriptions;
  r replays;
  v_before text;
  v_missed timestamptz;
  v_event_id text := new_event_id();
  v_type text := 'subscription.' || CASE p_action WHEN 'pause' THEN 'paused' ELSE 'recovered' END;
  v_at text;
  v_data jsonb;
  v_body jsonb;
BEGIN
  -- Two new replays at once would both find the last free place.
  IF p_replay IS NOT NULL THEN
    PERFORM pg_advisory_xact_lock(hashtextextended('replays:' || p_tenant, 0));
  END IF;
  SELECT * INTO s FROM subscriptions WHERE id = p_id AND tenant_id = p_tenant AND state <> 'deleted' FOR UPDATE;
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'missing'); END IF;
  SELECT * INTO r FROM replays WHERE id = p_replay AND tenant_id = p_tenant AND subscription_id = p_id;
  IF FOUND THEN
    RETURN jsonb_build_object('outcome', 'ok', 'missedSince', iso_utc(r.since), 'replayId', r.id);
  END IF;
  IF (s.state IN ('active', 'failing')) <> (p_action = 'pause') THEN
    RETURN jsonb_build_object('outcome', s.state);
  END IF;
  v_before := s.state;
  SELECT least(s.missed_since, min(e.created_at)) INTO v_missed
    FROM deliveries d JOIN webhook_events e ON e.id = d.event_id
   WHERE d.subscription_id = p_id AND d.status = 'held';

  IF p_action = 'resume' AND p_replay IS NOT NULL AND v_missed IS NOT NULL THEN
    IF (SELECT count(*) FROM replays WHERE tenant_id = p_tenant AND status IN ('running', 'paused')) >= p_max_running THEN
      RETURN jsonb_build_object('outcome', 'too_many');
    END IF;
    -- Some earlier: an event's time is that of the beginning of its transaction, which may have ended after the pause.
    INSERT INTO replays (id, tenant_id, subscription_id, kind, since, until, rate_per_second, actor)
    VALUES (p_replay, p_tenant, p_id, 'missed', least(v_missed, greatest(s.created_at, v_missed - interval '1 minute')),
            clock_timestamp(), p_rate, p_actor)
    RETURNING * INTO r;
  END IF;

  UPDATE subscriptions
     SET state = CASE p_action WHEN 'pause' THEN 'paused' ELSE 'active' END,
         state_reason = CASE p_action WHEN 'pause' THEN 'operator' END,
         state_changed_at = clock_timestamp(), version = version + 1, updated_at = now(),
         missed_since = CASE p_action WHEN 'pause' THEN missed_from(p_tenant, clock_timestamp()) END,
         exhausted_since = NULL, exhausted_at = NULL, throttled_until = NULL, throttle_level = 0
   WHERE id = p_id RETURNING * INTO s;
  -- The places that were reserved in its rate are for attempts that did not come: it begins anew.
  DELETE FROM subscription_pacing WHERE subscription_id = p_id AND p_action = 'resume';
  INSERT INTO audit_log (tenant_id, actor, action, cause, correlation_id, details)
  VALUES (p_tenant, p_actor, CASE p_action WHEN 'pause' THEN 'subscription.paused' ELSE 'subscription.resumed' END,
          'subscription:' || p_id, p_correlation,
          jsonb_build_object('before', jsonb_build_object('state', v_before),
            'after', jsonb_strip_nulls(jsonb_build_object('state', s.state, 'replayId', r.id))));
  v_at := iso_utc(clock_timestamp());
  v_data := subscription_data(s);
  v_body := jsonb_build_object('type', v_type, 'timestamp', v_at, 'data', v_data);
  INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id, fanned_out_at)
  VALUES (v_event_id, p_tenant, v_type, v_body::text, p_correlation, NULL);
  INSERT INTO outbox (topic, key, value, headers)
  VALUES ('events', v_event_id,
          (jsonb_build_object('id', v_event_id, 'tenantId', p_tenant, 'clientId', NULL) || v_body)::text,
          jsonb_build_object('remit-correlation-id', coalesce(p_correlation, ''))),
         ('domain.events', p_id,
          jsonb_build_object('id', v_event_id, 'type', v_type, 'aggregate', 'subscription', 'aggregateId', p_id,
            'tenantId', p_tenant, 'occurredAt', v_at, 'correlationId', p_correlation, 'data', v_data)::text,
          jsonb_build_object('remit-correlation-id', coalesce(p_correlation, '')));
  RETURN jsonb_build_object('outcome', 'ok', 'missedSince', iso_utc(v_missed), 'replayId', r.id);
END $$;
