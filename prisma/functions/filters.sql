-- Which subscriptions an event goes to: type patterns and filters. The same rules in TypeScript, for checking what a tenant
-- sends, are in src/contracts/webhooks.ts.

-- What filters see of an event's body. Numbers are numeric here, as they were written. jsonb holds no NUL and no half of a
-- surrogate pair; a body may have them, as escapes: for filters they are left out.
CREATE OR REPLACE FUNCTION event_data(p_body text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT (CASE WHEN p_body ~ '\\u(0000|[dD][89abcdefABCDEF])'
    THEN regexp_replace(p_body,
      '(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][cdefCDEF][0-9a-fA-F]{2})|\\u(?:0000|[dD][89abcdefABCDEF][0-9a-fA-F]{2})', '\1', 'g')
    ELSE p_body END)::jsonb -> 'data'
$$;

-- The patterns of subscriptions that match an event type: payment.succeeded → {*, payment.succeeded, payment.*}.
CREATE OR REPLACE FUNCTION event_type_patterns(p_type text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
  SELECT ARRAY['*', p_type] || ARRAY(
    SELECT array_to_string((string_to_array(p_type, '.'))[1:n], '.') || '.*'
      FROM generate_series(1, cardinality(string_to_array(p_type, '.')) - 1) AS n)
$$;

-- Whether one of the patterns matches an event type: those above, and those with * for one segment in the middle (a.*.c).
-- Asked for each subscription of each event, so that what is cheap and mostly right is asked first.
CREATE OR REPLACE FUNCTION event_type_wanted(p_patterns text[], p_type text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF p_type = ANY(p_patterns) OR '*' = ANY(p_patterns) THEN RETURN true; END IF;
  RETURN p_patterns && event_type_patterns(p_type) OR EXISTS (
    SELECT FROM unnest(p_patterns) AS pattern
     WHERE pattern LIKE '%*.%'
       AND p_type ~ ('^' || replace(replace(replace(regexp_replace(pattern, '\*$', '>'), '.', '\.'), '*', '[^.]+'), '>', '.+') || '$'));
END $$;

-- A number in a JSON number or in a string such as "100.00" (amounts are decimal strings); NULL for everything else.
CREATE OR REPLACE FUNCTION filter_number(p jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE jsonb_typeof(p)
    WHEN 'number' THEN (p #>> '{}')::numeric
    WHEN 'string' THEN CASE WHEN p #>> '{}' ~ '^-?[0-9]{1,30}(\.[0-9]{1,30})?$' THEN (p #>> '{}')::numeric END
  END
$$;

-- -1, 0 or 1: as numbers when both are numbers (also in strings), as text byte by byte when both are strings, otherwise
-- NULL, so that no comparison holds.
CREATE OR REPLACE FUNCTION filter_compare(p_found jsonb, p_wanted jsonb) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
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
CREATE OR REPLACE FUNCTION filter_matches(p_filter jsonb, p_data jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
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

-- The subscriptions of a tenant that take events and want this one.
CREATE OR REPLACE FUNCTION matching_subscriptions(p_tenant text, p_type text, p_data jsonb)
RETURNS TABLE (subscription_id text, is_ordered boolean) LANGUAGE sql STABLE AS $$
  SELECT s.id, s.ordered FROM subscriptions s
   WHERE s.tenant_id = p_tenant AND s.state IN ('active', 'failing') AND event_type_wanted(s.event_types, p_type)
     AND (s.filter = '[]' OR filter_matches(s.filter, p_data))
$$;
