import { createKafka } from '../../../src/platform/kafka';
import {
  createIngestSpace,
  goodPurchase,
  produce,
  PURCHASES_GROUP,
  rows,
  startIngestRole,
  untilCommitted,
  type IngestSpace,
} from './support';

const N = 600;
const SUMS = ['revenue_daily', 'products_daily', 'ingest_lag'];

const REBUILD = [
  'TRUNCATE TABLE revenue_daily',
  `INSERT INTO revenue_daily
   SELECT toDate(createdAt) AS day, provider, currency, status, count() AS purchases, sum(p.amount) AS amount
   FROM purchases_once AS p GROUP BY day, provider, currency, status`,
  'TRUNCATE TABLE products_daily',
  `INSERT INTO products_daily
   SELECT toDate(createdAt) AS day, productId, currency, count() AS purchases, sum(p.amount) AS amount
   FROM purchases_once AS p WHERE status = 'completed' GROUP BY day, productId, currency`,
];

async function figures(space: IngestSpace): Promise<Record<string, number>> {
  const [row] = await rows<Record<string, string>>(
    space,
    `SELECT count() AS plain, uniqExact(id) AS ids, (SELECT count() FROM purchases_once) AS once,
      (SELECT sum(r.purchases) FROM revenue_daily AS r) AS revenue,
      (SELECT sum(p.purchases) FROM products_daily AS p) AS products,
      (SELECT sum(l.rows) FROM ingest_lag AS l) AS lag FROM purchases`,
  );
  return Object.fromEntries(Object.entries(row!).map(([name, n]) => [name, Number(n)]));
}
const all = { plain: N, ids: N, once: N, revenue: N, products: N, lag: N };

/** What docs/purchases.md says under "Ingesting again", between a stop of ingest and its next start. */
async function again(space: IngestSpace, statements: string[]): Promise<void> {
  for (const query of statements)
    await space.clickhouse.command({ query, clickhouse_settings: { mutations_sync: '2' } });
  const admin = createKafka(space.config, space.log).admin();
  await admin.connect();
  try {
    await admin.deleteGroups([`${space.name}.${PURCHASES_GROUP}`]);
  } finally {
    await admin.disconnect();
  }
  const role = await startIngestRole(space);
  try {
    await untilCommitted(space);
  } finally {
    await role.stop();
  }
}

describe('ingesting again', () => {
  let space: IngestSpace;
  beforeAll(async () => {
    // One batch a partition: reading again cuts the same batches, so that their tokens are known.
    space = await createIngestSpace({
      KAFKA_TOPIC_PARTITIONS: '1',
      INGEST_BATCH_ROWS: '100',
      INGEST_FLUSH_MS: '5000',
    });
    const messages = Array.from({ length: N }, (_, i) => ({
      value: JSON.stringify(goodPurchase({ userId: i % 2 ? 'odd' : 'even' })),
    }));
    await produce(space, space.config.TOPIC_PURCHASES, messages);
    const role = await startIngestRole(space);
    await untilCommitted(space);
    await role.stop();
  });
  afterAll(() => space.clickhouse.close());

  it('stores each message once after a TRUNCATE, which forgets the tokens', async () => {
    expect(await figures(space)).toEqual(all);
    await again(
      space,
      ['purchases', ...SUMS].map((table) => `TRUNCATE TABLE ${table}`),
    );
    expect(await figures(space)).toEqual(all);
  });

  it('stores nothing after a DELETE alone: its tokens are known', async () => {
    await again(space, [`DELETE FROM purchases WHERE userId = 'odd'`]);
    expect(await figures(space)).toEqual({ ...all, plain: N / 2, ids: N / 2, once: N / 2 });
  });

  it('stores what a DELETE took once the window is emptied, and merges the rest with what is there', async () => {
    await again(space, [
      'ALTER TABLE purchases MODIFY SETTING non_replicated_deduplication_window = 0',
      'ALTER TABLE purchases MODIFY SETTING non_replicated_deduplication_window = 10000',
    ]);
    expect(await figures(space)).toEqual({ ...all, plain: expect.any(Number) as number });
    await space.clickhouse.command({ query: 'OPTIMIZE TABLE purchases FINAL' });
    expect(await figures(space)).toEqual(all);
    // The window has its size again: nothing of this is stored.
    await again(space, []);
    expect(await figures(space)).toEqual(all);
  });

  it('is followed by sums that are computed again from the rows', async () => {
    await space.clickhouse.command({ query: 'INSERT INTO revenue_daily SELECT * FROM revenue_daily' });
    expect(await figures(space)).toEqual({ ...all, revenue: 2 * N });
    for (const query of REBUILD) await space.clickhouse.command({ query });
    expect(await figures(space)).toEqual(all);
    const [sum] = await rows(space, 'SELECT toString(sum(amount)) AS amount FROM revenue_daily');
    expect(sum).toEqual({ amount: String(129.9 * N) });
  });
});
