-- Deliveries of events to subscriptions: what their workflows are told, their order, their attempts, their pace, and opening
-- them anew.

-- What a delivery workflow needs to know of a delivery (DeliveryRef of src/contracts/workflows/delivery.ts). What the type's config
-- leaves open is left out, and the deployment's configuration holds.
CREATE OR REPLACE FUNCTION delivery_ref(
  p_id uuid, p_event_id text, p_subscription text, p_type text, p_ordered boolean, p_config event_configs
) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object('deliveryId', p_id, 'eventId', p_event_id, 'subscriptionId', p_subscription,
    'eventType', p_type, 'scheduleMs', to_jsonb(nullif(p_config.schedule_ms, '{}')), 'timeoutMs', p_config.timeout_ms,
    'ordered', CASE WHEN p_ordered OR p_config.ordered THEN true END))
$$;

-- The same of a delivery as it stands, also of one that is sent again, where its subscription and its type's config are at hand.
CREATE OR REPLACE FUNCTION delivery_ref_with(p_delivery deliveries, p_ordered boolean, p_config event_configs)
RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
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

-- Deliveries of an event that are not finished: what a repeated activity hands back after a crash.
CREATE OR REPLACE FUNCTION pending_deliveries(p_event_id text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(delivery_ref_of(d)), '[]') FROM deliveries d WHERE d.event_id = p_event_id AND d.status = 'pending'
$$;

-- The delivery that may be attempted now, where deliveries keep their order: of all the subscription's, or of one type.
CREATE OR REPLACE FUNCTION next_in_order(p_subscription text, p_type text) RETURNS deliveries LANGUAGE sql STABLE AS $$
  SELECT d FROM deliveries d
   WHERE d.subscription_id = p_subscription AND d.status = 'pending' AND (p_type IS NULL OR d.event_type = p_type)
   ORDER BY d.created_at, d.id LIMIT 1
$$;

-- What is to be started or woken after the last attempt of a delivery; the same however often it is asked. Returns
-- {deliveries, next}, or NULL for nothing: deliveries of the event that it gave rise to, and the delivery that was waiting
-- for this one to end. What is older than a delivery never waits for it and is not woken: a wake ends any pause, so that
-- the end of one in the queue would use up the schedule of the one at its head.
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

-- Writes an attempt, and what it means for its delivery and its subscription. p is AttemptRecord of
-- src/domain/deliveries.ts. Returns what after_attempt returns. Idempotent: two tries of one attempt can overlap, since a
-- worker that Temporal takes for dead goes on with its own while another makes it anew. The first record stands; the
-- second changes nothing, is told so (repeated: true), and goes by what is stored instead of by what it met.
CREATE OR REPLACE FUNCTION record_delivery_attempt(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
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
  IF NOT FOUND THEN
    RETURN coalesce(after_attempt(v_id, (p->>'ordered')::boolean), '{"deliveries": [], "next": null}') || '{"repeated": true}';
  END IF;
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

-- Opens finished deliveries anew, each under the next generation; those that are pending stay as they are, which makes it
-- idempotent. What was opened by hand (without p_replay) waits for its workflow; a replay's workflow starts its own.
CREATE OR REPLACE FUNCTION reopen_deliveries(p_ids uuid[], p_replay uuid) RETURNS void LANGUAGE sql AS $$
  UPDATE deliveries
     SET status = 'pending', finished_at = NULL, generation = generation + 1, attempts_before = attempts,
         replay_id = p_replay, to_start_since = CASE WHEN p_replay IS NULL THEN clock_timestamp() END
   WHERE id = ANY(p_ids) AND status <> 'pending'
$$;

-- Writes several attempts of different deliveries. p is a list of what record_delivery_attempt takes. Those that only say
-- that all is well (delivered, to a subscription that is healthy) are written together; every other one as if it came
-- alone, by subscription, so that two calls lock subscriptions in one order. Returns what record_delivery_attempt returns
-- for each of those; nothing for the others. Idempotent.
CREATE OR REPLACE FUNCTION record_delivery_attempts(p jsonb)
RETURNS TABLE (delivery_id uuid, after jsonb) LANGUAGE plpgsql AS $$
DECLARE
  v_plain uuid[];
  v_one record;
BEGIN
  SELECT array_agg(d.id) INTO v_plain
    FROM jsonb_array_elements(p) AS a
    JOIN deliveries d ON d.id = (a->>'deliveryId')::uuid
    JOIN subscriptions s ON s.id = d.subscription_id
   WHERE a->>'result' = 'delivered' AND NOT (a->>'ordered')::boolean
     AND s.state = 'active' AND s.exhausted_since IS NULL AND s.throttle_level = 0;
  WITH plain AS MATERIALIZED (
    SELECT (a->>'deliveryId')::uuid AS id, (a->>'attempt')::integer AS attempt, (a->>'startedAt')::timestamptz AS started_at,
           (a->>'durationMs')::integer AS duration_ms, (a->>'statusCode')::integer AS status_code,
           a->>'responseBody' AS response_body
      FROM jsonb_array_elements(p) AS a WHERE (a->>'deliveryId')::uuid = ANY(v_plain)),
  inserted AS (
    INSERT INTO delivery_attempts (delivery_id, attempt, started_at, duration_ms, result, status_code, response_body)
    SELECT x.id, x.attempt, x.started_at, x.duration_ms, 'delivered', x.status_code, x.response_body FROM plain x
    ON CONFLICT DO NOTHING
    RETURNING delivery_attempts.delivery_id AS id, delivery_attempts.attempt AS attempt,
              delivery_attempts.status_code AS status_code)
  UPDATE deliveries d
     SET attempts = greatest(d.attempts, i.attempt), last_status_code = i.status_code, last_error = NULL,
         finished_at = CASE d.status WHEN 'pending' THEN now() ELSE d.finished_at END,
         status = CASE d.status WHEN 'pending' THEN 'delivered' ELSE d.status END
    FROM inserted i WHERE d.id = i.id;
  FOR v_one IN
    SELECT d.id, a AS attempt FROM jsonb_array_elements(p) AS a JOIN deliveries d ON d.id = (a->>'deliveryId')::uuid
     WHERE v_plain IS NULL OR d.id <> ALL(v_plain)
     ORDER BY d.subscription_id, d.created_at, d.id
  LOOP
    delivery_id := v_one.id;
    after := record_delivery_attempt(v_one.attempt);
    RETURN NEXT;
  END LOOP;
END $$;
