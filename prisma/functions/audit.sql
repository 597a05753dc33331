-- The audit log: what someone should see. What moves an account's balance is written there by ledger_post (ledger.sql).

-- Records what moved no user's balance. p_cause names what it is about ('order:<id>'), p_details is the whole story. Not
-- idempotent: callers write it behind their own judge of duplicates.
CREATE OR REPLACE FUNCTION audit_note(p_tenant text, p_actor text, p_action text, p_cause text, p_correlation text, p_details jsonb)
RETURNS void LANGUAGE sql AS $$
  INSERT INTO audit_log (tenant_id, actor, action, cause, correlation_id, details)
  VALUES (p_tenant, p_actor, p_action, p_cause, p_correlation, p_details)
$$;
