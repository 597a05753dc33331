/** What docker-compose.yml takes from the environment in addition to remit's own variables, with what `.env.example` says. */
export const COMPOSE_FIELDS: readonly { name: string; description: string }[] = [
  { name: 'POSTGRES_PASSWORD', description: 'required: PostgreSQL’s superuser; openssl rand -hex 24' },
  {
    name: 'REMIT_DB_PASSWORD',
    description:
      'required: PostgreSQL login that owns remit’s tables and migrates them; openssl rand -hex 24',
  },
  {
    name: 'REMIT_SERVICE_DB_PASSWORD',
    description:
      'required: PostgreSQL login of the roles, with the rights of remit_app; openssl rand -hex 24',
  },
  {
    name: 'DATABASE_OWNER_URL',
    description: 'where and as whom `migrate` connects, when it is not DATABASE_URL',
  },
  { name: 'KAFKA_BROKER', description: 'another name of KAFKA_BROKERS, which wins' },
  {
    name: 'TEMPORAL_DB_PASSWORD',
    description: 'required: PostgreSQL role of Temporal; openssl rand -hex 24',
  },
  {
    name: 'OTEL_RESOURCE_ATTRIBUTES',
    description: 'of every span: deployment.environment=test,… (docs/tracing.md)',
  },
  {
    name: 'OTEL_EXPORTER_OTLP_HEADERS',
    description: 'of every request to the collector: authorization=Bearer …',
  },
  { name: 'OTEL_EXPORTER_OTLP_COMPRESSION', description: 'gzip or none' },
  {
    name: 'OTEL_EXPORTER_OTLP_TIMEOUT',
    description: 'longest request to the collector, in milliseconds; 10000',
  },
  { name: 'API_REPLICAS', description: 'containers of the API; then API_PUBLISHED_PORTS needs a range' },
  {
    name: 'BRIDGE_REPLICAS',
    description: 'containers of the bridge; at most KAFKA_TOPIC_PARTITIONS have work',
  },
  { name: 'WORKER_REPLICAS', description: 'containers of the worker for payments and orders' },
  { name: 'WORKER_DELIVERIES_REPLICAS', description: 'containers of the worker for webhook deliveries' },
  { name: 'RELAY_REPLICAS', description: 'containers of the relay; one works, the others stand by' },
  {
    name: 'INGEST_REPLICAS',
    description: 'containers of the ingest; at most KAFKA_TOPIC_PARTITIONS have work',
  },
  { name: 'STOP_GRACE_PERIOD', description: 'when Docker kills a role; longer than SHUTDOWN_TIMEOUT_MS' },
  {
    name: 'API_BIND_ADDRESS',
    description: 'address that the API’s ports are bound to; 0.0.0.0 opens it to the network',
  },
  {
    name: 'BIND_ADDRESS',
    description:
      'address that all other ports are bound to: servers and UIs without a login, to be kept from the network',
  },
  { name: 'API_PUBLISHED_PORTS', description: 'port of the API, or a range for its replicas: 8080-8082' },
  { name: 'TEMPORAL_UI_PUBLISHED_PORT', description: 'port of the Temporal UI' },
  { name: 'TEMPORAL_PUBLISHED_PORT', description: 'port of the Temporal frontend' },
  { name: 'KAFKA_UI_PUBLISHED_PORT', description: 'port of the Kafka UI' },
  { name: 'KAFKA_PUBLISHED_PORT', description: 'port of Kafka for clients outside the containers' },
  { name: 'KAFKA_ADVERTISED_HOST', description: 'name under which those clients reach Kafka' },
  { name: 'POSTGRES_PUBLISHED_PORT', description: 'port of PostgreSQL' },
  { name: 'CLICKHOUSE_PUBLISHED_PORT', description: 'HTTP port of ClickHouse' },
  { name: 'PROMETHEUS_PUBLISHED_PORT', description: 'port of Prometheus' },
  { name: 'ALERTMANAGER_PUBLISHED_PORT', description: 'port of Alertmanager' },
  { name: 'GRAFANA_PUBLISHED_PORT', description: 'port of Grafana' },
  { name: 'REMIT_IMAGE', description: 'remit’s image; built when it is not there' },
  { name: 'NODE_IMAGE', description: 'base of remit’s image: Debian (glibc) with a Node.js LTS' },
  { name: 'POSTGRES_IMAGE', description: 'image of PostgreSQL, 18 or later (its data folder moved with 18)' },
  { name: 'KAFKA_IMAGE', description: 'image of Kafka' },
  { name: 'KAFKA_UI_IMAGE', description: 'image of the Kafka UI' },
  { name: 'TEMPORAL_IMAGE', description: 'image of the Temporal server' },
  {
    name: 'TEMPORAL_ADMIN_TOOLS_IMAGE',
    description: 'image with Temporal’s schema; the same version as the server',
  },
  { name: 'TEMPORAL_UI_IMAGE', description: 'image of the Temporal UI' },
  { name: 'CLICKHOUSE_IMAGE', description: 'image of ClickHouse' },
  { name: 'PROMETHEUS_IMAGE', description: 'image of Prometheus' },
  { name: 'ALERTMANAGER_IMAGE', description: 'image of Alertmanager, 0.26 or later' },
  { name: 'GRAFANA_IMAGE', description: 'image of Grafana' },
  {
    name: 'POSTGRES_MAX_CONNECTIONS',
    description: 'above the pools of all replicas and Temporal’s 30 a service',
  },
  { name: 'POSTGRES_SHARED_BUFFERS', description: 'a quarter of the memory that PostgreSQL may have' },
  { name: 'POSTGRES_SHM_SIZE', description: 'shared memory of PostgreSQL’s parallel queries' },
  {
    name: 'KAFKA_CLUSTER_ID',
    description: 'id the broker’s storage is made with; 22 characters of base64url',
  },
  { name: 'KAFKA_HEAP_OPTS', description: 'heap of the broker' },
  { name: 'KAFKA_RETENTION_HOURS', description: 'how long messages are kept' },
  { name: 'KAFKA_UI_READONLY', description: 'whether the Kafka UI may change anything' },
  { name: 'TEMPORAL_HISTORY_SHARDS', description: 'fixed for good by the first start' },
  { name: 'TEMPORAL_RETENTION', description: 'how long closed workflows can be looked at' },
  { name: 'TEMPORAL_LOG_LEVEL', description: 'of the Temporal server' },
  { name: 'PROMETHEUS_RETENTION', description: 'how long metrics are kept' },
  { name: 'LOG_MAX_SIZE', description: 'largest log file of a container' },
  { name: 'LOG_MAX_FILES', description: 'log files of a container' },
];
