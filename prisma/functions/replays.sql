-- Replays: sending a subscription again what it has missed, or what an operator asks for.

-- One step of a replay, as 0.1 takes it; now it is replay_slice: at most p_limit rows after the position (p_at, p_after), in
-- order of time. Returns {deliveries, at, after, examined, done, stopped}. Idempotent: repeating a step opens nothing twice and
-- returns what is still pending. Raises no_data_found for an unknown replay.
CREATE OR REPLACE FUNCTION replay_step(p_replay uuid, p_at timestamptz, p_after text, p_limit integer) RETURNS jsonb
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
               AND (r.event_types = '{}' OR event_type_wanted(r.event_types, d.event_type))
             ORDER BY d.created_at, d.id LIMIT p_limit) AS page;
  ELSE
    WITH page AS MATERIALIZED (
      SELECT e.id, e.type, e.created_at, e.body, e.only_subscription_id, e.sequence FROM webhook_events e
       WHERE e.tenant_id = r.tenant_id AND e.created_at >= r.since AND e.created_at <= r.until
         AND (p_after = '' OR (e.created_at, e.id) > (p_at, p_after))
       ORDER BY e.created_at, e.id LIMIT p_limit),
    wanted AS (
      SELECT p.* FROM page p JOIN subscriptions s ON s.id = r.subscription_id
       WHERE coalesce(p.only_subscription_id = s.id,
               event_type_wanted(s.event_types, p.type)
               AND (s.filter = '[]' OR filter_matches(s.filter, event_data(p.body)))
               AND coalesce((SELECT c.enabled FROM event_configs c
                              WHERE c.tenant_id = r.tenant_id AND c.event_type = p.type), true))
         AND (r.event_types = '{}' OR event_type_wanted(r.event_types, p.type))),
    -- In the order of the events, and after what is there already: this is the order of an ordered subscription.
    written AS (
      INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, replay_id, created_at, sequence)
      SELECT r.tenant_id, w.id, r.subscription_id, w.type, r.id, w.created_at, w.sequence FROM wanted w
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

-- Deliveries that a retry is for, in the order of time: of one subscription or all of a tenant's, after (p_at, p_after).
CREATE OR REPLACE FUNCTION retried_deliveries(r replays, p_at timestamptz, p_after text, p_limit integer)
RETURNS SETOF deliveries LANGUAGE sql STABLE AS $$
  SELECT found.* FROM subscriptions s CROSS JOIN LATERAL (
    -- Two ways, as all but what is delivered has an index by status.
    SELECT by_status.*
      FROM (SELECT DISTINCT unnest(r.statuses || 'pending'::text)) AS wanted (status)
     CROSS JOIN LATERAL (
        SELECT d.* FROM deliveries d
         WHERE d.subscription_id = s.id AND d.status = wanted.status AND d.status <> 'delivered'
           AND d.created_at >= r.since AND d.created_at <= r.until
           AND (p_after = '' OR (d.created_at, d.id) > (p_at, nullif(p_after, '')::uuid))
           AND (r.event_types = '{}' OR event_type_wanted(r.event_types, d.event_type))
           AND (r.event_id IS NULL OR d.event_id = r.event_id)
           -- What a slice has opened is found by its repetition, and by nothing later: it may have ended again.
           AND CASE WHEN d.status = 'pending' THEN 'pending' = ANY(r.statuses) OR d.replay_id = r.id
                    ELSE d.replay_id IS DISTINCT FROM r.id END
         ORDER BY d.created_at, d.id LIMIT p_limit) AS by_status
    UNION ALL
    (SELECT d.* FROM deliveries d
      WHERE 'delivered' = ANY(r.statuses) AND d.subscription_id = s.id AND d.status = 'delivered'
        AND d.replay_id IS DISTINCT FROM r.id
        AND d.created_at >= r.since AND d.created_at <= r.until
        AND (p_after = '' OR (d.created_at, d.id) > (p_at, nullif(p_after, '')::uuid))
        AND (r.event_types = '{}' OR event_type_wanted(r.event_types, d.event_type))
        AND (r.event_id IS NULL OR d.event_id = r.event_id)
      ORDER BY d.created_at, d.id LIMIT p_limit)) AS found
   WHERE s.tenant_id = r.tenant_id AND (r.subscription_id IS NULL OR s.id = r.subscription_id)
     AND s.state IN ('active', 'failing')
   ORDER BY found.created_at, found.id LIMIT p_limit
$$;

-- Whether a delivery is one of those that a cancellation in bulk is for, whatever its status.
CREATE OR REPLACE FUNCTION cancellation_wants(r replays, d deliveries) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT (r.event_types = '{}' OR event_type_wanted(r.event_types, d.event_type)) AND (r.event_id IS NULL OR d.event_id = r.event_id)
$$;

-- The next pending deliveries that a cancellation in bulk is for, in the order of time: of one subscription, or all of the
-- tenant's.
CREATE OR REPLACE FUNCTION cancellable_deliveries(r replays, p_at timestamptz, p_after text, p_limit integer)
RETURNS SETOF deliveries LANGUAGE sql STABLE AS $$
  SELECT * FROM (
    (SELECT d.* FROM deliveries d
      WHERE d.subscription_id = r.subscription_id AND d.status = 'pending' AND d.status <> 'delivered'
        AND d.created_at >= greatest(r.since, p_at) AND d.created_at <= r.until
        AND (p_after = '' OR (d.created_at, d.id) > (p_at, nullif(p_after, '')::uuid)) AND cancellation_wants(r, d)
      ORDER BY d.created_at, d.id LIMIT p_limit)
    UNION ALL
    (SELECT d.* FROM deliveries d
      WHERE r.subscription_id IS NULL AND d.tenant_id = r.tenant_id AND d.status = 'pending' AND d.status <> 'delivered'
        AND d.created_at >= greatest(r.since, p_at) AND d.created_at <= r.until
        AND (p_after = '' OR (d.created_at, d.id) > (p_at, nullif(p_after, '')::uuid)) AND cancellation_wants(r, d)
      ORDER BY d.created_at, d.id LIMIT p_limit)) AS page
   ORDER BY created_at, id
$$;

-- One page of a cancellation in bulk, as replay_slice: ends p_limit pending deliveries after the position without another
-- attempt. Nothing is sent for it, so that it keeps to no rate. Of those that no lane had, a workflow may wait for the next
-- attempt: that one is told later (cancelled_workflows), and finds them by a next_attempt_at that stays. Repeated, it counts
-- what it ended before and goes on.
CREATE OR REPLACE FUNCTION cancel_slice(r replays, p_at timestamptz, p_after text, p_limit integer) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
  v_slice jsonb;
BEGIN
  WITH page AS MATERIALIZED (SELECT * FROM cancellable_deliveries(r, p_at, p_after, p_limit)),
  ended AS (
    UPDATE deliveries d
       SET status = 'cancelled', finished_at = now(), last_error = 'cancelled by an operator', replay_id = r.id, in_lane = false,
           next_attempt_at = CASE WHEN NOT d.in_lane THEN coalesce(d.next_attempt_at, 'epoch') END
      FROM page WHERE d.id = page.id AND d.status = 'pending' RETURNING d.id),
  last AS (SELECT created_at, id FROM page ORDER BY created_at DESC, id DESC LIMIT 1),
  -- Behind it there may be more.
  reached AS (SELECT * FROM last WHERE (SELECT count(*) FROM page) = p_limit),
  before AS (
    SELECT count(*) AS n FROM deliveries d
     WHERE d.tenant_id = r.tenant_id AND d.status = 'cancelled' AND d.status <> 'delivered' AND d.replay_id = r.id
       AND (r.subscription_id IS NULL OR d.subscription_id = r.subscription_id)
       AND d.created_at >= greatest(r.since, p_at) AND d.created_at <= coalesce((SELECT created_at FROM reached), r.until)
       AND (p_after = '' OR (d.created_at, d.id) > (p_at, nullif(p_after, '')::uuid))
       AND (NOT EXISTS (SELECT FROM reached) OR (d.created_at, d.id) <= (SELECT created_at, id FROM reached)))
  SELECT jsonb_build_object(
    'subscriptions', coalesce((SELECT jsonb_agg(DISTINCT subscription_id) FROM page WHERE in_lane), '[]'),
    'at', coalesce((SELECT created_at FROM last), p_at), 'after', coalesce((SELECT id::text FROM last), p_after),
    'examined', (SELECT count(*) FROM page) + (SELECT n FROM before),
    -- What ended by itself meanwhile was not cancelled.
    'opened', (SELECT count(*) FROM ended) + (SELECT n FROM before),
    'done', NOT EXISTS (SELECT FROM reached), 'stopped', NULL, 'cancels', true, 'until', clock_timestamp()) INTO v_slice;
  RETURN v_slice;
END $$;

-- Deliveries that a cancellation in bulk has ended and that no lane had, after a position in the order of time: their
-- workflows, where there are any, need not wait any longer.
CREATE OR REPLACE FUNCTION cancelled_workflows(p_replay uuid, p_at timestamptz, p_after text, p_limit integer)
RETURNS TABLE (id uuid, created_at timestamptz, event_id text, subscription_id text, generation integer) LANGUAGE sql STABLE AS $$
  SELECT d.id, d.created_at, d.event_id, d.subscription_id, d.generation
    FROM replays r
    JOIN deliveries d ON d.tenant_id = r.tenant_id AND d.status = 'cancelled' AND d.status <> 'delivered' AND d.replay_id = r.id
     AND d.next_attempt_at IS NOT NULL AND d.created_at >= greatest(r.since, p_at) AND d.created_at <= r.until
     AND (p_after = '' OR (d.created_at, d.id) > (p_at, nullif(p_after, '')::uuid))
   WHERE r.id = p_replay
   ORDER BY d.created_at, d.id LIMIT p_limit
$$;

-- One slice of a replay: looks at no more than p_limit rows after the position (p_at, p_after), in order of time, and puts
-- no more than p_open deliveries into their lanes, evenly from p_from on. Returns {subscriptions, at, after, examined,
-- opened, done, stopped, until}: until is when the next slice begins. Idempotent: repeated, it opens nothing twice. Raises
-- no_data_found for an unknown replay.
CREATE OR REPLACE FUNCTION replay_slice(
  p_replay uuid, p_at timestamptz, p_after text, p_limit integer, p_open integer, p_from timestamptz
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  r replays;
  v_state text;
  v_ids uuid[];
  v_at timestamptz;
  v_last text;
  v_count integer;
  v_from timestamptz := greatest(p_from, clock_timestamp());
  v_subscriptions jsonb;
  v_opened integer;
  v_done boolean;
BEGIN
  SELECT * INTO STRICT r FROM replays WHERE id = p_replay;
  IF r.kind = 'cancel' THEN RETURN cancel_slice(r, p_at, p_after, p_limit); END IF;
  SELECT state INTO v_state FROM subscriptions WHERE id = r.subscription_id;
  IF v_state NOT IN ('active', 'failing') THEN
    RETURN jsonb_build_object('subscriptions', '[]'::jsonb, 'at', p_at, 'after', p_after, 'examined', 0, 'opened', 0,
      'done', true, 'stopped', 'the subscription is ' || v_state, 'until', v_from);
  END IF;

  IF r.kind = 'retry' THEN
    SELECT array_agg(id ORDER BY created_at, id), count(*), (array_agg(created_at ORDER BY created_at DESC, id DESC))[1],
           (array_agg(id::text ORDER BY created_at DESC, id DESC))[1]
      INTO v_ids, v_count, v_at, v_last FROM retried_deliveries(r, p_at, p_after, p_open);
    v_done := v_count < p_open;
  ELSIF r.kind = 'failed' THEN
    -- Rows are never visited twice, so that what fails again meanwhile is not sent a second time.
    SELECT array_agg(id ORDER BY created_at, id), count(*), (array_agg(created_at ORDER BY created_at DESC, id DESC))[1],
           (array_agg(id::text ORDER BY created_at DESC, id DESC))[1]
      INTO v_ids, v_count, v_at, v_last
      FROM (SELECT d.id, d.created_at FROM deliveries d
             WHERE d.subscription_id = r.subscription_id
               AND d.created_at >= r.since AND d.created_at <= r.until
               AND (p_after = '' OR (d.created_at, d.id) > (p_at, nullif(p_after, '')::uuid))
               AND (d.status = 'exhausted' AND d.replay_id IS DISTINCT FROM r.id
                    OR d.status = 'pending' AND d.replay_id = r.id)
               AND (r.event_types = '{}' OR event_type_wanted(r.event_types, d.event_type))
             ORDER BY d.created_at, d.id LIMIT p_open) AS page;
    v_done := v_count < p_open;
  ELSE
    WITH page AS MATERIALIZED (
      SELECT e.id, e.type, e.created_at, e.body, e.only_subscription_id, e.sequence FROM webhook_events e
       WHERE e.tenant_id = r.tenant_id AND e.created_at >= r.since AND e.created_at <= r.until
         AND (p_after = '' OR (e.created_at, e.id) > (p_at, p_after))
       ORDER BY e.created_at, e.id LIMIT p_limit),
    chosen AS MATERIALIZED (
      SELECT p.*, d.id AS delivery_id
        FROM page p
        JOIN subscriptions s ON s.id = r.subscription_id
        LEFT JOIN deliveries d ON d.event_id = p.id AND d.subscription_id = r.subscription_id
       WHERE coalesce(p.only_subscription_id = s.id,
               event_type_wanted(s.event_types, p.type)
               AND (s.filter = '[]' OR filter_matches(s.filter, event_data(p.body)))
               AND coalesce((SELECT c.enabled FROM event_configs c
                              WHERE c.tenant_id = r.tenant_id AND c.event_type = p.type), true))
         AND (r.event_types = '{}' OR event_type_wanted(r.event_types, p.type))
         AND (d.id IS NULL OR CASE WHEN d.replay_id IS NOT DISTINCT FROM r.id THEN d.status = 'pending'
                                   WHEN r.kind = 'missed' THEN d.status IN ('held', 'pending')
                                   ELSE d.status <> 'pending' END)
       ORDER BY p.created_at, p.id LIMIT p_open),
    -- In the order of the events: this is the order of an ordered subscription.
    written AS (
      INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, replay_id, created_at, sequence)
      SELECT r.tenant_id, c.id, r.subscription_id, c.type, r.id, c.created_at, c.sequence FROM chosen c
       WHERE c.delivery_id IS NULL ORDER BY c.sequence
      ON CONFLICT DO NOTHING RETURNING id, created_at, sequence),
    full_page AS (SELECT (SELECT count(*) FROM chosen) = p_open AS it),
    reached AS (
      SELECT created_at, id FROM (
        SELECT created_at, id FROM chosen WHERE (SELECT it FROM full_page)
        UNION ALL SELECT created_at, id FROM page WHERE NOT (SELECT it FROM full_page)) AS rows
       ORDER BY created_at DESC, id DESC LIMIT 1)
    SELECT (SELECT array_agg(id ORDER BY sequence) FROM (
              SELECT id, sequence FROM written
              UNION ALL SELECT delivery_id, sequence FROM chosen WHERE delivery_id IS NOT NULL) AS all_of_them),
           (SELECT count(*) FROM page WHERE (created_at, id) <= (SELECT created_at, id FROM reached)),
           (SELECT created_at FROM reached), (SELECT id FROM reached),
           NOT (SELECT it FROM full_page) AND (SELECT count(*) FROM page) < p_limit
      INTO v_ids, v_count, v_at, v_last, v_done;
  END IF;

  PERFORM reopen_deliveries(v_ids, r.id);
  -- What a former try of this slice opened and is being tried by now stays as it is.
  WITH opened AS (
    SELECT d.id, d.subscription_id, v_from + (row_number() OVER (ORDER BY d.sequence, d.id) - 1)
             * interval '1 second' / r.rate_per_second AS at
      FROM deliveries d
     WHERE d.id = ANY(v_ids) AND d.status = 'pending'
       AND (r.kind = 'retry' OR d.replay_id IS DISTINCT FROM r.id OR d.attempts = d.attempts_before)),
  parked AS (
    UPDATE deliveries d SET in_lane = true, next_attempt_at = o.at FROM opened o
     WHERE d.id = o.id AND NOT (d.in_lane AND d.next_attempt_at = 'epoch')
    RETURNING d.subscription_id)
  SELECT coalesce(jsonb_agg(DISTINCT subscription_id), '[]'), count(*) INTO v_subscriptions, v_opened FROM parked;
  RETURN jsonb_build_object('subscriptions', v_subscriptions, 'at', coalesce(v_at, p_at), 'after', coalesce(v_last, p_after),
    'examined', v_count, 'opened', v_opened, 'done', v_done, 'stopped', NULL,
    'until', v_from + v_opened * interval '1 second' / r.rate_per_second);
END $$;

-- Writes what is to be tried now after a subscription is resumed: what was held, and what waits for its next attempt.
-- Returns the replay's id, NULL when there is nothing. Idempotent under p_replay.
CREATE OR REPLACE FUNCTION retry_after_resume(p_tenant text, p_subscription text, p_replay uuid, p_rate integer, p_actor text)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
  v_since timestamptz;
BEGIN
  SELECT min(d.created_at) INTO v_since FROM deliveries d
   WHERE d.subscription_id = p_subscription AND d.tenant_id = p_tenant AND d.status IN ('held', 'pending');
  IF v_since IS NULL THEN RETURN NULL; END IF;
  INSERT INTO replays (id, tenant_id, subscription_id, kind, statuses, since, until, rate_per_second, actor)
  VALUES (p_replay, p_tenant, p_subscription, 'retry', '{held,pending}', v_since, clock_timestamp(), p_rate, p_actor)
  ON CONFLICT DO NOTHING;
  RETURN p_replay;
END $$;
