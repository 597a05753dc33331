-- Runs of reconciliation: how they are kept, and how a scheduled one tells the operator.

-- Keeps a run, and forgets those that are older than p_kept_days. p: id, tenant (null: all), at, durationMs, clean, found,
-- startedBy, report (Reconciliation of src/contracts/accounts.ts). Idempotent by id.
-- With p_operator, the tenant of whoever operates the installation, a run over all tenants is compared with the one before it:
-- a check that differs and did not differ then is announced as reconciliation.differs, and the end of all differences as
-- reconciliation.clean. A difference that lasts is announced once. Names and counts only: whose accounts they are is in the run.
CREATE OR REPLACE FUNCTION keep_reconciliation_run(p jsonb, p_kept_days integer, p_operator text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_before text[];
  v_before_at timestamptz;
  v_now text[];
  v_type text;
BEGIN
  -- Two runs at once would compare with the same one.
  PERFORM pg_advisory_xact_lock(hashtextextended('reconciliation_runs', 0));
  DELETE FROM reconciliation_runs WHERE created_at < now() - make_interval(days => p_kept_days);
  SELECT differing_checks(report), created_at INTO v_before, v_before_at FROM reconciliation_runs
   WHERE tenant_id IS NULL AND id <> (p->>'id')::uuid ORDER BY created_at DESC, id DESC LIMIT 1;
  INSERT INTO reconciliation_runs (id, tenant_id, at, duration_ms, clean, found, started_by, report, created_at)
  VALUES ((p->>'id')::uuid, p->>'tenant', (p->>'at')::timestamptz, (p->>'durationMs')::integer, (p->>'clean')::boolean,
          (p->>'found')::bigint, p->>'startedBy', p->'report',
          -- Times are kept to the millisecond, and tell which run was before.
          greatest(clock_timestamp(), v_before_at + interval '1 millisecond'))
  ON CONFLICT (id) DO NOTHING;
  IF NOT FOUND OR p_operator IS NULL OR p->>'tenant' IS NOT NULL THEN RETURN; END IF;
  v_now := differing_checks(p->'report');
  v_type := CASE WHEN NOT v_now <@ coalesce(v_before, '{}') THEN 'reconciliation.differs'
                 WHEN v_now = '{}' AND v_before <> '{}' THEN 'reconciliation.clean' END;
  IF v_type IS NULL THEN RETURN; END IF;
  PERFORM announce_event(new_event_id(), p_operator, v_type, 'reconciliation', p->>'id',
    jsonb_build_object('runId', p->>'id', 'at', iso_utc((p->>'at')::timestamptz), 'found', (p->>'found')::bigint,
      'checks', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', c->>'name', 'rule', c->>'rule', 'found', c->'found')
                   ORDER BY c->>'name'), '[]')
                   FROM jsonb_array_elements(p->'report'->'checks') AS c WHERE (c->>'found')::bigint > 0)),
    p->>'id');
END $$;

-- The checks of a report that have found something, by name.
CREATE OR REPLACE FUNCTION differing_checks(p_report jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(array_agg(c->>'name' ORDER BY c->>'name'), '{}')
    FROM jsonb_array_elements(p_report->'checks') AS c WHERE (c->>'found')::bigint > 0
$$;
