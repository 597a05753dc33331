-- What is left of the requests that a tenant or a user may make, for all processes of the API together.

-- Takes p_asked[i] requests of the window of p_keys[i] that began at p_starts[i], and says how many of it were taken before.
-- The caller knows the limit: what goes beyond it is not given. Not idempotent: a call that was repeated has taken twice.
-- Also deletes windows that ended long ago (none is longer than an hour), more of them than it makes.
CREATE OR REPLACE FUNCTION take_requests(p_keys text[], p_starts timestamptz[], p_asked bigint[])
RETURNS TABLE (key text, starts_at timestamptz, used_before bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  DELETE FROM rate_limit_windows WHERE (key, starts_at) IN (
    SELECT key, starts_at FROM rate_limit_windows WHERE starts_at < now() - interval '2 hours'
     ORDER BY starts_at LIMIT 2 * cardinality(p_keys) FOR UPDATE SKIP LOCKED);
  -- In the order of the keys, so that two calls never wait for each other.
  RETURN QUERY
    WITH asked AS (
      SELECT a.key, a.starts_at, sum(a.asked)::bigint AS used
        FROM unnest(p_keys, p_starts, p_asked) AS a (key, starts_at, asked)
       GROUP BY a.key, a.starts_at
    ), taken AS (
      INSERT INTO rate_limit_windows AS w (key, starts_at, used)
      SELECT key, starts_at, used FROM asked ORDER BY key, starts_at
      ON CONFLICT (key, starts_at) DO UPDATE SET used = w.used + excluded.used
      RETURNING w.key, w.starts_at, w.used
    )
    SELECT key, starts_at, taken.used - asked.used FROM taken JOIN asked USING (key, starts_at);
END $$;
