import type { Config } from '../platform/config';
import { checkClickHouse, createClickHouse } from '../platform/clickhouse';
import { ConsumerLag } from '../bridges/consumer-lag';
import { BatchWriter } from '../bridges/ingest/batch-writer';
import { BatchInserts } from '../bridges/ingest/inserts';
import { KafkaJsSource } from '../bridges/ingest/kafkajs-source';
import { IngestPipeline } from '../bridges/ingest/pipeline';
import {
  checkedPurchases,
  domainEvents,
  trustedPurchases,
  type RowFormat,
} from '../bridges/ingest/row-format';
import { DOMAIN_EVENTS_TABLE, PURCHASES_TABLE, type IngestTable } from '../bridges/ingest/tables';
import type { RoleContext } from './context';

interface Stream {
  topic: string;
  groupName: string;
  table: IngestTable;
  format: RowFormat;
  strictFormat: RowFormat;
}

function streams(config: Config): Stream[] {
  return [
    {
      topic: config.TOPIC_PURCHASES,
      groupName: 'ingest.purchases',
      table: PURCHASES_TABLE,
      format:
        config.INGEST_VALIDATION === 'full' ? checkedPurchases : trustedPurchases(config.INGEST_DISTRUST_MS),
      strictFormat: checkedPurchases,
    },
    {
      topic: config.TOPIC_DOMAIN_EVENTS,
      groupName: 'ingest.domain-events',
      table: DOMAIN_EVENTS_TABLE,
      format: domainEvents,
      strictFormat: domainEvents,
    },
  ];
}

/** Of the time that the whole shutdown may take, the share in which batches in memory are stored. */
const DRAIN_SHARE = 0.6;

/**
 * Starts to stream purchases and domain events into ClickHouse. Stops in order: `intake` takes nothing more, `drain`
 * stores and commits what is in memory and leaves the group.
 *
 * Resolves when the groups are joined; ClickHouse need not be there yet. Rejects when Kafka can't be reached.
 */
export async function startIngest(context: RoleContext): Promise<{ pipelines: IngestPipeline[] }> {
  const { config, log, lifecycle, kafka } = context;
  const clickhouse = createClickHouse(config, true, {
    request_timeout: config.CLICKHOUSE_REQUEST_TIMEOUT_MS,
    // Of two topics the writers, and one readiness check each.
    max_open_connections: 2 * config.INGEST_WRITERS + 4,
    compression: { request: config.CLICKHOUSE_COMPRESS_REQUESTS, response: false },
  });
  lifecycle.addCheck('clickhouse', () => checkClickHouse(clickhouse));
  lifecycle.onStop('close', 'clickhouse client', () => clickhouse.close());
  const producer = await context.producer();
  await context.topicsThere(streams(config).map(({ topic }) => topic));

  const pipelines = await Promise.all(
    streams(config).map(async ({ topic, groupName, table, format, strictFormat }) => {
      const streamLog = log.child({ topic });
      const source = new KafkaJsSource({
        kafka,
        config,
        log: streamLog,
        topic,
        groupName,
        onFatal: () => lifecycle.crash(),
      });
      const stopping = new AbortController();
      const inserts = new BatchInserts(clickhouse, table);
      const writer = new BatchWriter({
        inserts,
        producer,
        config,
        log: streamLog,
        format,
        strictFormat,
        stopping: stopping.signal,
      });
      const pipeline = new IngestPipeline({
        source,
        writer,
        format,
        defaultTopic: table.defaultTopic,
        config,
        log: streamLog,
        stopping,
      });
      const lag = new ConsumerLag(kafka, source.group, [topic], config.KAFKA_LAG_INTERVAL_MS, streamLog);
      const name = `consumer ${source.group}`;
      lifecycle.addCheck(name, () => source.check());
      lifecycle.addCheck(`table ${table.name}`, () => inserts.check(topic));
      lifecycle.addCheck(`batches of ${topic}`, () => writer.check());
      lifecycle.onStop('intake', name, () => pipeline.stopTaking());
      lifecycle.onStop('drain', name, () => pipeline.stop(config.SHUTDOWN_TIMEOUT_MS * DRAIN_SHARE));
      lifecycle.onStop('drain', `lag ${source.group}`, () => lag.stop());
      await pipeline.start();
      lag.start();
      return pipeline;
    }),
  );
  return { pipelines };
}
