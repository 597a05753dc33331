-- remit: outside a transaction
-- Attempts of one type, which may be rare, across deliveries. They come in the order of time, so that each type's part grows at its end.
CREATE INDEX CONCURRENTLY IF NOT EXISTS delivery_attempts_tenant_type_idx ON delivery_attempts (tenant_id, event_type, started_at, delivery_id, attempt);
