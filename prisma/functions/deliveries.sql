-- Deliveries of events to subscriptions: what their workflows are told, their attempts, opening them again, and the lanes in
-- which they wait for their subscription. next_in_order, after_attempt's p_ordered and reserve_place are what 0.1 calls.

-- What a delivery workflow needs to know of a delivery (DeliveryRef of src/contracts/workflows/delivery.ts). What the type's config
-- leaves open is left out, and the deployment's configuration holds. STABLE like what it calls, and so it is inlined.
CREATE OR REPLACE FUNCTION delivery_ref(
  p_id uuid, p_event_id text, p_subscription text, p_type text, p_ordered boolean, p_config event_configs
) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object('deliveryId', p_id, 'eventId', p_event_id, 'subscriptionId', p_subscription,
    'eventType', p_type, 'scheduleMs', to_jsonb(nullif(p_config.schedule_ms, '{}')), 'timeoutMs', p_config.timeout_ms,
    'ordered', CASE WHEN p_ordered OR p_config.ordered THEN true END))
$$;

-- The same of a delivery as it stands, also of one that is sent again, where its subscription and its type's config are at hand.
CREATE OR REPLACE FUNCTION delivery_ref_with(p_delivery deliveries, p_ordered boolean, p_config event_configs)
RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT delivery_ref(p_delivery.id, p_delivery.event_id, p_delivery.subscription_id, p_delivery.event_type, p_ordered, p_config)
         || CASE p_delivery.generation WHEN 0 THEN '{}' ELSE jsonb_build_object(
              'generation', p_delivery.generation, 'attemptsBefore', p_delivery.attempts_before) END
$$;

-- The same where they are not.
CREATE OR REPLACE FUNCTION delivery_ref_of(p_delivery deliveries) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT delivery_ref_with(p_delivery, s.ordered, c)
    FROM subscriptions s
    LEFT JOIN event_configs c ON c.tenant_id = p_delivery.tenant_id AND c.event_type = p_delivery.event_type
   WHERE s.id = p_delivery.subscription_id
$$;

-- The delivery that may be attempted now, where deliveries keep their order: of all the subscription's, or of one type.
CREATE OR REPLACE FUNCTION next_in_order(p_subscription text, p_type text) RETURNS deliveries LANGUAGE sql STABLE AS $$
  SELECT d FROM deliveries d
   WHERE d.subscription_id = p_subscription AND d.status = 'pending' AND (p_type IS NULL OR d.event_type = p_type)
   ORDER BY d.created_at, d.id LIMIT 1
$$;

-- What 0.1 asks for after an attempt: the delivery that was waiting for this one to end ({deliveries, next}), or NULL for
-- nothing. What is older than a delivery never waits for it and is not woken: a wake ends any pause, so that
-- the end of one in the queue would use up the schedule of the one at its head.
CREATE OR REPLACE FUNCTION after_attempt(p_delivery uuid, p_ordered boolean) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_delivery deliveries;
  v_next deliveries;
BEGIN
  SELECT * INTO v_delivery FROM deliveries WHERE id = p_delivery;
  IF NOT coalesce(p_ordered, false) OR v_delivery.status = 'pending' THEN RETURN NULL; END IF;
  v_next := next_in_order(v_delivery.subscription_id,
    CASE WHEN (SELECT ordered FROM subscriptions WHERE id = v_delivery.subscription_id) THEN NULL
         ELSE v_delivery.event_type END);
  IF v_next.id IS NULL OR (v_next.created_at, v_next.id) < (v_delivery.created_at, v_delivery.id) THEN RETURN NULL; END IF;
  RETURN jsonb_build_object('deliveries', '[]'::jsonb, 'next', delivery_ref_of(v_next));
END $$;

-- Writes an attempt, and what it means for its delivery and its subscription. p is AttemptRecord of
-- src/domain/attempt-records.ts. Returns {repeated} or {overtaken} or NULL, and what after_attempt returns. p without
-- generation is of a role of the version before.
-- Idempotent: two tries of one attempt can overlap, since a worker that Temporal takes for dead goes on with its own while
-- another repeats it. The first record stands; the second changes nothing, is told so (repeated: true), and uses what is
-- stored instead of its own result.
-- The delivery may have ended while the attempt was under way, or been sent again. The attempt was made, so it is a row and
-- counts among the delivery's attempts; but it decides nothing of the delivery any more, and is told so (overtaken: true).
-- What it says of the subscriber still holds (judge_subscription_health). One of a former generation takes a number that the
-- present one may have given to its own; that one gets the next.
CREATE OR REPLACE FUNCTION record_delivery_attempt(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_id uuid := (p->>'deliveryId')::uuid;
  v_attempt integer := (p->>'attempt')::integer;
  v_generation integer := (p->>'generation')::integer;
  v_nothing constant jsonb := '{"deliveries": [], "next": null}';
  v_delivery deliveries;
  v_current boolean;
BEGIN
  SELECT * INTO v_delivery FROM deliveries WHERE id = v_id FOR UPDATE;
  IF NOT FOUND THEN RETURN v_nothing || '{"repeated": true}'; END IF;
  v_current := coalesce(v_generation, v_delivery.generation) = v_delivery.generation;
  IF EXISTS (SELECT FROM delivery_attempts WHERE delivery_id = v_id AND attempt = v_attempt
                AND coalesce(generation, v_generation, 0) = coalesce(v_generation, generation, 0))
     -- Its number was another's, and it got a later one: as many of its generation are stored as it counts itself.
     OR (SELECT count(*) FROM delivery_attempts WHERE delivery_id = v_id AND generation = v_generation)
          >= v_attempt - (p->>'attemptsBefore')::integer THEN
    RETURN coalesce(after_attempt(v_id, (p->>'ordered')::boolean), v_nothing) || '{"repeated": true}';
  END IF;
  IF EXISTS (SELECT FROM delivery_attempts WHERE delivery_id = v_id AND attempt = v_attempt) THEN
    v_attempt := v_delivery.attempts + 1;
  END IF;
  INSERT INTO delivery_attempts
    (delivery_id, attempt, generation, started_at, duration_ms, result, status_code, error, response_body,
     tenant_id, subscription_id, event_type, url, request_headers, response_headers)
  VALUES (v_id, v_attempt, v_generation, (p->>'startedAt')::timestamptz, (p->>'durationMs')::integer, p->>'result',
         (p->>'statusCode')::integer, p->>'error', p->>'responseBody',
         v_delivery.tenant_id, v_delivery.subscription_id, v_delivery.event_type, p->>'url', nullif(p->'requestHeaders', 'null'),
         nullif(p->'responseHeaders', 'null'));
  IF NOT v_current OR v_delivery.status <> 'pending' THEN
    UPDATE deliveries
       SET attempts = greatest(attempts, v_attempt), attempts_before = attempts_before + CASE WHEN v_current THEN 0 ELSE 1 END
     WHERE id = v_id RETURNING * INTO v_delivery;
    PERFORM judge_subscription_health(v_delivery, p || '{"overtaken": true}');
    RETURN coalesce(after_attempt(v_id, (p->>'ordered')::boolean), v_nothing) || '{"overtaken": true}';
  END IF;
  UPDATE deliveries
     SET attempts = greatest(attempts, v_attempt), last_status_code = (p->>'statusCode')::integer, last_error = p->>'error',
         status = p->>'status',
         in_lane = in_lane AND p->>'status' IN ('pending', 'exhausted'),
         next_attempt_at = CASE WHEN p->>'status' = 'pending' THEN (p->>'nextAttemptAt')::timestamptz END,
         finished_at = CASE WHEN p->>'status' <> 'pending' THEN now() END
   WHERE id = v_id RETURNING * INTO v_delivery;
  PERFORM judge_subscription_health(v_delivery, p || jsonb_build_object('attempt', v_attempt));
  RETURN after_attempt(v_id, (p->>'ordered')::boolean);
END $$;

-- Reserves the next place in a subscription's rate. Returns the milliseconds until it. A place that nobody comes for is
-- lost; no two attempts of any workers get the same. Not idempotent.
CREATE OR REPLACE FUNCTION reserve_place(p_subscription text, p_per_second integer) RETURNS double precision LANGUAGE sql AS $$
  INSERT INTO subscription_pacing AS s (subscription_id, next_at)
  VALUES (p_subscription, clock_timestamp() + interval '1 second' / p_per_second)
  ON CONFLICT (subscription_id) DO UPDATE
    SET next_at = greatest(s.next_at, clock_timestamp()) + interval '1 second' / p_per_second
  RETURNING greatest(0, extract(epoch FROM next_at - clock_timestamp()) * 1000 - 1000.0 / p_per_second)
$$;

-- Opens finished deliveries again, each under the next generation; those that are pending stay as they are, which makes it
-- idempotent. What was opened by hand (without p_replay) waits for its workflow; a replay's workflow starts its own.
CREATE OR REPLACE FUNCTION reopen_deliveries(p_ids uuid[], p_replay uuid) RETURNS void LANGUAGE sql AS $$
  UPDATE deliveries
     SET status = 'pending', finished_at = NULL, generation = generation + 1, attempts_before = attempts,
         replay_id = p_replay, to_start_since = CASE WHEN p_replay IS NULL THEN clock_timestamp() END,
         in_lane = false, next_attempt_at = NULL
   WHERE id = ANY(p_ids) AND status <> 'pending'
$$;

-- Writes one attempt or several. p is a list of what record_delivery_attempt takes. Those that only say that all is well
-- (delivered, of a delivery that waits for it, to a subscription that is healthy) are written together; every other one, and
-- one that had been stored before, as if it came alone, by subscription, so that two calls lock subscriptions in one order.
-- Returns what record_delivery_attempt returns for each of those; of the others only those that were overtaken at the last
-- moment. Idempotent.
CREATE OR REPLACE FUNCTION record_delivery_attempts(p jsonb)
RETURNS TABLE (delivery_id uuid, after jsonb) LANGUAGE plpgsql
-- A connection keeps the plans that it made while the tables were small: they must be by key from the beginning. So a CASE asks
-- for what is pending: a condition would lead through the index of all that is.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  v_plain uuid[];
  v_written uuid[];
  v_overtaken uuid[];
  v_one record;
BEGIN
  SELECT array_agg(d.id) INTO v_plain
    FROM jsonb_array_elements(p) AS a
    JOIN deliveries d ON d.id = (a->>'deliveryId')::uuid
    JOIN subscriptions s ON s.id = d.subscription_id
   WHERE a->>'result' = 'delivered' AND NOT coalesce((a->>'ordered')::boolean, false)
     AND CASE d.status WHEN 'pending' THEN d.generation END = coalesce((a->>'generation')::integer, d.generation)
     AND s.state = 'active' AND s.exhausted_since IS NULL AND s.throttle_level = 0;
  WITH plain AS MATERIALIZED (
    SELECT (a->>'deliveryId')::uuid AS id, (a->>'attempt')::integer AS attempt, (a->>'startedAt')::timestamptz AS started_at,
           (a->>'generation')::integer AS generation, (a->>'durationMs')::integer AS duration_ms,
           (a->>'statusCode')::integer AS status_code, a->>'responseBody' AS response_body, a->>'url' AS url,
           nullif(a->'requestHeaders', 'null') AS request_headers, nullif(a->'responseHeaders', 'null') AS response_headers
      FROM jsonb_array_elements(p) AS a WHERE (a->>'deliveryId')::uuid = ANY(v_plain)),
  inserted AS (
    INSERT INTO delivery_attempts (delivery_id, attempt, generation, started_at, duration_ms, result, status_code, response_body,
                                   tenant_id, subscription_id, event_type, url, request_headers, response_headers)
    SELECT x.id, x.attempt, x.generation, x.started_at, x.duration_ms, 'delivered', x.status_code, x.response_body,
           d.tenant_id, d.subscription_id, d.event_type, x.url, x.request_headers, x.response_headers
      FROM plain x JOIN deliveries d ON d.id = x.id
     -- A delivery before its attempt, as record_delivery_attempt locks them, and several in one order.
     ORDER BY x.id FOR NO KEY UPDATE OF d
    ON CONFLICT DO NOTHING
    RETURNING delivery_attempts.delivery_id AS id, delivery_attempts.attempt AS attempt,
              delivery_attempts.generation AS generation, delivery_attempts.status_code AS status_code),
  updated AS (
    UPDATE deliveries d
       SET attempts = greatest(d.attempts, i.attempt), last_status_code = i.status_code, last_error = NULL,
           finished_at = now(), status = 'delivered', in_lane = false, next_attempt_at = NULL
      FROM inserted i
     WHERE d.id = i.id AND CASE d.status WHEN 'pending' THEN d.generation END = coalesce(i.generation, d.generation)
    RETURNING d.id)
  SELECT coalesce(array_agg(i.id), '{}'), array_agg(i.id) FILTER (WHERE i.id NOT IN (SELECT u.id FROM updated u))
    INTO v_written, v_overtaken FROM inserted i;
  -- Ended or sent again between these statements' snapshot and their locks.
  FOREACH delivery_id IN ARRAY coalesce(v_overtaken, '{}') LOOP
    UPDATE deliveries d
       SET attempts = greatest(d.attempts, i.attempt), attempts_before = d.attempts_before + CASE WHEN d.generation = coalesce(i.generation, d.generation) THEN 0 ELSE 1 END
      FROM (SELECT (a->>'attempt')::integer AS attempt, (a->>'generation')::integer AS generation
              FROM jsonb_array_elements(p) AS a WHERE (a->>'deliveryId')::uuid = delivery_id) AS i
     WHERE d.id = delivery_id;
    after := '{"overtaken": true}';
    RETURN NEXT;
  END LOOP;
  FOR v_one IN
    SELECT d.id, a AS attempt FROM jsonb_array_elements(p) AS a JOIN deliveries d ON d.id = (a->>'deliveryId')::uuid
     WHERE a->>'result' <> 'delivered' OR d.id <> ALL(v_written)
     ORDER BY d.subscription_id, d.created_at, d.id
  LOOP
    delivery_id := v_one.id;
    after := record_delivery_attempt(v_one.attempt);
    RETURN NEXT;
  END LOOP;
END $$;

-- ---------------------------------------------------------------------------------------------- lanes

-- Whether all deliveries of a subscription and type go through its lane, from the first attempt to the last: where order
-- or a rate has to be kept, the lane is the only one that sends.
CREATE OR REPLACE FUNCTION keeps_lane(p_ordered boolean, p_rate integer, p_config event_configs) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT p_ordered OR p_rate IS NOT NULL OR coalesce(p_config.ordered, false)
$$;

-- When the first attempt of a new delivery is due that goes through a lane.
CREATE OR REPLACE FUNCTION first_attempt_at(p_config event_configs) RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
  SELECT clock_timestamp() + coalesce(p_config.schedule_ms[1], 0) * interval '1 millisecond'
$$;

-- Puts pending deliveries into the lanes of their subscriptions, each to be attempted from its time on; one that is in its
-- lane already may be moved forward by it. Idempotent.
CREATE OR REPLACE FUNCTION park_deliveries(p_ids uuid[], p_at timestamptz[]) RETURNS void LANGUAGE sql AS $$
  UPDATE deliveries d
     SET in_lane = true, next_attempt_at = least(p.at, CASE WHEN d.in_lane THEN d.next_attempt_at END)
    FROM unnest(p_ids, p_at) AS p (id, at) WHERE d.id = p.id AND d.status = 'pending'
$$;

-- Which of these lanes have to be woken, after something was put into them (in this transaction or before): those that sleep
-- and react to new work, and those from which nothing has been seen for a minute. With p_any also those that sleep and wait
-- for something else: what was put in may go before that. All count as awake from then on. The lock makes lane_sleep see what
-- was put in before, or us see that it sleeps.
CREATE OR REPLACE FUNCTION lanes_to_wake(p_subscriptions text[], p_any boolean) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  v_now timestamptz;
BEGIN
  INSERT INTO subscription_lanes (subscription_id)
  SELECT DISTINCT id FROM unnest(p_subscriptions) AS id
   WHERE NOT EXISTS (SELECT FROM subscription_lanes l WHERE l.subscription_id = id) ORDER BY id
  ON CONFLICT DO NOTHING;
  PERFORM FROM subscription_lanes WHERE subscription_id = ANY(p_subscriptions) ORDER BY subscription_id FOR UPDATE;
  v_now := clock_timestamp();
  RETURN QUERY
  UPDATE subscription_lanes SET looks_at = v_now, heeds_work = true
   WHERE subscription_id = ANY(p_subscriptions)
     AND (looks_at < v_now - interval '1 minute' OR (heeds_work OR p_any) AND looks_at > v_now + interval '1 second')
  RETURNING subscription_id;
END $$;

-- What there is to do in a lane, without those that are under way (p_skip). Reads only. Returns
-- {state, resting, throttled, kept, ratePerSecond, due: [{id, key}], over, ended, nextMs, heedsWork}:
-- due: at most p_limit, in order; those of one key (the subscription, or a type, that keeps its order) one after another,
-- as far as none of them has to wait; every other one is a key of its own. An event that is not handed out yet is waited
-- for by what was published after it, for a day.
-- over: attempted and failed, and nothing keeps them here: their delivery workflows have their next attempts.
-- ended: given up, and their dead letters not written yet. nextMs: when something else will be due, NULL for never.
CREATE OR REPLACE FUNCTION lane_look(p_subscription text, p_skip uuid[], p_limit integer) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  s subscriptions;
  v_types text[];
  v_before bigint;
  v_due_by timestamptz;
  v_due jsonb;
  v_next timestamptz;
  v_over jsonb := '[]';
  v_resting boolean;
BEGIN
  SELECT * INTO s FROM subscriptions WHERE id = p_subscription;
  v_resting := coalesce(s.throttled_until > v_now, false);
  v_due_by := CASE WHEN v_resting THEN 'epoch' ELSE v_now END;
  SELECT array_agg(event_type) INTO v_types FROM event_configs WHERE tenant_id = s.tenant_id AND ordered;
  IF s.ordered OR v_types IS NOT NULL THEN
    SELECT min(sequence) INTO v_before FROM webhook_events
     WHERE tenant_id = s.tenant_id AND fanned_out_at IS NULL AND created_at > v_now - interval '1 day'
       AND (only_subscription_id IS NULL OR only_subscription_id = s.id);
  END IF;

  IF s.ordered THEN
    SELECT jsonb_agg(jsonb_build_object('id', id, 'key', '') ORDER BY sequence) FILTER (WHERE ready),
           min(CASE WHEN next_attempt_at > v_now THEN next_attempt_at ELSE v_now + interval '100 milliseconds' END)
             FILTER (WHERE n = 1 AND NOT ready)
      INTO v_due, v_next
      FROM (SELECT id, sequence, next_attempt_at, row_number() OVER lane AS n,
                   bool_and(next_attempt_at <= v_due_by AND (v_before IS NULL OR sequence < v_before)) OVER lane AS ready
              FROM (SELECT * FROM deliveries
                     WHERE subscription_id = s.id AND in_lane AND status = 'pending' ORDER BY sequence LIMIT p_limit) AS first
            WINDOW lane AS (ORDER BY sequence)) AS lane;
  ELSE
    SELECT jsonb_agg(jsonb_build_object('id', id, 'key', id)) INTO v_due
      FROM (SELECT id FROM deliveries
             WHERE subscription_id = s.id AND in_lane AND status = 'pending' AND next_attempt_at <= v_due_by
               AND id <> ALL(p_skip) AND (v_types IS NULL OR event_type <> ALL(v_types))
             ORDER BY next_attempt_at, sequence LIMIT p_limit) AS due;
    SELECT min(next_attempt_at) INTO v_next FROM deliveries
     WHERE subscription_id = s.id AND in_lane AND status = 'pending' AND next_attempt_at > v_now;
    IF v_types IS NOT NULL THEN
      SELECT coalesce(v_due, '[]') || coalesce(jsonb_agg(jsonb_build_object('id', id, 'key', event_type) ORDER BY sequence)
               FILTER (WHERE ready), '[]'),
             least(v_next, min(v_now + interval '100 milliseconds')
               FILTER (WHERE n = 1 AND NOT ready AND next_attempt_at <= v_now))
        INTO v_due, v_next
        FROM (SELECT id, event_type, sequence, next_attempt_at, row_number() OVER lane AS n,
                     bool_and(next_attempt_at <= v_due_by AND (v_before IS NULL OR sequence < v_before)) OVER lane AS ready
                FROM unnest(v_types) AS t (type) CROSS JOIN LATERAL (
                  SELECT * FROM deliveries
                   WHERE subscription_id = s.id AND in_lane AND status = 'pending' AND event_type = t.type
                   ORDER BY sequence LIMIT p_limit) AS first
              WINDOW lane AS (PARTITION BY event_type ORDER BY sequence)) AS lane;
    END IF;
    IF s.rate_limit_per_second IS NULL THEN
      SELECT coalesce(jsonb_agg(id), '[]') INTO v_over
        FROM (SELECT id FROM deliveries
               WHERE subscription_id = s.id AND in_lane AND status = 'pending' AND attempts > attempts_before
                 AND next_attempt_at > v_now + interval '2 seconds'
                 AND id <> ALL(p_skip) AND (v_types IS NULL OR event_type <> ALL(v_types))
               ORDER BY next_attempt_at LIMIT p_limit) AS over;
    END IF;
  END IF;
  IF v_resting AND EXISTS (SELECT FROM deliveries WHERE subscription_id = s.id AND in_lane AND status = 'pending') THEN
    v_next := s.throttled_until;
  END IF;
  RETURN jsonb_build_object('state', s.state, 'resting', v_resting, 'throttled', s.throttle_level > 0,
    'kept', s.ordered OR s.rate_limit_per_second IS NOT NULL, 'ratePerSecond', s.rate_limit_per_second,
    'due', coalesce(v_due, '[]'), 'over', v_over,
    'ended', (SELECT coalesce(jsonb_agg(id), '[]') FROM (SELECT id FROM deliveries
               WHERE subscription_id = s.id AND in_lane AND status <> 'pending' AND id <> ALL(p_skip) LIMIT p_limit) AS ended),
    'nextMs', CASE WHEN v_next IS NOT NULL THEN ceil(extract(epoch FROM greatest(v_next - v_now, interval '0')) * 1000) END,
    'heedsWork', NOT v_resting AND NOT (s.ordered AND v_next IS NOT NULL AND v_before IS NULL));
END $$;

-- The lane's workflow is going to sleep: returns what lane_look says now, and writes down when it will look again. What is
-- put in later finds it asleep.
CREATE OR REPLACE FUNCTION lane_sleep(p_subscription text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_look jsonb;
  v_todo boolean;
BEGIN
  INSERT INTO subscription_lanes (subscription_id) VALUES (p_subscription) ON CONFLICT DO NOTHING;
  PERFORM FROM subscription_lanes WHERE subscription_id = p_subscription FOR UPDATE;
  v_look := lane_look(p_subscription, '{}', 1);
  v_todo := jsonb_array_length(v_look->'due') + jsonb_array_length(v_look->'over') + jsonb_array_length(v_look->'ended') > 0;
  UPDATE subscription_lanes
     SET looks_at = CASE WHEN v_todo THEN clock_timestamp()
                         ELSE coalesce(clock_timestamp() + (v_look->>'nextMs')::double precision * interval '1 millisecond', 'infinity') END,
         -- Who waits for nothing is woken by anything: while its subscriber rests, too, or nobody would ever wake it.
         heeds_work = v_todo OR v_look->>'nextMs' IS NULL OR (v_look->>'heedsWork')::boolean
   WHERE subscription_id = p_subscription;
  RETURN v_look || jsonb_build_object('todo', v_todo);
END $$;

-- Records that the lane's workflow is working: of a lane that is silent for a minute, others assume that its workflow is lost.
CREATE OR REPLACE FUNCTION lane_is_awake(p_subscription text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO subscription_lanes AS l (subscription_id, looks_at) VALUES (p_subscription, clock_timestamp())
  ON CONFLICT (subscription_id) DO UPDATE SET looks_at = clock_timestamp(), heeds_work = true
   WHERE l.looks_at NOT BETWEEN clock_timestamp() - interval '10 seconds' AND clock_timestamp() OR NOT l.heeds_work
$$;

-- Ends what waits in the lane of a subscription that gets nothing: held, or cancelled when it is deleted; at most p_limit,
-- without those that are under way (p_skip). Returns how many; none when it gets events again. The lock waits for a resume that
-- is under way.
CREATE OR REPLACE FUNCTION hold_lane(p_subscription text, p_skip uuid[], p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_state text;
  v_count integer;
BEGIN
  SELECT state INTO v_state FROM subscriptions WHERE id = p_subscription FOR SHARE;
  IF v_state IN ('active', 'failing') THEN RETURN 0; END IF;
  UPDATE deliveries
     SET status = CASE v_state WHEN 'deleted' THEN 'cancelled' ELSE 'held' END, finished_at = now(), in_lane = false,
         next_attempt_at = NULL, last_error = 'the subscription is ' || v_state
   WHERE id IN (SELECT id FROM deliveries WHERE subscription_id = p_subscription AND in_lane AND status = 'pending'
                 AND id <> ALL(p_skip) LIMIT p_limit)
     AND status = 'pending';
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END $$;

-- Lanes in which something is due and that nobody has looked into for a minute: a wake that was lost.
CREATE OR REPLACE FUNCTION forgotten_lanes(p_after text, p_limit integer) RETURNS SETOF text LANGUAGE sql STABLE AS $$
  SELECT l.subscription_id FROM subscription_lanes l
   WHERE l.subscription_id > p_after
     AND (l.looks_at < now() - interval '1 minute'
          OR l.looks_at > now() + interval '1 second' AND (l.heeds_work OR l.looks_at = 'infinity')
          AND EXISTS (SELECT FROM deliveries d WHERE d.subscription_id = l.subscription_id AND d.in_lane
                         AND d.status = 'pending' AND d.next_attempt_at < now() - interval '1 minute'))
     AND EXISTS (SELECT FROM deliveries d WHERE d.subscription_id = l.subscription_id AND d.in_lane)
   ORDER BY l.subscription_id LIMIT p_limit
$$;

-- What pending deliveries wait for, and until when as far as that is known: 'time' and 'retry' their schedule, 'order' the
-- delivery that comes first (NULL: an event that is not handed out yet), 'rate', 'rest', 'place', 'pause'; NULL: nothing.
CREATE OR REPLACE FUNCTION delivery_waits(p_ids uuid[])
RETURNS TABLE (id uuid, next_attempt_at timestamptz, waits_for text, first_id uuid) LANGUAGE sql STABLE AS $$
  SELECT d.id,
         CASE w.it WHEN 'rest' THEN s.throttled_until WHEN 'retry' THEN d.next_attempt_at WHEN 'time' THEN d.next_attempt_at END,
         w.it, CASE w.it WHEN 'order' THEN nullif(first.id, d.id) END
    FROM deliveries d
    JOIN subscriptions s ON s.id = d.subscription_id
    LEFT JOIN event_configs c ON c.tenant_id = d.tenant_id AND c.event_type = d.event_type
    LEFT JOIN LATERAL (
      SELECT o.id FROM deliveries o
       WHERE o.subscription_id = d.subscription_id AND o.in_lane AND o.status = 'pending'
         AND (s.ordered OR o.event_type = d.event_type)
       ORDER BY o.sequence LIMIT 1) AS first ON d.in_lane AND (s.ordered OR c.ordered)
   CROSS JOIN LATERAL (SELECT CASE
      WHEN s.state NOT IN ('active', 'failing') THEN 'pause'
      WHEN first.id <> d.id THEN 'order'
      WHEN d.next_attempt_at > now() THEN CASE WHEN d.attempts > d.attempts_before THEN 'retry' ELSE 'time' END
      WHEN NOT d.in_lane THEN NULL
      WHEN s.throttled_until > now() AND d.next_attempt_at <> 'epoch' THEN 'rest'
      WHEN first.id IS NOT NULL AND EXISTS (
        SELECT FROM webhook_events e
         WHERE e.tenant_id = d.tenant_id AND e.fanned_out_at IS NULL AND e.sequence < d.sequence
           AND (e.only_subscription_id IS NULL OR e.only_subscription_id = d.subscription_id)) THEN 'order'
      WHEN s.rate_limit_per_second IS NOT NULL THEN 'rate'
      ELSE 'place' END) AS w (it)
   WHERE d.id = ANY(p_ids) AND d.status = 'pending'
$$;
