-- Purchase events, one row each. Names are those of the message's fields: its bytes go in as they came.
--
-- A batch carries an insert deduplication token (log:partition:first-last); the window is the number of parts whose
-- tokens ClickHouse remembers. ReplacingMergeTree is the backstop: rows of one event id are one row under FINAL, and in
-- the end in the table. The partition must be a function of the row alone: a batch that is repeated has to meet its
-- earlier attempt in the same partition.
CREATE TABLE IF NOT EXISTS purchases (
  id UUID,
  userId String,
  productId LowCardinality(String),
  amount Decimal(18, 4),
  currency LowCardinality(String),
  status Enum8('pending' = 1, 'completed' = 2, 'failed' = 3, 'refunded' = 4),
  provider LowCardinality(String),
  createdAt DateTime64(3, 'UTC'),
  processedAt DateTime64(3, 'UTC'),
  kafkaTopic LowCardinality(String) DEFAULT 'purchases',
  kafkaPartition UInt16,
  kafkaOffset UInt64 CODEC(Delta, LZ4),
  queuedAt DateTime64(3, 'UTC') COMMENT 'timestamp of the Kafka message' CODEC(Delta, LZ4),
  storedAt DateTime('UTC') DEFAULT now() COMMENT 'when ClickHouse took it',
  CONSTRAINT amount_positive CHECK amount > 0,
  CONSTRAINT user_given CHECK notEmpty(userId),
  CONSTRAINT product_given CHECK notEmpty(productId),
  CONSTRAINT provider_given CHECK notEmpty(provider),
  CONSTRAINT currency_known CHECK currency IN (@currencies@),
  CONSTRAINT created_in_range CHECK createdAt >= '2000-01-01 00:00:00' AND createdAt < '2100-01-01 00:00:00'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(createdAt)
PRIMARY KEY (provider, currency, createdAt)
ORDER BY (provider, currency, createdAt, id)
TTL storedAt + INTERVAL 5 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

-- Each event once, whatever a producer or an operator repeated.
CREATE VIEW IF NOT EXISTS purchases_once AS SELECT * FROM purchases FINAL;
