import { setTimeout as sleep } from 'node:timers/promises';
import { randomUUID } from 'node:crypto';
import { createKafka } from '../../../src/platform/kafka';
import { eventually } from '../../support/harness';
import {
  count,
  createIngestSpace,
  goodPurchase,
  produce,
  readAll,
  rows,
  startIngestRole,
  untilCommitted,
  type IngestSpace,
} from './support';

const PARTITIONS = 2;

/** What an operator does whose Kafka lost its data, or who empties a topic. */
async function makeAnew(space: IngestSpace, topic: string): Promise<void> {
  const admin = createKafka(space.config, space.log).admin();
  await admin.connect();
  try {
    await admin.deleteTopics({ topics: [topic] });
    await eventually(async () => expect(await admin.listTopics()).not.toContain(topic));
    await eventually(() =>
      admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 1 }] }),
    );
  } finally {
    await admin.disconnect();
  }
}

const purchases = (n: number) =>
  Array.from({ length: n }, () => ({ key: randomUUID(), value: JSON.stringify(goodPurchase()) }));

async function figures(space: IngestSpace): Promise<Record<string, number>> {
  const [row] = await rows<Record<string, string>>(
    space,
    `SELECT count() AS plain, uniqExact(id) AS ids, (SELECT sum(r.purchases) FROM revenue_daily AS r) AS revenue
     FROM purchases`,
  );
  return Object.fromEntries(Object.entries(row!).map(([name, n]) => [name, Number(n)]));
}

describe('a topic that was deleted and created again', () => {
  it('is read from its beginning, each message stored once, whether ingest is down or runs meanwhile', async () => {
    const space = await createIngestSpace({
      KAFKA_TOPIC_PARTITIONS: String(PARTITIONS),
      INGEST_BATCH_ROWS: '300',
    });
    const topic = space.config.TOPIC_PURCHASES;
    let produced = 0;
    const produceAndStore = async (n: number) => {
      await produce(space, topic, purchases(n));
      produced += n;
      await eventually(async () => expect(await figures(space)).toMatchObject({ ids: produced }), 40_000);
      await untilCommitted(space, 40_000);
      expect(await figures(space)).toEqual({ plain: produced, ids: produced, revenue: produced });
    };
    let role = await startIngestRole(space);
    try {
      await produceAndStore(3_000);
      await role.stop();
      await makeAnew(space, topic);
      await produce(space, topic, purchases(3_000));
      produced += 3_000;
      role = await startIngestRole(space);
      await produceAndStore(0);

      // The same number: its end is where the former log was read to.
      await makeAnew(space, topic);
      await produceAndStore(3_000);
      // Fewer, and then more than the former had.
      await makeAnew(space, topic);
      await produceAndStore(500);
      await makeAnew(space, topic);
      await produceAndStore(4_000);
      expect(await readAll(space, space.config.TOPIC_PURCHASES_DLQ, 0)).toEqual([]);
    } finally {
      await role.stop();
      await space.clickhouse.close();
    }
  });

  it('is noticed although its messages go on where the former log ended, while nothing is asked of ingest', async () => {
    const space = await createIngestSpace({ KAFKA_TOPIC_PARTITIONS: String(PARTITIONS) });
    const topic = space.config.TOPIC_DOMAIN_EVENTS;
    const events = (from: number, n: number) =>
      Array.from({ length: n }, (_, i) => ({
        key: `p-${i}`,
        value: JSON.stringify({
          id: `e-${from + i}`,
          type: 'payment.succeeded',
          aggregate: 'payment',
          aggregateId: `p-${i}`,
          tenantId: 'default',
          occurredAt: '2026-11-21T12:00:00Z',
          correlationId: null,
          data: {},
        }),
      }));
    const role = await startIngestRole(space);
    try {
      await produce(space, topic, events(0, 500));
      await eventually(async () => expect(await count(space, 'domain_events')).toBe(500));
      await sleep(500);
      await makeAnew(space, topic);
      await produce(space, topic, events(500, 500));
      await eventually(async () => expect(await count(space, 'domain_events')).toBe(1_000));
      expect(await count(space, 'domain_events_once')).toBe(1_000);
    } finally {
      await role.stop();
      await space.clickhouse.close();
    }
  });
});
