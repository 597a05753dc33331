-- cancel: pending deliveries of the time, of one subscription or all of the tenant, end without another attempt.
-- event_id: of a retry or cancel, only that event's.
ALTER TABLE replays ADD COLUMN event_id text;
ALTER TABLE replays DROP CONSTRAINT replays_kind_check;
ALTER TABLE replays ADD CONSTRAINT replays_kind_check CHECK (kind IN ('failed', 'all', 'missed', 'retry', 'cancel'));
ALTER TABLE replays DROP CONSTRAINT retry_alone_is_of_a_tenant;
ALTER TABLE replays ADD CONSTRAINT retry_and_cancel_alone_are_of_a_tenant
  CHECK (subscription_id IS NOT NULL OR kind IN ('retry', 'cancel'));
