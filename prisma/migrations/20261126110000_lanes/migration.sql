-- The order of publication, and what waits for its subscription (docs/adr/0024).

-- Given by the statement that publishes: an event whose publication was answered before another's was asked for comes first.
CREATE SEQUENCE webhook_events_sequence_seq;
ALTER TABLE webhook_events ADD COLUMN sequence bigint;
UPDATE webhook_events e SET sequence = o.sequence
  FROM (SELECT id, nextval('webhook_events_sequence_seq') AS sequence FROM (SELECT id FROM webhook_events ORDER BY created_at, id) AS old) AS o
 WHERE e.id = o.id;
ALTER TABLE webhook_events ALTER COLUMN sequence SET DEFAULT nextval('webhook_events_sequence_seq'), ALTER COLUMN sequence SET NOT NULL;
ALTER SEQUENCE webhook_events_sequence_seq OWNED BY webhook_events.sequence;
-- What is not handed out yet, in the order in which ordered subscriptions wait for it.
DROP INDEX webhook_events_waiting_idx;
CREATE INDEX webhook_events_waiting_idx ON webhook_events (tenant_id, sequence) WHERE fanned_out_at IS NULL;

-- sequence: its event's. in_lane: it waits in its subscription's lane, which attempts it; otherwise its first attempt is
-- under way, or its delivery workflow has the next one. next_attempt_at: when that is, at the earliest; in a lane, 'epoch'
-- is for what somebody asked for: before all others, and without waiting for the subscriber's rest.
ALTER TABLE deliveries
  ADD COLUMN sequence bigint NOT NULL DEFAULT 0,
  ADD COLUMN in_lane boolean NOT NULL DEFAULT false,
  ADD COLUMN next_attempt_at timestamptz(3);
UPDATE deliveries d SET sequence = e.sequence FROM webhook_events e WHERE e.id = d.event_id AND d.status IN ('pending', 'held');
CREATE INDEX deliveries_lane_order_idx ON deliveries (subscription_id, sequence) WHERE in_lane AND status = 'pending';
CREATE INDEX deliveries_lane_due_idx ON deliveries (subscription_id, next_attempt_at, sequence) WHERE in_lane AND status = 'pending';
CREATE INDEX deliveries_lane_ended_idx ON deliveries (subscription_id) WHERE in_lane AND status <> 'pending';

-- looks_at: when the lane's workflow looked last, or will look next. heeds_work: what is new may go before that.
CREATE TABLE subscription_lanes (
  subscription_id text PRIMARY KEY REFERENCES subscriptions,
  looks_at timestamptz NOT NULL DEFAULT 'infinity',
  heeds_work boolean NOT NULL DEFAULT true
) WITH (fillfactor = 50);

-- retry: deliveries in one of `statuses`, of one subscription or of all of the tenant's.
ALTER TABLE replays ALTER COLUMN subscription_id DROP NOT NULL;
ALTER TABLE replays ADD COLUMN statuses text[] NOT NULL DEFAULT '{}';
ALTER TABLE replays DROP CONSTRAINT replays_kind_check;
ALTER TABLE replays ADD CONSTRAINT replays_kind_check CHECK (kind IN ('failed', 'all', 'missed', 'retry'));
ALTER TABLE replays ADD CONSTRAINT retry_alone_is_of_a_tenant CHECK (subscription_id IS NOT NULL OR kind = 'retry');

DO $$
BEGIN
  GRANT USAGE ON SEQUENCE webhook_events_sequence_seq TO remit_app;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
  RAISE NOTICE 'remit_app was not given its rights: %', SQLERRM;
END $$;
