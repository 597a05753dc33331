-- remit: outside a transaction
-- Deliveries of one type to one subscription, which may be rare among what it gets: the filter by type of the portal, and of the list.
CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_subscription_type_idx ON deliveries (subscription_id, event_type, created_at DESC, id DESC);
