-- Replays: sending a subscription again what it has missed, or what an operator asks for.

-- One step of a replay: at most p_limit rows after the position (p_at, p_after), in order of time. Returns {deliveries,
-- at, after, examined, done, stopped}. Idempotent: repeating a step opens nothing twice and hands back what is still
-- pending. Raises no_data_found for an unknown replay.
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
      SELECT e.id, e.type, e.created_at, e.body, e.only_subscription_id FROM webhook_events e
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
