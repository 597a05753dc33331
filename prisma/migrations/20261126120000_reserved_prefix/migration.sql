-- Types that remit itself emits have the prefix remit. from now on (ADR 0025). Nobody else could have types of these
-- families before, so that whatever names one means remit's. Bodies stay as they were sent.
CREATE FUNCTION pg_temp.prefixed(p_type text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN split_part(p_type, '.', 1) IN ('payment', 'payout', 'order', 'dispute', 'subscription', 'webhook')
    THEN 'remit.' || p_type ELSE p_type END
$$;

UPDATE subscriptions SET event_types = (SELECT array_agg(pg_temp.prefixed(t) ORDER BY n) FROM unnest(event_types) WITH ORDINALITY AS e (t, n))
 WHERE EXISTS (SELECT FROM unnest(event_types) AS t WHERE pg_temp.prefixed(t) <> t);
UPDATE replays SET event_types = (SELECT array_agg(pg_temp.prefixed(t) ORDER BY n) FROM unnest(event_types) WITH ORDINALITY AS e (t, n))
 WHERE EXISTS (SELECT FROM unnest(event_types) AS t WHERE pg_temp.prefixed(t) <> t);
UPDATE event_configs SET event_type = pg_temp.prefixed(event_type) WHERE pg_temp.prefixed(event_type) <> event_type;
UPDATE webhook_events SET type = pg_temp.prefixed(type) WHERE pg_temp.prefixed(type) <> type;
UPDATE deliveries SET event_type = pg_temp.prefixed(event_type) WHERE pg_temp.prefixed(event_type) <> event_type;
