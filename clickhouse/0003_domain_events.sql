-- Every state change of an aggregate (topic domain.events), through the same batches and tokens as purchases.
CREATE TABLE IF NOT EXISTS domain_events (
  id String,
  type LowCardinality(String),
  aggregate LowCardinality(String),
  aggregateId String,
  tenantId LowCardinality(String),
  occurredAt DateTime64(3, 'UTC'),
  correlationId Nullable(String),
  data String COMMENT 'JSON' CODEC(ZSTD),
  kafkaTopic LowCardinality(String) DEFAULT 'domain.events',
  kafkaPartition UInt16,
  kafkaOffset UInt64 CODEC(Delta, LZ4),
  queuedAt DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  storedAt DateTime('UTC') DEFAULT now()
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurredAt)
ORDER BY (aggregate, aggregateId, occurredAt, id)
TTL storedAt + INTERVAL 5 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

CREATE VIEW IF NOT EXISTS domain_events_once AS SELECT * FROM domain_events FINAL;
