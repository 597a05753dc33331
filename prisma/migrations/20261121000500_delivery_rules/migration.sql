-- Delivery rules: the health of subscriptions, slowing down, pacing, order, deliveries that are held or sent again, replays.

-- ---------------------------------------------------------------------------------------------- tables

-- active and failing get events; paused, disabled and deleted get none. exhausted_since: the first exhausted delivery
-- since the last success. throttled_until: the subscriber asked for patience or does not answer; no attempt before then.
-- missed_since: since when a paused or disabled subscription has been missing events.
ALTER TABLE subscriptions
  DROP CONSTRAINT subscriptions_state_check,
  ADD CONSTRAINT subscriptions_state_check CHECK (state IN ('active', 'failing', 'paused', 'disabled', 'deleted')),
  ADD COLUMN state_reason text,
  ADD COLUMN state_changed_at timestamptz(3) NOT NULL DEFAULT now(),
  ADD COLUMN exhausted_since timestamptz(3),
  ADD COLUMN exhausted_at timestamptz(3),
  ADD COLUMN throttled_until timestamptz(3),
  ADD COLUMN throttle_level smallint NOT NULL DEFAULT 0,
  ADD COLUMN missed_since timestamptz(3);

DROP INDEX subscriptions_active_idx;
CREATE INDEX subscriptions_active_idx ON subscriptions (tenant_id) WHERE state IN ('active', 'failing');

-- held: not delivered because the subscription was paused or disabled; a resume brings it back. generation counts how
-- often a finished delivery was sent again; attempts go on counting, attempts_before is where the present one began.
ALTER TABLE deliveries
  DROP CONSTRAINT deliveries_status_check,
  ADD CONSTRAINT deliveries_status_check CHECK (status IN ('pending', 'delivered', 'exhausted', 'cancelled', 'held')),
  ADD COLUMN generation integer NOT NULL DEFAULT 0,
  ADD COLUMN attempts_before integer NOT NULL DEFAULT 0,
  ADD COLUMN replay_id uuid;

-- Which delivery of an ordered subscription is next.
CREATE INDEX deliveries_pending_idx ON deliveries (subscription_id, created_at, id) WHERE status = 'pending';
CREATE INDEX deliveries_held_idx ON deliveries (subscription_id, created_at, id) WHERE status = 'held';

-- The event that an attempt gave rise to (subscription.failing and the like), so that a repeated activity finds it.
ALTER TABLE delivery_attempts ADD COLUMN emitted_event_id text;

-- When the next attempt of a subscription with a rate limit may be made, for all workers together.
CREATE TABLE subscription_pacing (
  subscription_id text PRIMARY KEY REFERENCES subscriptions,
  next_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- failed: exhausted deliveries created in the time. all: every event of the time. missed: events of the time that the
-- subscription never got, and deliveries that were held. event_types empty: every type.
CREATE TABLE replays (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  subscription_id text NOT NULL REFERENCES subscriptions,
  kind text NOT NULL CHECK (kind IN ('failed', 'all', 'missed')),
  event_types text[] NOT NULL DEFAULT '{}',
  since timestamptz(3) NOT NULL,
  until timestamptz(3) NOT NULL,
  rate_per_second integer NOT NULL CHECK (rate_per_second > 0),
  status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'paused', 'done', 'cancelled', 'stopped')),
  status_reason text,
  examined bigint NOT NULL DEFAULT 0,
  replayed bigint NOT NULL DEFAULT 0,
  reached_at timestamptz(3),
  actor text NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  finished_at timestamptz(3),
  CHECK (since <= until)
) WITH (fillfactor = 70);
CREATE INDEX replays_tenant_id_created_at_id_idx ON replays (tenant_id, created_at DESC, id DESC);

-- ---------------------------------------------------------------------------------------------- references

CREATE OR REPLACE FUNCTION matching_subscriptions(p_tenant text, p_type text, p_data jsonb)
RETURNS TABLE (subscription_id text, is_ordered boolean) LANGUAGE sql STABLE AS $$
  SELECT s.id, s.ordered FROM subscriptions s
   WHERE s.tenant_id = p_tenant AND s.state IN ('active', 'failing') AND s.event_types && event_type_patterns(p_type)
     AND (s.filter = '[]' OR filter_matches(s.filter, p_data))
$$;

-- What a delivery workflow needs to know of a delivery as it stands, also of one that is sent again.
CREATE FUNCTION delivery_ref_of(p_delivery deliveries) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT delivery_ref(p_delivery.id, p_delivery.event_id, p_delivery.subscription_id, p_delivery.event_type, s.ordered, c)
         || CASE p_delivery.generation WHEN 0 THEN '{}' ELSE jsonb_build_object(
              'generation', p_delivery.generation, 'attemptsBefore', p_delivery.attempts_before) END
    FROM subscriptions s
    LEFT JOIN event_configs c ON c.tenant_id = p_delivery.tenant_id AND c.event_type = p_delivery.event_type
   WHERE s.id = p_delivery.subscription_id
$$;

CREATE OR REPLACE FUNCTION pending_deliveries(p_event_id text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(delivery_ref_of(d)), '[]') FROM deliveries d WHERE d.event_id = p_event_id AND d.status = 'pending'
$$;

-- The delivery that may be attempted now, where deliveries keep their order: of all the subscription's, or of one type.
CREATE FUNCTION next_in_order(p_subscription text, p_type text) RETURNS deliveries LANGUAGE sql STABLE AS $$
  SELECT d FROM deliveries d
   WHERE d.subscription_id = p_subscription AND d.status = 'pending' AND (p_type IS NULL OR d.event_type = p_type)
   ORDER BY d.created_at, d.id LIMIT 1
$$;

-- ---------------------------------------------------------------------------------------------- health

-- What subscribers and other systems are told of a subscription. Nothing of its secrets or headers.
CREATE FUNCTION subscription_data(p subscriptions) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('id', p.id, 'url', p.url, 'description', p.description, 'eventTypes', p.event_types,
    'state', p.state, 'reason', p.state_reason, 'since', iso_utc(p.state_changed_at),
    'failingSince', iso_utc(p.exhausted_since))
$$;

-- Puts a subscription into a state and announces it as p_event ('subscription.' || p_event), in the caller's
-- transaction. Returns the event's id.
CREATE FUNCTION change_subscription_state(
  p_id text, p_state text, p_reason text, p_event text, p_at timestamptz, p_correlation text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_subscription subscriptions;
  v_event_id text := new_event_id();
BEGIN
  UPDATE subscriptions
     SET state = p_state, state_reason = p_reason, state_changed_at = p_at, version = version + 1, updated_at = now(),
         missed_since = CASE WHEN p_state IN ('paused', 'disabled') THEN coalesce(missed_since, p_at) END
   WHERE id = p_id RETURNING * INTO STRICT v_subscription;
  PERFORM emit_event(v_event_id, v_subscription.tenant_id, 'subscription.' || p_event, 'subscription', p_id,
    subscription_data(v_subscription), p_correlation);
  RETURN v_event_id;
END $$;

-- What an attempt says of its subscription's health. The subscription is locked only when something of it changes: at
-- full rate, a healthy one is not written to. Returns the id of the event that this gave rise to, or NULL.
-- p: as in record_delivery_attempt. A success ends all; failingAttempt failures of one delivery make it failing; after
-- pauseAfterMs of nothing but exhausted deliveries it is paused; 410 disables it; what asks for patience slows it down.
CREATE FUNCTION judge_subscription(p_delivery deliveries, p jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_at timestamptz := (p->>'at')::timestamptz;
  v_ok boolean := p->>'result' = 'delivered';
  v_slow boolean := coalesce((p->>'slowDown')::boolean, false);
  v_exhausted boolean := p->>'status' = 'exhausted';
  v_many boolean := (p->>'attempt')::integer - p_delivery.attempts_before >= (p->>'failingAttempt')::integer;
  v_pause interval := (p->>'pauseAfterMs')::bigint * interval '1 millisecond';
  s subscriptions;
  v_wait double precision;
BEGIN
  SELECT * INTO s FROM subscriptions WHERE id = p_delivery.subscription_id;
  IF s.state NOT IN ('active', 'failing') THEN RETURN NULL; END IF;
  IF v_ok AND s.state = 'active' AND s.exhausted_since IS NULL AND s.throttle_level = 0 THEN RETURN NULL; END IF;
  IF NOT v_ok AND NOT v_slow AND NOT v_exhausted AND NOT (v_many AND s.state = 'active') THEN RETURN NULL; END IF;
  SELECT * INTO s FROM subscriptions WHERE id = p_delivery.subscription_id FOR UPDATE;
  IF s.state NOT IN ('active', 'failing') THEN RETURN NULL; END IF;

  IF v_ok THEN
    UPDATE subscriptions SET exhausted_since = NULL, exhausted_at = NULL, throttled_until = NULL, throttle_level = 0
     WHERE id = s.id;
    IF s.state = 'failing' THEN
      RETURN change_subscription_state(s.id, 'active', NULL, 'recovered', v_at, p->>'correlationId');
    END IF;
    RETURN NULL;
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
    RETURN change_subscription_state(s.id, 'disabled', 'gone', 'disabled', v_at, p->>'correlationId');
  END IF;
  IF v_exhausted THEN
    -- A failure that was long ago says nothing of today: the clock begins anew.
    IF s.exhausted_since IS NULL OR s.exhausted_at < v_at - 2 * v_pause THEN s.exhausted_since := v_at; END IF;
    UPDATE subscriptions SET exhausted_since = s.exhausted_since, exhausted_at = v_at WHERE id = s.id;
    IF s.exhausted_since <= v_at - v_pause THEN
      RETURN change_subscription_state(s.id, 'paused', 'exhausted', 'paused', v_at, p->>'correlationId');
    END IF;
  END IF;
  IF s.state = 'active' AND (v_many OR v_exhausted) THEN
    RETURN change_subscription_state(s.id, 'failing', p->>'result', 'failing', v_at, p->>'correlationId');
  END IF;
  RETURN NULL;
END $$;

-- Writes an attempt, and what it means for its delivery and its subscription, once: a second record of the same attempt
-- changes nothing. p is AttemptRecord of src/domain/deliveries.ts. Returns {deliveries, next}: deliveries of the event
-- that it gave rise to, and the delivery that was waiting for this one to end.
CREATE FUNCTION record_delivery_attempt(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_id uuid := (p->>'deliveryId')::uuid;
  v_attempt integer := (p->>'attempt')::integer;
  v_delivery deliveries;
  v_event_id text;
BEGIN
  INSERT INTO delivery_attempts
    (delivery_id, attempt, started_at, duration_ms, result, status_code, error, response_body)
  VALUES (v_id, v_attempt, (p->>'startedAt')::timestamptz, (p->>'durationMs')::integer, p->>'result',
          (p->>'statusCode')::integer, p->>'error', p->>'responseBody')
  ON CONFLICT DO NOTHING;
  IF FOUND THEN
    UPDATE deliveries d
       SET attempts = greatest(d.attempts, v_attempt), last_status_code = (p->>'statusCode')::integer,
           last_error = p->>'error',
           status = CASE d.status WHEN 'pending' THEN p->>'status' ELSE d.status END,
           finished_at = CASE WHEN d.status = 'pending' AND p->>'status' <> 'pending' THEN now() ELSE d.finished_at END
     WHERE d.id = v_id RETURNING * INTO v_delivery;
    v_event_id := judge_subscription(v_delivery, p);
    IF v_event_id IS NOT NULL THEN
      UPDATE delivery_attempts SET emitted_event_id = v_event_id WHERE delivery_id = v_id AND attempt = v_attempt;
    END IF;
  END IF;
  RETURN after_attempt(v_id, (p->>'ordered')::boolean);
END $$;

-- What is to be started or woken after the last attempt of a delivery; the same however often it is asked.
CREATE FUNCTION after_attempt(p_delivery uuid, p_ordered boolean) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
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
  END IF;
  IF v_event_id IS NULL AND v_next.id IS NULL THEN RETURN NULL; END IF;
  RETURN jsonb_build_object(
    'deliveries', CASE WHEN v_event_id IS NULL THEN '[]' ELSE pending_deliveries(v_event_id) END,
    'next', CASE WHEN v_next.id IS NOT NULL THEN delivery_ref_of(v_next) END);
END $$;

-- Reserves the next place in a subscription's rate. Returns the milliseconds until it. A place that nobody comes for is
-- lost; no two attempts of any workers get the same.
CREATE FUNCTION reserve_place(p_subscription text, p_per_second integer) RETURNS double precision LANGUAGE sql AS $$
  INSERT INTO subscription_pacing AS s (subscription_id, next_at)
  VALUES (p_subscription, clock_timestamp() + interval '1 second' / p_per_second)
  ON CONFLICT (subscription_id) DO UPDATE
    SET next_at = greatest(s.next_at, clock_timestamp()) + interval '1 second' / p_per_second
  RETURNING greatest(0, extract(epoch FROM next_at - clock_timestamp()) * 1000 - 1000.0 / p_per_second)
$$;

-- ---------------------------------------------------------------------------------------------- sent again

-- Opens finished deliveries anew, each under the next generation; those that are pending stay as they are.
CREATE FUNCTION reopen_deliveries(p_ids uuid[], p_replay uuid) RETURNS void LANGUAGE sql AS $$
  UPDATE deliveries
     SET status = 'pending', finished_at = NULL, generation = generation + 1, attempts_before = attempts,
         replay_id = p_replay
   WHERE id = ANY(p_ids) AND status <> 'pending'
$$;

-- One step of a replay: at most p_limit rows after the position (p_at, p_after), in order of time. Returns {deliveries,
-- at, after, examined, done, stopped}. Repeating a step opens nothing twice and hands back what is still pending.
CREATE FUNCTION replay_step(p_replay uuid, p_at timestamptz, p_after text, p_limit integer) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
  r replays;
  v_state text;
  v_ids uuid[];
  v_at timestamptz;
  v_last text;
  v_count integer;
BEGIN
  SELECT * INTO STRICT r FROM replays WHERE id = p_replay;
  SELECT state INTO v_state FROM subscriptions WHERE id = r.subscription_id;
  IF v_state NOT IN ('active', 'failing') THEN
    RETURN jsonb_build_object('deliveries', '[]'::jsonb, 'at', p_at, 'after', p_after, 'examined', 0, 'done', true,
      'stopped', 'the subscription is ' || v_state);
  END IF;

  IF r.kind = 'failed' THEN
    -- Rows are never visited twice, so that what fails again meanwhile is not sent a second time.
    SELECT array_agg(id), count(*), (array_agg(created_at ORDER BY created_at DESC, id DESC))[1],
           (array_agg(id::text ORDER BY created_at DESC, id DESC))[1]
      INTO v_ids, v_count, v_at, v_last
      FROM (SELECT d.id, d.created_at FROM deliveries d
             WHERE d.subscription_id = r.subscription_id
               AND d.created_at >= r.since AND d.created_at <= r.until
               AND (p_after = '' OR (d.created_at, d.id) > (p_at, nullif(p_after, '')::uuid))
               AND (d.status = 'exhausted' AND d.replay_id IS DISTINCT FROM r.id
                    OR d.status = 'pending' AND d.replay_id = r.id)
               AND (r.event_types = '{}' OR r.event_types && event_type_patterns(d.event_type))
             ORDER BY d.created_at, d.id LIMIT p_limit) AS page;
  ELSE
    WITH page AS MATERIALIZED (
      SELECT e.id, e.type, e.created_at, e.body, e.only_subscription_id FROM webhook_events e
       WHERE e.tenant_id = r.tenant_id AND e.created_at >= r.since AND e.created_at <= r.until
         AND (p_after = '' OR (e.created_at, e.id) > (p_at, p_after))
       ORDER BY e.created_at, e.id LIMIT p_limit),
    wanted AS (
      SELECT p.* FROM page p JOIN subscriptions s ON s.id = r.subscription_id
       WHERE coalesce(p.only_subscription_id = s.id,
               s.event_types && event_type_patterns(p.type)
               AND (s.filter = '[]' OR filter_matches(s.filter, p.body::jsonb->'data'))
               AND coalesce((SELECT c.enabled FROM event_configs c
                              WHERE c.tenant_id = r.tenant_id AND c.event_type = p.type), true))
         AND (r.event_types = '{}' OR r.event_types && event_type_patterns(p.type))),
    -- In the order of the events, and after what is there already: this is the order of an ordered subscription.
    written AS (
      INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, replay_id, created_at)
      SELECT r.tenant_id, w.id, r.subscription_id, w.type, r.id, w.created_at FROM wanted w
      ON CONFLICT DO NOTHING RETURNING id),
    known AS (
      SELECT d.id FROM wanted w JOIN deliveries d ON d.event_id = w.id AND d.subscription_id = r.subscription_id
       WHERE CASE WHEN d.replay_id IS NOT DISTINCT FROM r.id THEN d.status = 'pending'
                  WHEN r.kind = 'missed' THEN d.status = 'held'
                  ELSE d.status <> 'pending' END)
    SELECT (SELECT array_agg(id) FROM (SELECT id FROM written UNION SELECT id FROM known) AS chosen),
           (SELECT count(*) FROM page),
           (SELECT created_at FROM page ORDER BY created_at DESC, id DESC LIMIT 1),
           (SELECT id FROM page ORDER BY created_at DESC, id DESC LIMIT 1)
      INTO v_ids, v_count, v_at, v_last;
  END IF;

  PERFORM reopen_deliveries(v_ids, r.id);
  RETURN jsonb_build_object(
    'deliveries', coalesce((SELECT jsonb_agg(delivery_ref_of(d) ORDER BY d.created_at, d.id) FROM deliveries d
                             WHERE d.id = ANY(v_ids) AND d.status = 'pending'), '[]'),
    'at', coalesce(v_at, p_at), 'after', coalesce(v_last, p_after), 'examined', v_count, 'done', v_count < p_limit,
    'stopped', NULL);
END $$;

-- ---------------------------------------------------------------------------------------------- operators

-- An operator pauses or resumes a subscription; the event goes the way of published ones (outbox, event workflow),
-- because no workflow is there to start its deliveries. Returns {outcome, missedSince}: 'ok', 'missing', or the state
-- in which this can't be done. missedSince: from when on a resumed one has missed something.
CREATE FUNCTION operate_subscription(
  p_tenant text, p_id text, p_action text, p_actor text, p_correlation text
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  s subscriptions;
  v_before text;
  v_missed timestamptz;
  v_event_id text := new_event_id();
  v_type text := 'subscription.' || CASE p_action WHEN 'pause' THEN 'paused' ELSE 'recovered' END;
  v_body jsonb;
BEGIN
  SELECT * INTO s FROM subscriptions WHERE id = p_id AND tenant_id = p_tenant AND state <> 'deleted' FOR UPDATE;
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'missing'); END IF;
  IF (s.state IN ('active', 'failing')) <> (p_action = 'pause') THEN
    RETURN jsonb_build_object('outcome', s.state);
  END IF;
  v_before := s.state;
  SELECT least(s.missed_since, min(e.created_at)) INTO v_missed
    FROM deliveries d JOIN webhook_events e ON e.id = d.event_id
   WHERE d.subscription_id = p_id AND d.status = 'held';
  UPDATE subscriptions
     SET state = CASE p_action WHEN 'pause' THEN 'paused' ELSE 'active' END,
         state_reason = CASE p_action WHEN 'pause' THEN 'operator' END,
         state_changed_at = clock_timestamp(), version = version + 1, updated_at = now(),
         missed_since = CASE p_action WHEN 'pause' THEN clock_timestamp() END,
         exhausted_since = NULL, exhausted_at = NULL, throttled_until = NULL, throttle_level = 0
   WHERE id = p_id RETURNING * INTO s;
  INSERT INTO audit_log (tenant_id, actor, action, cause, correlation_id, details)
  VALUES (p_tenant, p_actor, 'subscription.' || p_action, 'subscription:' || p_id, p_correlation,
          jsonb_build_object('before', jsonb_build_object('state', v_before), 'after', jsonb_build_object('state', s.state)));
  v_body := jsonb_build_object('type', v_type, 'timestamp', iso_utc(clock_timestamp()), 'data', subscription_data(s));
  INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id, fanned_out_at)
  VALUES (v_event_id, p_tenant, v_type, v_body::text, p_correlation, NULL);
  INSERT INTO outbox (topic, key, value, headers)
  VALUES ('events', v_event_id,
          (jsonb_build_object('id', v_event_id, 'tenantId', p_tenant, 'clientId', NULL) || v_body)::text,
          jsonb_build_object('remit-correlation-id', coalesce(p_correlation, '')));
  RETURN jsonb_build_object('outcome', 'ok', 'missedSince', iso_utc(v_missed));
END $$;
