-- Subscriptions: their health as attempts judge it, and what operators do with them.

-- What subscribers and other systems are told of a subscription. Nothing of its secrets or headers.
CREATE OR REPLACE FUNCTION subscription_data(p subscriptions) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('id', p.id, 'url', p.url, 'description', p.description, 'eventTypes', p.event_types,
    'state', p.state, 'reason', p.state_reason, 'since', iso_utc(p.state_changed_at),
    'failingSince', iso_utc(p.exhausted_since))
$$;

-- From when on a subscription misses events that stops at p_at: those that were published before and wait for their
-- fan-out will not find it any more. One that has waited for a day waits for something else.
CREATE OR REPLACE FUNCTION missed_from(p_tenant text, p_at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT least(p_at, (SELECT min(created_at) FROM webhook_events
                       WHERE tenant_id = p_tenant AND fanned_out_at IS NULL AND created_at > p_at - interval '1 day'))
$$;

-- Puts a subscription into a state and announces it as p_event ('subscription.' || p_event), in the caller's
-- transaction. Raises no_data_found for an unknown subscription. Not idempotent.
CREATE OR REPLACE FUNCTION enter_subscription_state(
  p_id text, p_state text, p_reason text, p_event text, p_at timestamptz, p_correlation text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_subscription subscriptions;
BEGIN
  UPDATE subscriptions
     SET state = p_state, state_reason = p_reason, state_changed_at = p_at, version = version + 1, updated_at = now(),
         missed_since = CASE WHEN p_state IN ('paused', 'disabled')
                             THEN coalesce(missed_since, missed_from(tenant_id, p_at)) END
   WHERE id = p_id RETURNING * INTO STRICT v_subscription;
  PERFORM announce_event(new_event_id(), v_subscription.tenant_id, 'subscription.' || p_event, 'subscription', p_id,
    subscription_data(v_subscription), p_correlation);
END $$;

-- What an attempt says of its subscription's health. The subscription is locked only when something of it changes: at
-- full rate, a healthy one is not written to.
-- p: as in record_delivery_attempt. A success ends all; failingAttempt failures of one delivery make it failing; after
-- pauseAfterMs of nothing but exhausted deliveries it is paused; 410 disables it; what asks to wait slows it down.
-- An attempt that its delivery did not wait for (p.overtaken: it was cancelled, or is being sent again) tells of the subscriber what an
-- answer tells whatever it was asked: that it is well, overloaded or gone. What is counted over the course of one delivery, failures
-- and exhaustion, it is no part of. An answer from an address that is not the subscription's any more tells nothing.
-- Not idempotent: record_delivery_attempt calls it once per attempt.
CREATE OR REPLACE FUNCTION judge_subscription_health(p_delivery deliveries, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_at timestamptz := (p->>'at')::timestamptz;
  v_ok boolean := p->>'result' = 'delivered';
  v_slow boolean := coalesce((p->>'slowDown')::boolean, false);
  v_counts boolean := NOT coalesce((p->>'overtaken')::boolean, false);
  v_exhausted boolean := v_counts AND p->>'status' = 'exhausted';
  v_many boolean := v_counts AND (p->>'attempt')::integer - p_delivery.attempts_before >= (p->>'failingAttempt')::integer;
  v_pause interval := (p->>'pauseAfterMs')::bigint * interval '1 millisecond';
  s subscriptions;
  v_wait double precision;
BEGIN
  SELECT * INTO s FROM subscriptions WHERE id = p_delivery.subscription_id;
  IF s.state NOT IN ('active', 'failing') THEN RETURN; END IF;
  IF v_ok AND s.state = 'active' AND s.exhausted_since IS NULL AND s.throttle_level = 0 THEN RETURN; END IF;
  IF NOT v_ok AND NOT v_slow AND NOT v_exhausted AND NOT (p->>'gone')::boolean AND NOT (v_many AND s.state = 'active') THEN
    RETURN;
  END IF;
  SELECT * INTO s FROM subscriptions WHERE id = p_delivery.subscription_id FOR NO KEY UPDATE;
  IF s.state NOT IN ('active', 'failing') OR p->>'url' <> s.url THEN RETURN; END IF;

  IF v_ok THEN
    UPDATE subscriptions SET exhausted_since = NULL, exhausted_at = NULL, throttled_until = NULL, throttle_level = 0
     WHERE id = s.id;
    IF s.state = 'failing' THEN
      PERFORM enter_subscription_state(s.id, 'active', NULL, 'recovered', v_at, p->>'correlationId');
    END IF;
    RETURN;
  END IF;

  -- Attempts that were under way when it was slowed down do not slow it down further.
  IF v_slow AND (s.throttled_until IS NULL OR s.throttled_until <= (p->>'startedAt')::timestamptz) THEN
    v_wait := least((p->>'throttleBaseMs')::bigint * 2 ^ least(s.throttle_level, 20), (p->>'throttleCapMs')::bigint);
    UPDATE subscriptions
       SET throttle_level = least(s.throttle_level + 1, 20),
           throttled_until = v_at + greatest(v_wait, coalesce((p->>'retryAfterMs')::bigint, 0)) * interval '1 millisecond'
     WHERE id = s.id;
  END IF;

  IF (p->>'gone')::boolean THEN
    PERFORM enter_subscription_state(s.id, 'disabled', 'gone', 'disabled', v_at, p->>'correlationId');
    RETURN;
  END IF;
  IF v_exhausted THEN
    -- A failure that was long ago says nothing of today: the clock starts again.
    IF s.exhausted_since IS NULL OR s.exhausted_at < v_at - 2 * v_pause THEN s.exhausted_since := v_at; END IF;
    UPDATE subscriptions SET exhausted_since = s.exhausted_since, exhausted_at = v_at WHERE id = s.id;
    IF s.exhausted_since <= v_at - v_pause THEN
      PERFORM enter_subscription_state(s.id, 'paused', 'exhausted', 'paused', v_at, p->>'correlationId');
      RETURN;
    END IF;
  END IF;
  IF s.state = 'active' AND (v_many OR v_exhausted) THEN
    PERFORM enter_subscription_state(s.id, 'failing', p->>'result', 'failing', v_at, p->>'correlationId');
  END IF;
END $$;

-- An operator pauses or resumes a subscription (p_action: pause, resume). Its event is a domain event and, under the same
-- id, takes the path of published ones (outbox, topic events), as every event. A
-- resume with p_replay writes the replay of what was missed in the same transaction, and gives back the places in the
-- rate. Idempotent under p_replay: repeated, it returns that replay and changes nothing. Returns {outcome, missedSince,
-- replayId}: 'ok', 'missing', 'too_many' (replays; nothing is changed), or the state in which this can't be done.
-- missedSince: from when on a resumed one has missed something.
CREATE OR REPLACE FUNCTION operate_subscription(
  p_tenant text, p_id text, p_action text, p_actor text, p_correlation text,
  p_replay uuid DEFAULT NULL, p_rate integer DEFAULT NULL, p_max_running integer DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  s subscriptions;
  r replays;
  v_before text;
  v_missed timestamptz;
  v_waits timestamptz;
  v_event_id text := new_event_id();
  v_type text := 'subscription.' || CASE p_action WHEN 'pause' THEN 'paused' ELSE 'recovered' END;
  v_at text;
  v_data jsonb;
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
  -- What waited for its next attempt is tried now too.
  SELECT min(e.created_at) INTO v_waits
    FROM deliveries d JOIN webhook_events e ON e.id = d.event_id
   WHERE d.subscription_id = p_id AND d.status = 'pending';

  IF p_action = 'resume' AND p_replay IS NOT NULL AND v_missed IS NOT NULL THEN
    IF (SELECT count(*) FROM replays WHERE tenant_id = p_tenant AND status IN ('running', 'paused')) >= p_max_running THEN
      RETURN jsonb_build_object('outcome', 'too_many');
    END IF;
    -- Some earlier: an event's time is that of the beginning of its transaction, which may have ended after the pause.
    INSERT INTO replays (id, tenant_id, subscription_id, kind, since, until, rate_per_second, actor)
    VALUES (p_replay, p_tenant, p_id, 'missed', least(v_missed, v_waits, greatest(s.created_at, v_missed - interval '1 minute')),
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
  -- The places that were reserved in its rate are for attempts that did not come: it starts again.
  DELETE FROM subscription_pacing WHERE subscription_id = p_id AND p_action = 'resume';
  PERFORM audit_note(p_tenant, p_actor,
    CASE p_action WHEN 'pause' THEN 'subscription.paused' ELSE 'subscription.resumed' END, 'subscription:' || p_id,
    p_correlation,
    jsonb_build_object('before', jsonb_build_object('state', v_before),
      'after', jsonb_strip_nulls(jsonb_build_object('state', s.state, 'replayId', r.id))));
  v_at := iso_utc(clock_timestamp());
  v_data := subscription_data(s);
  INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id, fanned_out_at)
  VALUES (v_event_id, p_tenant, webhook_type(v_type),
          jsonb_build_object('type', webhook_type(v_type), 'timestamp', v_at, 'data', v_data)::text, p_correlation, NULL);
  PERFORM request_fan_out(v_event_id, p_tenant, v_type, v_at, v_data, p_correlation);
  PERFORM domain_event(v_event_id, p_tenant, v_type, v_at, 'subscription', p_id, v_data, p_correlation);
  RETURN jsonb_build_object('outcome', 'ok', 'missedSince', iso_utc(v_missed), 'replayId', r.id);
END $$;
