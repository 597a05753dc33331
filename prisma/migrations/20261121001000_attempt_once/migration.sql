-- Two tries of one attempt can overlap: a worker that Temporal takes for dead goes on with its own while another makes it
-- anew. The first record stands; the second one is told, and goes by what is stored instead of by what it met.
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
