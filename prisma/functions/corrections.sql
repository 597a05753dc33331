-- Corrections of an account that reconciliation, or a provider's statement, asks for: by two persons.

-- Who an actor of the audit log is, whichever way in was taken: `console:ayse` and `token:ayse` are one person.
CREATE OR REPLACE FUNCTION person_of(p_actor text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT regexp_replace(p_actor, '^(console|token):', '')
$$;

-- Posts a proposed correction, against the system account `corrections`. p: tenantId, id, actor, comment, correlationId.
-- Returns {outcome: ok | not_found | decided | same_person | insufficient_funds | account_missing | currency_mismatch}.
-- Repeated by the same person, it answers ok and books nothing.
CREATE OR REPLACE FUNCTION post_correction(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_correction corrections;
  v_currency text;
  v_posted text;
BEGIN
  PERFORM require_serializable();
  SELECT * INTO v_correction FROM corrections WHERE id = (p->>'id')::uuid AND tenant_id = p->>'tenantId' FOR UPDATE;
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'not_found'); END IF;
  IF v_correction.status <> 'proposed' THEN
    RETURN jsonb_build_object('outcome',
      CASE WHEN v_correction.status = 'posted' AND v_correction.decided_by = p->>'actor' THEN 'ok' ELSE 'decided' END);
  END IF;
  IF person_of(v_correction.proposed_by) = person_of(p->>'actor') THEN
    RETURN jsonb_build_object('outcome', 'same_person');
  END IF;

  SELECT currency INTO v_currency FROM accounts
   WHERE id = v_correction.account_id AND tenant_id = v_correction.tenant_id;
  v_posted := ledger_post(v_correction.tenant_id, 'correction', 'correction:' || v_correction.id, v_currency,
    ARRAY[(v_correction.account_id, NULL, v_correction.amount_minor, 0)::ledger_line,
          (NULL, 'corrections', -v_correction.amount_minor, 0)::ledger_line], p->>'actor', p->>'correlationId');
  IF v_posted = 'ok' THEN
    UPDATE corrections
       SET status = 'posted', decided_by = p->>'actor', decided_at = clock_timestamp(), comment = p->>'comment'
     WHERE id = v_correction.id;
  END IF;
  RETURN jsonb_build_object('outcome', v_posted);
END $$;
