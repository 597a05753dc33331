-- Upkeep of webhooks: the end of events by age in bounded steps, a resume that can't lose its replay, and nothing missed
-- between the publication of an event and its fan-out.

-- ---------------------------------------------------------------------------------------------- the end by age

-- Examined in the order of time from a position on: with types that are kept for longer than others, a search for what
-- has expired would go through the same kept rows for every batch.
DROP FUNCTION purge_expired_events(integer, integer);

-- One step: of the next p_limit events after (p_at, p_after) that are old enough for any type, deletes those that are
-- older than their own type is kept, with deliveries and attempts. An event that is not handed out yet stays, and so
-- does one with a delivery that is still being tried. Returns {examined, purged, at, after, done}.
CREATE FUNCTION purge_events_step(p_default_days integer, p_at timestamptz, p_after text, p_limit integer) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
  v_oldest_kept timestamptz := now() - make_interval(days => least(p_default_days,
    (SELECT min(retention_days) FROM event_configs)));
  v_page text[];
  v_ids text[];
  v_at timestamptz;
  v_last text;
BEGIN
  SELECT array_agg(id ORDER BY created_at, id), (array_agg(created_at ORDER BY created_at DESC, id DESC))[1],
         (array_agg(id ORDER BY created_at DESC, id DESC))[1]
    INTO v_page, v_at, v_last
    FROM (SELECT id, created_at FROM webhook_events
           WHERE (created_at, id) > (p_at, p_after) AND created_at < v_oldest_kept
           ORDER BY created_at, id LIMIT p_limit) AS page;
  SELECT array_agg(id) INTO v_ids FROM (
    SELECT e.id FROM webhook_events e
      LEFT JOIN event_configs c ON c.tenant_id = e.tenant_id AND c.event_type = e.type
     WHERE e.id = ANY(v_page)
       AND e.created_at < now() - make_interval(days => coalesce(c.retention_days, p_default_days))
       AND e.fanned_out_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM deliveries d WHERE d.event_id = e.id AND d.status = 'pending')
     ORDER BY e.id FOR UPDATE OF e SKIP LOCKED) AS expired;
  DELETE FROM delivery_attempts USING deliveries d WHERE delivery_id = d.id AND d.event_id = ANY(v_ids);
  DELETE FROM deliveries WHERE event_id = ANY(v_ids);
  DELETE FROM webhook_events WHERE id = ANY(v_ids);
  RETURN jsonb_build_object('examined', coalesce(cardinality(v_page), 0), 'purged', coalesce(cardinality(v_ids), 0),
    'at', coalesce(v_at, p_at), 'after', coalesce(v_last, p_after), 'done', coalesce(cardinality(v_page), 0) < p_limit);
END $$;

-- ---------------------------------------------------------------------------------------------- nothing missed

-- From when on a subscription misses events that stops at p_at: those that were published before and wait for their
-- fan-out will not find it any more. One that has waited for a day waits for something else.
CREATE FUNCTION missed_from(p_tenant text, p_at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT least(p_at, (SELECT min(created_at) FROM webhook_events
                       WHERE tenant_id = p_tenant AND fanned_out_at IS NULL AND created_at > p_at - interval '1 day'))
$$;

CREATE OR REPLACE FUNCTION change_subscription_state(
  p_id text, p_state text, p_reason text, p_event text, p_at timestamptz, p_correlation text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_subscription subscriptions;
  v_event_id text := new_event_id();
BEGIN
  UPDATE subscriptions
     SET state = p_state, state_reason = p_reason, state_changed_at = p_at, version = version + 1, updated_at = now(),
         missed_since = CASE WHEN p_state IN ('paused', 'disabled')
                             THEN coalesce(missed_since, missed_from(tenant_id, p_at)) END
   WHERE id = p_id RETURNING * INTO STRICT v_subscription;
  PERFORM emit_event(v_event_id, v_subscription.tenant_id, 'subscription.' || p_event, 'subscription', p_id,
    subscription_data(v_subscription), p_correlation);
  RETURN v_event_id;
END $$;

-- ---------------------------------------------------------------------------------------------- operators

-- Replays that no workflow may have begun yet: the schedule asks for them.
CREATE INDEX replays_not_begun_idx ON replays (created_at, id) WHERE status = 'running' AND reached_at IS NULL;

DROP FUNCTION operate_subscription(text, text, text, text, text);

-- An operator pauses or resumes a subscription; the event goes the way of published ones (outbox, event workflow),
-- because no workflow is there to start its deliveries. A resume with p_replay writes the replay of what was missed in
-- the same transaction; repeated under the same id it hands back that replay and changes nothing. Returns {outcome,
-- missedSince, replayId}: 'ok', 'missing', 'too_many' (replays; nothing is changed), or the state in which this can't be
-- done. missedSince: from when on a resumed one has missed something.
CREATE FUNCTION operate_subscription(
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
  INSERT INTO audit_log (tenant_id, actor, action, cause, correlation_id, details)
  VALUES (p_tenant, p_actor, CASE p_action WHEN 'pause' THEN 'subscription.paused' ELSE 'subscription.resumed' END,
          'subscription:' || p_id, p_correlation,
          jsonb_build_object('before', jsonb_build_object('state', v_before),
            'after', jsonb_strip_nulls(jsonb_build_object('state', s.state, 'replayId', r.id))));
  v_body := jsonb_build_object('type', v_type, 'timestamp', iso_utc(clock_timestamp()), 'data', subscription_data(s));
  INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id, fanned_out_at)
  VALUES (v_event_id, p_tenant, v_type, v_body::text, p_correlation, NULL);
  INSERT INTO outbox (topic, key, value, headers)
  VALUES ('events', v_event_id,
          (jsonb_build_object('id', v_event_id, 'tenantId', p_tenant, 'clientId', NULL) || v_body)::text,
          jsonb_build_object('remit-correlation-id', coalesce(p_correlation, '')));
  RETURN jsonb_build_object('outcome', 'ok', 'missedSince', iso_utc(v_missed), 'replayId', r.id);
END $$;
