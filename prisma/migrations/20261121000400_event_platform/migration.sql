-- The webhook platform: event types of the tenants, how events of a type are delivered, events published through the
-- API, filters of subscriptions. One fan-out rule for both ways in: emit_event and fan_out_event.

-- ---------------------------------------------------------------------------------------------- event types and configs

-- Types that a tenant defines and publishes. Those of remit itself need no row.
CREATE TABLE event_types (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  schema jsonb,
  example jsonb,
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, name)
);
CREATE INDEX event_types_tenant_id_created_at_id_idx ON event_types (tenant_id, created_at DESC, id DESC);

-- How events of one type are delivered, for remit's own types too. NULL, or an empty schedule: as the deployment is
-- configured.
CREATE TABLE event_configs (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL,
  event_type text NOT NULL,
  enabled boolean NOT NULL DEFAULT true,
  schedule_ms bigint[] NOT NULL DEFAULT '{}' CHECK (cardinality(schedule_ms) <= 50),
  timeout_ms integer CHECK (timeout_ms > 0),
  retention_days integer CHECK (retention_days > 0),
  ordered boolean NOT NULL DEFAULT false,
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, event_type)
);
CREATE INDEX event_configs_tenant_id_created_at_id_idx ON event_configs (tenant_id, created_at DESC, id DESC);

-- ---------------------------------------------------------------------------------------------- subscriptions

-- filter: [{path, op, value}], all of which must hold of the event's data. headers_ciphertext: what is sent with every
-- webhook, as encrypted JSON, because such headers often carry credentials. The previous secret still signs while its
-- time runs.
ALTER TABLE subscriptions
  ADD COLUMN filter jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(filter) = 'array'),
  ADD COLUMN header_names text[] NOT NULL DEFAULT '{}',
  ADD COLUMN headers_ciphertext bytea,
  ADD COLUMN rate_limit_per_second integer CHECK (rate_limit_per_second > 0),
  ADD COLUMN ordered boolean NOT NULL DEFAULT false,
  ADD COLUMN previous_secret_ciphertext bytea,
  ADD COLUMN previous_secret_valid_until timestamptz(3),
  ADD CONSTRAINT previous_secret_has_an_end
    CHECK ((previous_secret_ciphertext IS NULL) = (previous_secret_valid_until IS NULL));

-- ---------------------------------------------------------------------------------------------- events

-- fanned_out_at is NULL only while a published event waits for its deliveries to be written; what emit_event writes has
-- them from the start. only_subscription_id: an event for one subscription alone, whatever its types, such as a test.
ALTER TABLE webhook_events
  ADD COLUMN source text NOT NULL DEFAULT 'remit' CHECK (source IN ('remit', 'api')),
  ADD COLUMN client_id text,
  ADD COLUMN payload_hash text,
  ADD COLUMN only_subscription_id text,
  ADD COLUMN fanned_out_at timestamptz(3) DEFAULT now(),
  ADD CONSTRAINT client_id_has_a_hash CHECK (client_id IS NULL OR payload_hash IS NOT NULL);

-- The judge of repeated publications. Partial: what the money functions write is in neither index.
CREATE UNIQUE INDEX webhook_events_tenant_id_client_id_idx ON webhook_events (tenant_id, client_id)
  WHERE client_id IS NOT NULL;
CREATE INDEX webhook_events_waiting_idx ON webhook_events (tenant_id, created_at, id) WHERE fanned_out_at IS NULL;
-- For what ends by age, whatever its tenant.
CREATE INDEX webhook_events_created_at_id_idx ON webhook_events (created_at, id);

CREATE INDEX deliveries_tenant_id_created_at_id_idx ON deliveries (tenant_id, created_at DESC, id DESC);

-- The audit log as a tenant reads it: all of it, or without the balance operations.
CREATE INDEX audit_log_tenant_id_id_idx ON audit_log (tenant_id, id DESC);
CREATE INDEX audit_log_configuration_idx ON audit_log (tenant_id, id DESC) WHERE account_id IS NULL;

-- ---------------------------------------------------------------------------------------------- the fan-out rule

-- A number in a JSON number or in a string such as "100.00" (amounts are decimal strings); NULL for everything else.
CREATE FUNCTION filter_number(p jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE jsonb_typeof(p)
    WHEN 'number' THEN (p #>> '{}')::numeric
    WHEN 'string' THEN CASE WHEN p #>> '{}' ~ '^-?[0-9]{1,30}(\.[0-9]{1,30})?$' THEN (p #>> '{}')::numeric END
  END
$$;

-- -1, 0 or 1: as numbers when both are numbers (also in strings), as text byte by byte when both are strings, otherwise
-- NULL, so that no comparison holds.
CREATE FUNCTION filter_compare(p_found jsonb, p_wanted jsonb) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN filter_number(p_found) IS NOT NULL AND filter_number(p_wanted) IS NOT NULL
      THEN sign(filter_number(p_found) - filter_number(p_wanted))::integer
    WHEN jsonb_typeof(p_found) = 'string' AND jsonb_typeof(p_wanted) = 'string'
      THEN CASE WHEN (p_found #>> '{}') COLLATE "C" < (p_wanted #>> '{}') COLLATE "C" THEN -1
                WHEN (p_found #>> '{}') COLLATE "C" > (p_wanted #>> '{}') COLLATE "C" THEN 1 ELSE 0 END
  END
$$;

-- Whether every condition of a filter holds of an event's data. Paths are dotted, a whole number is an array's index. A
-- path that leads nowhere fails every condition but ne, nin and exists=false. An operation nobody knows fails: it must
-- not let through what its author wanted to keep out.
CREATE FUNCTION filter_matches(p_filter jsonb, p_data jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(bool_and(coalesce(CASE c->>'op'
      WHEN 'eq' THEN found = c->'value'
      WHEN 'ne' THEN found IS DISTINCT FROM c->'value'
      WHEN 'in' THEN jsonb_typeof(found) NOT IN ('array', 'object') AND c->'value' @> found
      WHEN 'nin' THEN found IS NULL OR jsonb_typeof(found) IN ('array', 'object') OR NOT c->'value' @> found
      WHEN 'gt' THEN filter_compare(found, c->'value') > 0
      WHEN 'gte' THEN filter_compare(found, c->'value') >= 0
      WHEN 'lt' THEN filter_compare(found, c->'value') < 0
      WHEN 'lte' THEN filter_compare(found, c->'value') <= 0
      WHEN 'prefix' THEN jsonb_typeof(found) = 'string' AND starts_with(found #>> '{}', c->>'value')
      WHEN 'exists' THEN (found IS NOT NULL) = (c->'value' IS DISTINCT FROM 'false')
      ELSE false
    END, false)), true)
    FROM (SELECT c, p_data #> string_to_array(c->>'path', '.') AS found
            FROM jsonb_array_elements(p_filter) AS c) AS conditions
$$;

-- The subscriptions that an event goes to.
CREATE FUNCTION matching_subscriptions(p_tenant text, p_type text, p_data jsonb)
RETURNS TABLE (subscription_id text, is_ordered boolean) LANGUAGE sql STABLE AS $$
  SELECT s.id, s.ordered FROM subscriptions s
   WHERE s.tenant_id = p_tenant AND s.state = 'active' AND s.event_types && event_type_patterns(p_type)
     AND (s.filter = '[]' OR filter_matches(s.filter, p_data))
$$;

-- What a delivery workflow needs to know of a delivery. What the type's config leaves open is left out, and the
-- deployment's configuration holds.
CREATE FUNCTION delivery_ref(
  p_id uuid, p_event_id text, p_subscription text, p_type text, p_ordered boolean, p_config event_configs
) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object('deliveryId', p_id, 'eventId', p_event_id, 'subscriptionId', p_subscription,
    'eventType', p_type, 'scheduleMs', to_jsonb(nullif(p_config.schedule_ms, '{}')), 'timeoutMs', p_config.timeout_ms,
    'ordered', CASE WHEN p_ordered OR p_config.ordered THEN true END))
$$;

-- As before, for subscriptions with filters and types with configs: no delivery of a type that is not enabled.
CREATE OR REPLACE FUNCTION emit_event(
  p_id text, p_tenant text, p_type text, p_aggregate text, p_aggregate_id text, p_data jsonb, p_correlation text
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_at text := iso_utc(clock_timestamp());
  v_config event_configs;
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
  SELECT * INTO v_config FROM event_configs WHERE tenant_id = p_tenant AND event_type = p_type;
  IF NOT v_config.enabled THEN RETURN '[]'; END IF;
  WITH matching AS (SELECT * FROM matching_subscriptions(p_tenant, p_type, p_data)),
  written AS (
    INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type)
    SELECT p_tenant, p_id, subscription_id, p_type FROM matching
    RETURNING id, subscription_id)
  SELECT jsonb_agg(delivery_ref(w.id, p_id, w.subscription_id, p_type, m.is_ordered, v_config)) INTO v_deliveries
    FROM written w JOIN matching m USING (subscription_id);
  RETURN coalesce(v_deliveries, '[]');
END $$;

-- Deliveries of an event that are not finished: what a repeated activity hands back after a crash.
CREATE OR REPLACE FUNCTION pending_deliveries(p_event_id text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(delivery_ref(d.id, d.event_id, d.subscription_id, d.event_type, s.ordered, c)), '[]')
    FROM deliveries d
    JOIN subscriptions s ON s.id = d.subscription_id
    LEFT JOIN event_configs c ON c.tenant_id = d.tenant_id AND c.event_type = d.event_type
   WHERE d.event_id = p_event_id AND d.status = 'pending'
$$;

-- Writes the deliveries of a published event, p_limit subscriptions at a time in the order of their ids, beginning after
-- p_after ('' for the first). Repeating a call writes nothing twice and hands back what is still pending, so that a
-- crash between writing and starting the workflows loses nothing. Once all are written, subscriptions made later get
-- nothing of it. NULL when there is no such event; otherwise {deliveries, next}: next is NULL after the last.
CREATE FUNCTION fan_out_event(p_event_id text, p_after text, p_limit integer) RETURNS jsonb LANGUAGE plpgsql AS $$
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
        FROM matching_subscriptions(v_event.tenant_id, v_event.type, v_event.body::jsonb->'data') m
       WHERE v_event.only_subscription_id IS NULL AND coalesce(v_config.enabled, true) AND m.subscription_id > p_after
      UNION ALL
      SELECT s.id FROM subscriptions s
       WHERE s.id = v_event.only_subscription_id AND s.tenant_id = v_event.tenant_id AND s.state IN ('active', 'failing')
         AND s.id > p_after
       ORDER BY 1 LIMIT p_limit),
    written AS (
      INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type)
      SELECT v_event.tenant_id, v_event.id, subscription_id, v_event.type FROM chosen ON CONFLICT DO NOTHING)
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

-- ---------------------------------------------------------------------------------------------- the end by age

-- Deletes events that are older than their type is kept, with their deliveries and attempts, the oldest first and at most
-- p_limit of them. An event with a delivery that is still being tried stays. Returns how many were deleted.
CREATE FUNCTION purge_expired_events(p_default_days integer, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_ids text[];
  v_shortest integer := least(p_default_days, (SELECT min(retention_days) FROM event_configs));
BEGIN
  SELECT array_agg(id) INTO v_ids FROM (
    SELECT e.id FROM webhook_events e
      LEFT JOIN event_configs c ON c.tenant_id = e.tenant_id AND c.event_type = e.type
     WHERE e.created_at < now() - make_interval(days => v_shortest)
       AND e.created_at < now() - make_interval(days => coalesce(c.retention_days, p_default_days))
       AND e.fanned_out_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM deliveries d WHERE d.event_id = e.id AND d.status = 'pending')
     ORDER BY e.created_at, e.id LIMIT p_limit FOR UPDATE OF e SKIP LOCKED) AS expired;
  DELETE FROM delivery_attempts USING deliveries d WHERE delivery_id = d.id AND d.event_id = ANY(v_ids);
  DELETE FROM deliveries WHERE event_id = ANY(v_ids);
  DELETE FROM webhook_events WHERE id = ANY(v_ids);
  RETURN coalesce(cardinality(v_ids), 0);
END $$;
