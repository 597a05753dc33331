-- Events: how a state change is announced to other systems (outbox, topic domain.events) and to subscribers (webhook_events,
-- deliveries), how published events are handed out, and how they are deleted after their retention. One rule (filters.sql)
-- for both ways in: announce_event and fan_out_steps. fan_out_event is what 0.1 calls.

-- A fresh id of an event: the webhook-id that subscribers see.
CREATE OR REPLACE FUNCTION new_event_id() RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT 'evt_' || replace(gen_random_uuid()::text, '-', '')
$$;

-- What a type of remit's own is called for subscribers, whose other types are their tenants' (ADR 0025).
CREATE OR REPLACE FUNCTION webhook_type(p_type text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT 'remit.' || p_type
$$;

-- The types that subscribers are told of, without their prefix: OWN_EVENT_TYPES of src/contracts/webhooks.ts. A new one is
-- added in both places.
CREATE OR REPLACE FUNCTION own_event_types() RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
  SELECT ARRAY['payment.succeeded', 'payment.failed', 'payment.expired', 'payout.succeeded', 'payout.failed',
    'order.finished', 'order.cancelled', 'order.refunded', 'order.charged_back',
    'dispute.opened', 'dispute.won', 'dispute.lost', 'dispute.expired',
    'subscription.failing', 'subscription.paused', 'subscription.disabled', 'subscription.recovered',
    'reconciliation.differs', 'reconciliation.clean']
$$;

-- The types that only other systems are told of, on domain.events: INTERNAL_EVENT_TYPES of src/contracts/webhooks.ts.
CREATE OR REPLACE FUNCTION internal_event_types() RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
  SELECT ARRAY['order.credited', 'dispute.under_review']
$$;

-- Tells other systems of a state change: DomainEvent of src/contracts/messages.ts, keyed by its aggregate. Not idempotent.
-- Raises check_violation for a type of remit's own words (payment, order, …) that the contracts do not name.
CREATE OR REPLACE FUNCTION domain_event(
  p_id text, p_tenant text, p_type text, p_at text, p_aggregate text, p_aggregate_id text, p_data jsonb,
  p_correlation text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF p_type <> ALL (own_event_types() || internal_event_types())
     AND split_part(p_type, '.', 1) IN (SELECT split_part(own, '.', 1) FROM unnest(own_event_types()) AS own) THEN
    RAISE EXCEPTION '% is not a type of event that remit emits', p_type USING ERRCODE = 'check_violation';
  END IF;
  PERFORM outbox_put('domain.events', p_aggregate_id,
    jsonb_build_object('id', p_id, 'type', p_type, 'aggregate', p_aggregate, 'aggregateId', p_aggregate_id,
      'tenantId', p_tenant, 'occurredAt', p_at, 'correlationId', p_correlation, 'data', p_data), p_correlation);
END $$;

-- Asks for an event to be handed out (EventMessage of src/contracts/events.ts). Not idempotent, but what reads it is.
CREATE OR REPLACE FUNCTION request_fan_out(
  p_id text, p_tenant text, p_type text, p_at text, p_data jsonb, p_correlation text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM outbox_put('events', p_id,
    jsonb_build_object('id', p_id, 'tenantId', p_tenant, 'clientId', NULL, 'type', webhook_type(p_type), 'timestamp', p_at,
      'data', p_data), p_correlation);
END $$;

-- Announces a state change under p_id: a domain.events message in the outbox, the webhook event, and one delivery for each
-- subscription that matches, none of a type that is not enabled. Where there are deliveries, they take the path of published
-- events (outbox, topic events), in the same transaction: whoever changes a state has nothing to do with them (ADR 0026).
-- Not idempotent: an id is used once (unique_violation).
CREATE OR REPLACE FUNCTION announce_event(
  p_id text, p_tenant text, p_type text, p_aggregate text, p_aggregate_id text, p_data jsonb, p_correlation text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_at text := iso_utc(clock_timestamp());
  v_type text := webhook_type(p_type);
  v_config event_configs;
  v_sequence bigint;
BEGIN
  PERFORM domain_event(p_id, p_tenant, p_type, v_at, p_aggregate, p_aggregate_id, p_data, p_correlation);
  INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id, traceparent)
  VALUES (p_id, p_tenant, v_type,
          jsonb_build_object('type', v_type, 'timestamp', v_at, 'data', p_data)::text, p_correlation, traceparent_here())
  RETURNING sequence INTO v_sequence;
  SELECT * INTO v_config FROM event_configs WHERE tenant_id = p_tenant AND event_type = v_type;
  IF NOT v_config.enabled THEN RETURN; END IF;
  INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, sequence, in_lane, next_attempt_at)
  SELECT p_tenant, p_id, s.id, v_type, v_sequence, l.kept, CASE WHEN l.kept THEN first_attempt_at(v_config) END
    FROM matching_subscriptions(p_tenant, v_type, p_data) m JOIN subscriptions s ON s.id = m.subscription_id
   CROSS JOIN LATERAL keeps_lane(s.ordered, s.rate_limit_per_second, v_config) AS l (kept);
  IF FOUND THEN PERFORM request_fan_out(p_id, p_tenant, p_type, v_at, p_data, p_correlation); END IF;
END $$;

-- A state change that other systems should see but that subscribers are not told of: domain.events alone. Not idempotent.
CREATE OR REPLACE FUNCTION note_event(
  p_tenant text, p_type text, p_aggregate text, p_aggregate_id text, p_data jsonb, p_correlation text
) RETURNS void LANGUAGE sql AS $$
  SELECT domain_event(new_event_id(), p_tenant, p_type, iso_utc(clock_timestamp()), p_aggregate, p_aggregate_id, p_data,
    p_correlation)
$$;

-- Writes the deliveries of a published event, p_limit subscriptions at a time in the order of their ids, beginning after
-- p_after ('' for the first). Idempotent: repeating a call writes nothing twice and returns what is still pending, so
-- that a crash between writing and starting the workflows loses nothing. Once all are written, subscriptions made later
-- get nothing of it. NULL when there is no such event; otherwise {deliveries, next}: next is NULL after the last.
CREATE OR REPLACE FUNCTION fan_out_event(p_event_id text, p_after text, p_limit integer) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_event webhook_events;
  v_config event_configs;
  v_last text;
  v_full boolean;
  v_deliveries jsonb;
BEGIN
  SELECT * INTO v_event FROM webhook_events WHERE id = p_event_id FOR UPDATE;
  IF NOT FOUND THEN RETURN NULL; END IF;
  SELECT * INTO v_config FROM event_configs WHERE tenant_id = v_event.tenant_id AND event_type = v_event.type;

  IF v_event.fanned_out_at IS NULL THEN
    WITH chosen AS (
      SELECT m.subscription_id
        FROM matching_subscriptions(v_event.tenant_id, v_event.type, event_data(v_event.body)) m
       WHERE v_event.only_subscription_id IS NULL AND coalesce(v_config.enabled, true) AND m.subscription_id > p_after
      UNION ALL
      SELECT s.id FROM subscriptions s
       WHERE s.id = v_event.only_subscription_id AND s.tenant_id = v_event.tenant_id AND s.state IN ('active', 'failing')
         AND s.id > p_after
       ORDER BY 1 LIMIT p_limit),
    written AS (
      INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, sequence, in_lane, next_attempt_at)
      SELECT v_event.tenant_id, v_event.id, s.id, v_event.type, v_event.sequence, l.kept,
             CASE WHEN l.kept THEN first_attempt_at(v_config) END
        FROM chosen JOIN subscriptions s ON s.id = chosen.subscription_id
       CROSS JOIN LATERAL keeps_lane(s.ordered, s.rate_limit_per_second, v_config) AS l (kept)
      ON CONFLICT DO NOTHING)
    SELECT max(subscription_id), count(*) = p_limit INTO v_last, v_full FROM chosen;
    IF NOT v_full THEN
      UPDATE webhook_events SET fanned_out_at = clock_timestamp() WHERE id = v_event.id;
    END IF;
  ELSE
    SELECT max(subscription_id), count(*) = p_limit INTO v_last, v_full FROM (
      SELECT subscription_id FROM deliveries
       WHERE event_id = v_event.id AND status = 'pending' AND subscription_id > p_after
       ORDER BY subscription_id LIMIT p_limit) AS waiting;
  END IF;

  SELECT jsonb_agg(delivery_ref(d.id, d.event_id, d.subscription_id, d.event_type, s.ordered, v_config)
           ORDER BY d.subscription_id) INTO v_deliveries
    FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id
   WHERE d.event_id = v_event.id AND d.status = 'pending' AND d.subscription_id > p_after AND d.subscription_id <= v_last;
  RETURN jsonb_build_object('deliveries', coalesce(v_deliveries, '[]'), 'next', CASE WHEN v_full THEN v_last END);
END $$;

-- Deletes events that are older than their type is kept, with their deliveries and attempts; one step: the next p_limit
-- events after (p_at, p_after) that are old enough for any type are examined, in the order of time. From a position on,
-- because with types that are kept for longer than others, a search for what has expired would go through the same kept
-- rows for every batch. An event that is not handed out yet stays, and so does one with a delivery that is still being
-- tried. Returns {examined, purged, at, after, done}. Idempotent.
CREATE OR REPLACE FUNCTION purge_events_step(p_default_days integer, p_at timestamptz, p_after text, p_limit integer) RETURNS jsonb
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

-- What several events have to be handed out to, for each at most p_limit subscriptions in the order of their ids, beginning
-- after p_after ('' for the first). Reads only: the rows of deliveries are written by record_first_attempts, with what came
-- of them. Returns a row for every event that exists. Of one that is handed out (handed_out) its rows say all that there is
-- to do, and it has neither body nor subscriptions here. subscriptions: those without a row yet. pending: rows that an earlier
-- try has left. next: where the next step begins, NULL when there is none. schedule_ms, timeout_ms: of its type's config, NULL
-- without one.
CREATE OR REPLACE FUNCTION fan_out_steps(p_event_ids text[], p_after text, p_limit integer)
RETURNS TABLE (id text, tenant_id text, type text, sequence bigint, body text, correlation_id text, traceparent text,
  handed_out boolean, schedule_ms jsonb, timeout_ms integer, keeps_order boolean, subscriptions text[], pending uuid[], next text)
LANGUAGE plpgsql STABLE
-- A connection keeps the plans that it made while the tables were small: they must be by key from the beginning.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
  RETURN QUERY
  SELECT e.id, e.tenant_id, e.type, e.sequence, CASE WHEN e.fanned_out_at IS NULL THEN e.body END, e.correlation_id, e.traceparent,
         e.fanned_out_at IS NOT NULL, to_jsonb(nullif(c.schedule_ms, '{}')), c.timeout_ms, coalesce(c.ordered, false),
         coalesce(step.subscriptions, '{}'), coalesce(step.pending, '{}'), step.next
    -- By id alone (OFFSET 0): the index of waiting events is full of what waits no longer, until it is vacuumed.
    FROM (SELECT * FROM webhook_events w WHERE w.id = ANY(p_event_ids) OFFSET 0) AS e
    LEFT JOIN event_configs c ON c.tenant_id = e.tenant_id AND c.event_type = e.type
    LEFT JOIN LATERAL (
      SELECT array_agg(s.id ORDER BY s.id) FILTER (WHERE s.n <= p_limit AND d.id IS NULL) AS subscriptions,
             array_agg(d.id ORDER BY s.id) FILTER (WHERE s.n <= p_limit AND d.status = 'pending') AS pending,
             CASE WHEN max(s.n) > p_limit THEN max(s.id) FILTER (WHERE s.n <= p_limit) END AS next
        FROM (SELECT chosen.id, row_number() OVER (ORDER BY chosen.id) AS n FROM (
                SELECT m.subscription_id AS id FROM matching_subscriptions(e.tenant_id, e.type, event_data(e.body)) m
                 WHERE e.fanned_out_at IS NULL AND e.only_subscription_id IS NULL AND coalesce(c.enabled, true) AND m.subscription_id > p_after
                UNION ALL
                SELECT o.id FROM subscriptions o
                 WHERE e.fanned_out_at IS NULL AND o.id = e.only_subscription_id AND o.tenant_id = e.tenant_id AND o.state IN ('active', 'failing')
                   AND o.id > p_after
                ORDER BY 1 LIMIT p_limit + 1) AS chosen) AS s
        LEFT JOIN deliveries d ON d.event_id = e.id AND d.subscription_id = s.id
      ) AS step ON e.fanned_out_at IS NULL;
END $$;

-- Writes the deliveries of steps of events (fan_out_steps), once: each with its first attempt when that says that all is well
-- (delivered, to a subscription that is healthy), or as pending; and marks the events that are handed out with that.
-- p_deliveries is a list of FirstDelivery of src/domain/fan-out.ts. Idempotent by event and subscription: a delivery that is
-- there already stays as it is.
-- Returns those that were there already, with the ids that they have; and, with their own ids, those that were written
-- without the attempt that they were given with: record_delivery_attempts judges it.
CREATE OR REPLACE FUNCTION record_first_attempts(p_deliveries jsonb, p_handed_out text[])
RETURNS TABLE (delivery_id uuid, stored_id uuid) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  v_attempted uuid[];
BEGIN
  WITH given AS MATERIALIZED (
    SELECT g.*, g."startedAt" IS NOT NULL AND s.state = 'active' AND s.exhausted_since IS NULL AND s.throttle_level = 0 AS well
      FROM jsonb_to_recordset(p_deliveries) AS g (id uuid, tenant text, event text, subscription text, type text, sequence bigint,
             "laneAfterMs" double precision, "startedAt" timestamptz, "durationMs" integer, "statusCode" integer,
             "responseBody" text, url text, "requestHeaders" jsonb, "responseHeaders" jsonb)
      JOIN subscriptions s ON s.id = g.subscription),
  inserted AS (
    INSERT INTO deliveries AS d (id, tenant_id, event_id, subscription_id, event_type, sequence, status, attempts, last_status_code,
                                 finished_at, in_lane, next_attempt_at)
    SELECT g.id, g.tenant, g.event, g.subscription, g.type, g.sequence, CASE WHEN g.well THEN 'delivered' ELSE 'pending' END,
           g.well::integer, CASE WHEN g.well THEN g."statusCode" END, CASE WHEN g.well THEN now() END,
           g."laneAfterMs" IS NOT NULL, clock_timestamp() + g."laneAfterMs" * interval '1 millisecond'
      FROM given g ORDER BY g.event, g.subscription
    ON CONFLICT (event_id, subscription_id) DO NOTHING
    RETURNING d.id),
  attempted AS (
    INSERT INTO delivery_attempts AS a (delivery_id, attempt, generation, started_at, duration_ms, result, status_code, response_body,
                                        tenant_id, subscription_id, event_type, url, request_headers, response_headers)
    SELECT g.id, 1, 0, g."startedAt", g."durationMs", 'delivered', g."statusCode", g."responseBody",
           g.tenant, g.subscription, g.type, g.url, nullif(g."requestHeaders", 'null'), nullif(g."responseHeaders", 'null')
      FROM given g
     -- Looked up in a hash of them (IS TRUE): a join would compare each with each.
     WHERE g.well AND (g.id IN (SELECT i.id FROM inserted i)) IS TRUE
    RETURNING a.delivery_id AS id),
  handed_out AS (
    UPDATE webhook_events e SET fanned_out_at = coalesce(e.fanned_out_at, clock_timestamp())
      FROM unnest(p_handed_out) AS h (id) WHERE e.id = h.id)
  SELECT coalesce(array_agg(t.id), '{}') INTO v_attempted FROM attempted t;

  -- What is to be told is rare: most often all were written, with all of their attempts.
  IF cardinality(v_attempted) < jsonb_array_length(p_deliveries) THEN
    RETURN QUERY
    SELECT g.id, d.id
      FROM jsonb_to_recordset(p_deliveries) AS g (id uuid, event text, subscription text, "startedAt" text)
      JOIN deliveries d ON d.event_id = g.event AND d.subscription_id = g.subscription
     WHERE d.id <> g.id OR g."startedAt" IS NOT NULL AND g.id <> ALL(v_attempted);
  END IF;
END $$;
