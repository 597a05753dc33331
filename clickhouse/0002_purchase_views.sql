-- What dashboards ask for, kept up by materialized views. They see what an insert brings: with the batch tokens every
-- row once; an event that a producer repeats counts again here, and once in purchases_once.

CREATE TABLE IF NOT EXISTS revenue_daily (
  day Date,
  provider LowCardinality(String),
  currency LowCardinality(String),
  status Enum8('pending' = 1, 'completed' = 2, 'failed' = 3, 'refunded' = 4),
  purchases UInt64,
  amount Decimal(38, 4)
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, provider, currency, status)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS revenue_daily_view TO revenue_daily AS
SELECT toDate(createdAt) AS day, provider, currency, status, count() AS purchases, sum(purchases.amount) AS amount
FROM purchases
GROUP BY day, provider, currency, status;

CREATE TABLE IF NOT EXISTS products_daily (
  day Date,
  productId LowCardinality(String),
  currency LowCardinality(String),
  purchases UInt64,
  amount Decimal(38, 4)
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, currency, productId)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS products_daily_view TO products_daily AS
SELECT toDate(createdAt) AS day, productId, currency, count() AS purchases, sum(purchases.amount) AS amount
FROM purchases
WHERE status = 'completed'
GROUP BY day, productId, currency;

-- From the Kafka message to the row, by the minute of storing. Whole seconds: storedAt has no finer grain.
CREATE TABLE IF NOT EXISTS ingest_lag (
  minute DateTime('UTC'),
  kafkaTopic LowCardinality(String),
  kafkaPartition UInt16,
  rows SimpleAggregateFunction(sum, UInt64),
  lagSecondsSum SimpleAggregateFunction(sum, UInt64),
  lagSecondsMax SimpleAggregateFunction(max, UInt64),
  lastOffset SimpleAggregateFunction(max, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, kafkaTopic, kafkaPartition)
TTL minute + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS ingest_lag_view TO ingest_lag AS
SELECT
  toStartOfMinute(storedAt) AS minute,
  kafkaTopic,
  kafkaPartition,
  count() AS rows,
  sum(toUInt64(greatest(0, toInt64(toUnixTimestamp(storedAt)) - intDiv(toUnixTimestamp64Milli(queuedAt), 1000)))) AS lagSecondsSum,
  max(toUInt64(greatest(0, toInt64(toUnixTimestamp(storedAt)) - intDiv(toUnixTimestamp64Milli(queuedAt), 1000)))) AS lagSecondsMax,
  max(kafkaOffset) AS lastOffset
FROM purchases
GROUP BY minute, kafkaTopic, kafkaPartition;
