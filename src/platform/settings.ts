/**
 * What operators need not decide: sizes of steps, pauses and intervals that are right for every installation, because they
 * follow from how the code works and not from where it runs. They are part of the configuration object, so that a test may have
 * others; no variable sets them, and one that tries is refused. What nobody could choose better is a constant next to its code
 * instead.
 */
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

export const SETTINGS = {
  // HTTP: limits of single requests, which no load changes.
  /** Longest wait for one dependency in /readyz. */
  READINESS_TIMEOUT_MS: 2_000,
  /**
   * Requests that a process works on at once, open streams among them; more are refused. Its connections to the database work on
   * 26: what waits behind a thousand others is answered late or not at all, and every further one makes it later for all.
   */
  API_REQUESTS_IN_FLIGHT_MAX: 1_000,
  /** New requests are refused while the event loop is later than this on average: nothing is answered in less than three turns. */
  API_EVENT_LOOP_DELAY_MAX_MS: 2_000,
  /** Largest page of a list. */
  API_PAGE_SIZE_MAX_ROWS: 200,
  /** A request that has not answered for this long may be executed again under its key. */
  IDEMPOTENCY_LEASE_MS: 5_000,
  /** Expired keys deleted in one statement. */
  IDEMPOTENCY_PURGE_ROWS: 5_000,
  /** A session of the console ends after so long without use. */
  CONSOLE_SESSION_IDLE_MS: 30 * MINUTE,
  /** It ends after so long in any case, so that what the issuer takes away holds here by then. */
  CONSOLE_SESSION_MAX_MS: 12 * HOUR,

  // PostgreSQL and money: measured together (docs/benchmarks.md): conflicts are many and short, so pauses are of milliseconds.
  /** A connection on which nothing happens is probed (TCP keepalive) after this long. */
  DATABASE_KEEPALIVE_MS: 10_000,
  /** Tries of one money transaction on serialization conflicts. */
  MONEY_RETRY_MAX_ATTEMPTS: 25,
  /** Base of the full-jitter back-off between these tries. */
  MONEY_RETRY_BASE_MS: 2,
  /** Cap of that back-off. */
  MONEY_RETRY_CAP_MS: 200,
  /** Movements of one account that may wait for each other in one process; more are refused. */
  MONEY_QUEUE_CALLS: 10_000,
  /** Waiting movements of one account that share a transaction. */
  MONEY_BATCH_CALLS: 16,

  // Schedules: often enough that nobody has to wait, in steps that hold no lock for long; each may be missed, and is caught up.
  /** How often the schedule looks for overdue orders, and payments that no workflow expired, and purges idempotency keys. */
  EXPIRY_INTERVAL_MS: MINUTE,
  /** How long after its time a payment is left to its own workflow, and an order to its provider’s webhook. */
  EXPIRY_GRACE_MS: 2 * MINUTE,
  /** Payments or orders in one step of that. */
  EXPIRY_BATCH_ROWS: 200,
  /** Longest reconciliation. */
  RECONCILIATION_TIMEOUT_MS: 10 * MINUTE,
  /** Findings listed of one check; all are counted. */
  RECONCILIATION_FINDINGS_MAX: 20,
  /** How often the schedule looks for replays, and deliveries sent again, whose workflow was never started. */
  RECOVERY_INTERVAL_MS: MINUTE,
  /** How often the schedule deletes events that are older than EVENT_RETENTION_DAYS. */
  EVENT_RETENTION_INTERVAL_MS: HOUR,
  /** Events that it looks at in one step. */
  EVENT_RETENTION_BATCH_ROWS: 500,

  // Kafka, bridge and relay: sized so that one partition costs a few megabytes and an idle process next to nothing.
  /** Largest number of messages in one request. */
  KAFKA_PRODUCER_BATCH_MESSAGES: 500,
  /** Messages of one topic waiting in memory; more are refused. */
  KAFKA_PRODUCER_QUEUE_MESSAGES: 20_000,
  /** Bytes of one topic waiting in memory; more are refused. */
  KAFKA_PRODUCER_QUEUE_BYTES: 67_108_864,
  /** How often consumer lag is measured. */
  KAFKA_LAG_INTERVAL_MS: 15_000,
  /** Messages of one partition held in memory; then it is paused. */
  BRIDGE_BUFFER_MESSAGES: 2_000,
  /** Bytes of one partition held in memory; then it is paused. */
  BRIDGE_BUFFER_BYTES: 4_194_304,
  /** Longest wait for Temporal to take one event. */
  BRIDGE_START_TIMEOUT_MS: 10_000,
  /** Pause between two commits of offsets. */
  BRIDGE_COMMIT_INTERVAL_MS: 50,
  /** Longest time a broker holds back an empty answer. */
  BRIDGE_FETCH_WAIT_MS: 100,
  /** First pause when Temporal does not take an event. */
  BRIDGE_RETRY_BASE_MS: 200,
  /** Longest such pause. */
  BRIDGE_RETRY_CAP_MS: 10_000,
  /** Pause of the relay when the outbox is empty. */
  RELAY_POLL_INTERVAL_MS: 25,
  /** First pause when PostgreSQL or Kafka is not there. */
  RELAY_RETRY_BASE_MS: 100,
  /** Longest such pause. */
  RELAY_RETRY_CAP_MS: 5_000,
  /** A relay that PostgreSQL has not heard of for this long inside a round loses its turn to another. */
  RELAY_TURN_TIMEOUT_MS: 15_000,
  /** So does one whose round takes this long, though it is heard of. */
  RELAY_ROUND_MAX_MS: 120_000,
  /** How often the outbox is counted for metrics. */
  RELAY_METRICS_INTERVAL_MS: 15_000,

  // Webhooks out and events: what a subscriber may cost the others; what it is told is in docs/webhooks.md.
  /** How much of a subscriber’s answer is kept. */
  WEBHOOK_RESPONSE_MAX_BYTES: 16_384,
  /** Longest wait for a DNS server at first; one that is known to answer fast is given a second. */
  WEBHOOK_DNS_TIMEOUT_MS: 2_000,
  /** How often a DNS server is asked for one name; all of it counts as part of the handshake. */
  WEBHOOK_DNS_TRIES: 4,
  /** A subscriber whose last answer took this long is slow; the slow ones together get half of the attempts. */
  WEBHOOK_SLOW_AFTER_MS: 2_000,
  /** Events or deliveries in one step of a replay. */
  WEBHOOK_REPLAY_BATCH_ROWS: 100,
  /** Subscribers whose connections are kept open. */
  WEBHOOK_ORIGINS_MAX: 1_000,
  /** Compiled JSON Schemas kept by each thread that checks events. */
  EVENT_SCHEMA_CACHE_ENTRIES: 1_000,
  /** Subscriptions that one event is handed out to in one step. */
  EVENT_FANOUT_BATCH_ROWS: 100,

  // Ingest: measured (docs/benchmarks.md): beyond these, neither Kafka nor ClickHouse gets faster.
  /** After ClickHouse refused a row, pass-through checks every message for this long. */
  INGEST_DISTRUST_MS: 60_000,
  /** Closed batches of one partition that wait or are being stored; then it is paused. */
  INGEST_BATCHES_AHEAD: 4,
  /** Bytes of one partition in one fetch. */
  INGEST_FETCH_BYTES: 1_048_576,
  /** Longest time a broker holds back an empty answer. */
  INGEST_FETCH_WAIT_MS: 50,
  /** Offsets of stored batches are committed this often. */
  INGEST_COMMIT_INTERVAL_MS: 200,
  /** First pause when ClickHouse or Kafka is down or full. */
  INGEST_RETRY_BASE_MS: 200,
  /** Longest such pause. */
  INGEST_RETRY_CAP_MS: 10_000,
};

export type Settings = typeof SETTINGS;

interface Decided {
  DATABASE_STATEMENT_TIMEOUT_MS: number;
  KAFKA_PRODUCER_BATCH_BYTES: number;
  KAFKA_PRODUCE_TIMEOUT_MS: number;
  WEBHOOK_CONCURRENT_ATTEMPTS: number;
  KAFKA_TOPIC_PREFIX: string;
  TOPIC_PURCHASES: string;
}

/** What follows from what an operator has decided. */
export function derivedSettings(decided: Decided) {
  const topic = (name: string) => decided.KAFKA_TOPIC_PREFIX + name;
  return {
    /**
     * A connection that has not answered a statement for this long is given up as dead: the server gives up first, and its answer
     * has a second to arrive.
     */
    DATABASE_ANSWER_TIMEOUT_MS: decided.DATABASE_STATEMENT_TIMEOUT_MS + 1_000,
    /**
     * A broker that has not answered for this long is given up, and another asked who took its place: after it has had its time
     * to wait for its replicas, and after the others have had theirs to elect a leader.
     */
    KAFKA_REQUEST_TIMEOUT_MS: Math.max(10_000, decided.KAFKA_PRODUCE_TIMEOUT_MS) + 5_000,
    /** One round of the relay is one request to the brokers. */
    RELAY_BATCH_BYTES: decided.KAFKA_PRODUCER_BATCH_BYTES,
    /** As many as there are attempts, so that none waits for a connection: what one subscriber gets is bounded before. */
    WEBHOOK_CONNECTIONS_PER_ORIGIN: decided.WEBHOOK_CONCURRENT_ATTEMPTS,
    TOPIC_WEBHOOKS_ORDERS: topic('webhooks.orders'),
    TOPIC_WEBHOOKS_DISPUTES: topic('webhooks.disputes'),
    TOPIC_PAYMENT_REQUEST: topic('payment-request'),
    TOPIC_PAYMENT_STATUS: topic('payment-status'),
    TOPIC_EVENTS: topic('events'),
    TOPIC_DOMAIN_EVENTS: topic('domain.events'),
    TOPIC_WEBHOOK_DELIVERY_DLQ: topic('webhook.delivery.dlq'),
    TOPIC_PURCHASES_DLQ: `${decided.TOPIC_PURCHASES}.dlq`,
  };
}

export type Derived = ReturnType<typeof derivedSettings>;
