import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Every metric of remit, in one place: names, units and labels are the contract with dashboards and alerts. */
export const registry = new Registry();
/**
 * Node measures the delay of the event loop (`nodejs_eventloop_lag_…`) by waking up this often, which at its usual 10 ms is a third
 * of a percent of a core in each idle process. These figures begin at this value: it is the pause between two looks that they tell.
 */
const EVENT_LOOP_PRECISION_MS = 100;
collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION_MS });

const registers = [registry];

/** Sets gauges that are measured only when somebody asks, and yields text of metrics that are kept elsewhere, if any. */
export type MetricsSource = () => Promise<string | void>;
const sources = new Set<MetricsSource>();

/** @returns what takes it away again. */
export function addMetricsSource(source: MetricsSource): () => void {
  sources.add(source);
  return () => void sources.delete(source);
}

/** All metrics of this process in Prometheus' text. A source that fails is left out: the others are needed all the more. */
export async function metricsText(): Promise<string> {
  const texts = await Promise.all([...sources].map((source) => source().catch(() => undefined)));
  const own = await registry.metrics();
  return [own, ...texts].flatMap((text) => (text ? [`${text.trimEnd()}\n`] : [])).join('');
}
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60];

export const metrics = {
  httpRequestSeconds: new Histogram({
    name: 'remit_http_request_seconds',
    help: 'Duration of HTTP requests by route, method and status',
    labelNames: ['route', 'method', 'status'],
    buckets: SECONDS,
    registers,
  }),
  rateLimited: new Counter({
    name: 'remit_http_requests_rate_limited_total',
    help: 'Requests that were refused (429) because of whose limit it is (tenant, user)',
    labelNames: ['limit'],
    registers,
  }),
  rateLimitBlocks: new Counter({
    name: 'remit_rate_limit_blocks_total',
    help: 'Blocks of requests that this process asked the database for, by outcome (answered, failed)',
    labelNames: ['outcome'],
    registers,
  }),
  requestsShed: new Counter({
    name: 'remit_http_requests_shed_total',
    help: 'Requests that were refused (503) unread because the process has too much to do, by what showed it (in_flight, event_loop)',
    labelNames: ['reason'],
    registers,
  }),
  webhooksReceived: new Counter({
    name: 'remit_provider_webhooks_total',
    help: 'Provider webhooks by provider and result (accepted, invalid, signature_invalid, unavailable, not_queued)',
    labelNames: ['provider', 'result'],
    registers,
  }),
  issuerKeyFetches: new Counter({
    name: 'remit_issuer_key_fetches_total',
    help: 'Fetches of the token issuer’s keys (JWKS) by result (ok, failed); while they fail, the last keys are used',
    labelNames: ['result'],
    registers,
  }),
  issuerKeysLoaded: new Gauge({
    name: 'remit_issuer_keys_loaded_timestamp_seconds',
    help: 'When the token issuer’s keys (JWKS) that are used were fetched, as a Unix time',
    registers,
  }),
  kafkaProduced: new Counter({
    name: 'remit_kafka_produced_total',
    help: 'Messages acknowledged by the brokers, by topic',
    labelNames: ['topic'],
    registers,
  }),
  kafkaProduceErrors: new Counter({
    name: 'remit_kafka_produce_errors_total',
    help: 'Messages that could not be produced, by topic; each round of the relay that failed counts its own',
    labelNames: ['topic'],
    registers,
  }),
  kafkaProduceSeconds: new Histogram({
    name: 'remit_kafka_produce_seconds',
    help: 'From handing a message to the producer to the brokers’ acknowledgement',
    buckets: SECONDS,
    registers,
  }),
  bridgeMessages: new Counter({
    name: 'remit_bridge_messages_total',
    help: 'Messages by topic and result (started, dead_lettered)',
    labelNames: ['topic', 'result'],
    registers,
  }),
  bridgeRetries: new Counter({
    name: 'remit_bridge_retries_total',
    help: 'Times that Temporal did not take a message and the bridge waited',
    labelNames: ['topic'],
    registers,
  }),
  consumerJoined: new Gauge({
    name: 'remit_consumer_joined',
    help: '1 while this process reads as a member of the group, 0 while the brokers keep it from that',
    labelNames: ['group'],
    registers,
  }),
  consumerFailures: new Counter({
    name: 'remit_consumer_failures_total',
    help: 'Times that a consumer lost its group by an error and had to join again',
    labelNames: ['group'],
    registers,
  }),
  consumerLag: new Gauge({
    name: 'remit_consumer_lag_messages',
    help: 'Messages between the committed offset and the end of the partition',
    labelNames: ['group', 'topic', 'partition'],
    registers,
  }),
  eventsPublished: new Counter({
    name: 'remit_events_published_total',
    help: 'Events published through the API by outcome (accepted, duplicate)',
    labelNames: ['outcome'],
    registers,
  }),
  deadLetters: new Counter({
    name: 'remit_dead_letters_total',
    help: 'Dead-lettered messages by source topic and error code',
    labelNames: ['topic', 'code'],
    registers,
  }),
  moneyTransactionSeconds: new Histogram({
    name: 'remit_money_transaction_seconds',
    help: 'Duration of money transactions with their retries, by operation and outcome',
    labelNames: ['operation', 'outcome'],
    buckets: SECONDS,
    registers,
  }),
  moneyConflicts: new Counter({
    name: 'remit_money_conflicts_total',
    help: 'Serialization conflicts and deadlocks of money transactions, each followed by a retry',
    labelNames: ['operation'],
    registers,
  }),
  moneyBatchCalls: new Histogram({
    name: 'remit_money_batch_calls',
    help: 'Movements of one account that shared a transaction because they waited for it together, by operation',
    labelNames: ['operation'],
    buckets: [1, 2, 4, 8, 16, 32, 64],
    registers,
  }),
  reconciliationFindings: new Gauge({
    name: 'remit_reconciliation_findings',
    help: 'What the last reconciliation of this worker found, by check; 0 is clean',
    labelNames: ['check'],
    registers,
  }),
  reconciliationLastRun: new Gauge({
    name: 'remit_reconciliation_last_run_timestamp_seconds',
    help: 'When this worker last completed a reconciliation (Unix time)',
    registers,
  }),
  reconciliationInterval: new Gauge({
    name: 'remit_reconciliation_interval_seconds',
    help: 'How often the ledger is to be reconciled (RECONCILIATION_INTERVAL_MS); 0 where no worker of its queue runs',
    registers,
  }),
  paymentsExpired: new Counter({
    name: 'remit_payments_expired_total',
    help: 'Payments and payouts that were expired by the scheduled job because no event of theirs ever came',
    registers,
  }),
  ordersExpired: new Counter({
    name: 'remit_orders_expired_total',
    help: 'Orders that were cancelled because their provider had not paid them in time',
    registers,
  }),
  idempotentReplays: new Counter({
    name: 'remit_idempotent_requests_total',
    help: 'Requests with an Idempotency-Key by route and result (executed, replayed, taken_over, in_progress, reused)',
    labelNames: ['route', 'result'],
    registers,
  }),
  providerEvents: new Counter({
    name: 'remit_provider_events_total',
    help: 'Provider events by provider, type, status and outcome',
    labelNames: ['provider', 'type', 'status', 'outcome'],
    registers,
  }),
  providerEventsUnhandled: new Counter({
    name: 'remit_provider_events_unhandled_total',
    help: 'Provider events that remit ignores, by provider and the provider’s own type',
    labelNames: ['provider', 'type'],
    registers,
  }),
  providerAmount: new Counter({
    name: 'remit_provider_settled_minor_units_total',
    help: 'Settled amounts in minor units by provider, type and currency',
    labelNames: ['provider', 'type', 'currency'],
    registers,
  }),
  outboxPublished: new Counter({
    name: 'remit_outbox_published_total',
    help: 'Outbox rows published, by topic',
    labelNames: ['topic'],
    registers,
  }),
  outboxPending: new Gauge({
    name: 'remit_outbox_pending_rows',
    help: 'Rows waiting in the outbox',
    registers,
  }),
  outboxRefused: new Gauge({
    name: 'remit_outbox_refused_rows',
    help: 'Rows in outbox_refused: Kafka will never take them, an operator has to deal with them',
    registers,
  }),
  outboxOldestSeconds: new Gauge({
    name: 'remit_outbox_oldest_seconds',
    help: 'Age of the oldest outbox row',
    registers,
  }),
  backupLogBehind: new Gauge({
    name: 'remit_backup_log_behind_bytes',
    help: 'What PostgreSQL keeps of its log as remit backup has not received it yet; 0 without such a backup, infinite when it was given up',
    registers,
  }),
  deliveryAttempts: new Counter({
    name: 'remit_delivery_attempts_total',
    help: 'Webhook delivery attempts by result (delivered, http_error, timeout, refused_address, network_error)',
    labelNames: ['result'],
    registers,
  }),
  deliveryAttemptSeconds: new Histogram({
    name: 'remit_delivery_attempt_seconds',
    help: 'Duration of webhook delivery attempts',
    buckets: SECONDS,
    registers,
  }),
  deliveriesPutOff: new Counter({
    name: 'remit_delivery_attempts_put_off_total',
    help: 'Attempts that were put off without using up the schedule, by what they wait for (places, rest, rate, order)',
    labelNames: ['reason'],
    registers,
  }),
  deliveriesFinished: new Counter({
    name: 'remit_deliveries_finished_total',
    help: 'Deliveries that reached a terminal state, by state',
    labelNames: ['status'],
    registers,
  }),
  ingestRows: new Counter({
    name: 'remit_ingest_rows_total',
    help: 'Rows that ClickHouse acknowledged, by topic',
    labelNames: ['topic'],
    registers,
  }),
  taskQueueBacklog: new Gauge({
    name: 'remit_task_queue_backlog_tasks',
    help: 'Tasks that wait in a task queue of Temporal, by kind (workflow, activity), as the server estimates; every worker of the queue reports it',
    labelNames: ['task_queue', 'kind'],
    registers,
  }),
  taskQueueBacklogAge: new Gauge({
    name: 'remit_task_queue_backlog_age_seconds',
    help: 'How long the oldest of these tasks has waited',
    labelNames: ['task_queue', 'kind'],
    registers,
  }),
  ingestBytes: new Counter({
    name: 'remit_ingest_bytes_total',
    help: 'Bytes of these rows as they were sent, by topic',
    labelNames: ['topic'],
    registers,
  }),
  ingestBatches: new Counter({
    name: 'remit_ingest_batches_total',
    help: 'Settled batches by topic and what closed them (rows, bytes, time, pressure, recovered, shutdown)',
    labelNames: ['topic', 'closed_by'],
    registers,
  }),
  ingestBatchRows: new Histogram({
    name: 'remit_ingest_batch_rows',
    help: 'Rows of a batch',
    labelNames: ['topic'],
    buckets: [1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000],
    registers,
  }),
  ingestInsertSeconds: new Histogram({
    name: 'remit_ingest_insert_seconds',
    help: 'Duration of single inserts by topic and outcome (stored, refused, retry)',
    labelNames: ['topic', 'outcome'],
    buckets: SECONDS,
    registers,
  }),
  ingestRetries: new Counter({
    name: 'remit_ingest_retries_total',
    help: 'Times that a batch waited, by topic and reason (clickhouse, dead_letter_queue, refused_rows)',
    labelNames: ['topic', 'reason'],
    registers,
  }),
  ingestSlowPath: new Counter({
    name: 'remit_ingest_slow_path_total',
    help: 'Messages that were parsed and rewritten because their bytes could not be taken as they are',
    labelNames: ['topic'],
    registers,
  }),
  ingestInFlightBytes: new Gauge({
    name: 'remit_ingest_in_flight_bytes',
    help: 'Memory of batches that are being filled, wait or are being stored',
    labelNames: ['topic'],
    registers,
  }),
  ingestPausedPartitions: new Gauge({
    name: 'remit_ingest_paused_partitions',
    help: 'Partitions that are paused because enough of their rows are in memory',
    labelNames: ['topic'],
    registers,
  }),
  ingestLastCommitAge: new Gauge({
    name: 'remit_ingest_last_commit_age_seconds',
    help: 'Since offsets were last committed, while there is something to commit; else 0',
    labelNames: ['topic'],
    registers,
  }),
} as const;
