-- Outbox rows that Kafka will never take (a topic nobody knows, larger than the brokers allow). The relay moves them
-- here, so that they hold back nothing; `reason` says why. To send one again, mend it and insert it into outbox.
CREATE TABLE outbox_refused (
  id bigint PRIMARY KEY,
  topic text NOT NULL,
  key text NOT NULL,
  value text NOT NULL,
  headers jsonb NOT NULL,
  created_at timestamptz(3) NOT NULL,
  refused_at timestamptz(3) NOT NULL DEFAULT now(),
  reason text NOT NULL
);

-- A queue's table: rows live for milliseconds. Vacuum by dead rows, not by a share of a size that is always small.
ALTER TABLE outbox SET (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 100000
);
