import { readStats } from '../../../src/operations/stats';
import { createIngestSpace, type IngestSpace } from './support';

let space: IngestSpace;
beforeAll(async () => {
  space = await createIngestSpace();
});
afterAll(() => space?.clickhouse.close());

describe('what remit stats reads', () => {
  it('are counts with all their digits, also where no float holds them', async () => {
    await space.clickhouse.command({
      query: `INSERT INTO revenue_daily (day, provider, currency, status, purchases, amount)
              VALUES (today(), 'decard', 'TRY', 'completed', 9007199254740993, 12.5)`,
    });
    const stats = await readStats(space.config, { days: 2, minutes: 1, products: 1, json: true });
    expect(stats.revenue).toMatchObject([{ purchases: 9_007_199_254_740_993n, amount: '12.5' }]);
    expect(stats.stored).toContainEqual({ table: 'purchases', rows: 0n, once: 0n });
  });
});
