-- What was sent and answered in an attempt, and attempts across deliveries.

-- url, request_headers: of the request, what can't be told from the delivery and the time: where it went, who sent it, the names of
-- the subscription's own headers and the beginnings of the signatures. response_headers: of the answer; NULL without one. All
-- masked before they are written (src/webhooks/shown-headers.ts), and at most 8 KB. tenant_id, subscription_id and event_type are
-- the delivery's; NULL in rows that a version before this one has written since.
ALTER TABLE delivery_attempts
  ADD COLUMN tenant_id text,
  ADD COLUMN subscription_id text,
  ADD COLUMN event_type text,
  ADD COLUMN url text,
  ADD COLUMN request_headers jsonb,
  ADD COLUMN response_headers jsonb;
UPDATE delivery_attempts a SET tenant_id = d.tenant_id, subscription_id = d.subscription_id, event_type = d.event_type
  FROM deliveries d WHERE d.id = a.delivery_id;

-- Attempts of a tenant and of a subscription in the order of time; they come in that order, so that each index grows at its end.
-- Failures are looked for among many that went well: their own indexes cost nothing until something fails.
CREATE INDEX delivery_attempts_tenant_idx ON delivery_attempts (tenant_id, started_at, delivery_id, attempt);
CREATE INDEX delivery_attempts_subscription_idx ON delivery_attempts (subscription_id, started_at, delivery_id, attempt);
CREATE INDEX delivery_attempts_tenant_failed_idx ON delivery_attempts (tenant_id, started_at, delivery_id, attempt) WHERE result <> 'delivered';
CREATE INDEX delivery_attempts_subscription_failed_idx ON delivery_attempts (subscription_id, started_at, delivery_id, attempt) WHERE result <> 'delivered';
DROP INDEX delivery_attempts_started_at_idx;
