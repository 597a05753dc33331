-- How values are written in events, answers and messages: times, and amounts in major units.

-- A time in RFC 3339, UTC, with milliseconds: 2026-11-21T10:00:00.000Z. NULL stays NULL.
CREATE OR REPLACE FUNCTION iso_utc(p_at timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- Minor units as a decimal string in major units: 10000 TRY is 100.00. Raises no_data_found for a currency that is not in
-- `currencies`.
CREATE OR REPLACE FUNCTION format_minor(p_minor bigint, p_currency text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_exponent integer;
  v_digits text := abs(p_minor)::text;
BEGIN
  SELECT exponent INTO STRICT v_exponent FROM currencies WHERE code = p_currency;
  v_digits := lpad(v_digits, greatest(length(v_digits), v_exponent + 1), '0');
  RETURN CASE WHEN p_minor < 0 THEN '-' ELSE '' END
    || left(v_digits, length(v_digits) - v_exponent)
    || CASE WHEN v_exponent > 0 THEN '.' || right(v_digits, v_exponent) ELSE '' END;
END $$;
