/** A table as migrations make it, as far as ingest fills it. */
export interface IngestTable {
  name: string;
  /** Default of its column `kafkaTopic`: rows of this topic leave the column out. */
  defaultTopic: string;
  /** Names and types of the columns that the bytes of a batch fill; all others get their defaults. */
  columns: Readonly<Record<string, string>>;
}

const POSITION = {
  kafkaPartition: 'UInt16',
  kafkaOffset: 'UInt64',
  queuedAt: "DateTime64(3, 'UTC')",
} as const;

export const PURCHASES_TABLE: IngestTable = {
  name: 'purchases',
  defaultTopic: 'purchases',
  columns: {
    id: 'UUID',
    userId: 'String',
    productId: 'LowCardinality(String)',
    amount: 'Decimal(18, 4)',
    currency: 'LowCardinality(String)',
    status: "Enum8('pending' = 1, 'completed' = 2, 'failed' = 3, 'refunded' = 4)",
    provider: 'LowCardinality(String)',
    createdAt: "DateTime64(3, 'UTC')",
    processedAt: "DateTime64(3, 'UTC')",
    ...POSITION,
  },
};

export const DOMAIN_EVENTS_TABLE: IngestTable = {
  name: 'domain_events',
  defaultTopic: 'domain.events',
  columns: {
    id: 'String',
    type: 'LowCardinality(String)',
    aggregate: 'LowCardinality(String)',
    aggregateId: 'String',
    tenantId: 'LowCardinality(String)',
    occurredAt: "DateTime64(3, 'UTC')",
    correlationId: 'Nullable(String)',
    data: 'String',
    ...POSITION,
  },
};

function columnsOf({ columns, defaultTopic }: IngestTable, topic: string): [name: string, type: string][] {
  const all = Object.entries(columns);
  return topic === defaultTopic ? all : [...all, ['kafkaTopic', 'LowCardinality(String)']];
}

/**
 * The insert of a batch of this topic. It names its columns, so that a message can't set another one (`storedAt`, by
 * which rows expire), and a column that is missing in the table is told as such, not as a mistake of the first row.
 */
export function insertStatement(table: IngestTable, topic: string): string {
  const names = columnsOf(table, topic).map(([name]) => name);
  return `INSERT INTO ${table.name} (${names.join(', ')}) FORMAT JSONEachRow`;
}

/**
 * The same insert into nothing: ClickHouse reads the rows as columns of the types that migrations give them, whatever
 * became of the table since, and whatever views and constraints stand behind it.
 */
export function trialStatement(table: IngestTable, topic: string): string {
  const structure = columnsOf(table, topic)
    .map(([name, type]) => `${name} ${type}`)
    .join(', ');
  return `INSERT INTO FUNCTION null('${structure.replaceAll("'", "\\'")}') FORMAT JSONEachRow`;
}
