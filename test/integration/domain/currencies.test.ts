import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { PROJECT_ROOT } from '../../../src/platform/project';
import { createClickHouse } from '../../../src/platform/clickhouse';
import { migrateClickHouse } from '../../../src/platform/clickhouse-migrations';
import { ChargebackWebhook, DecardEvent, OrderWebhook } from '../../../src/contracts/messages';
import { CURRENCIES, ISO_4217_PUBLISHED, WITHDRAWN } from '../../../src/contracts/iso-4217';
import { Currency, formatMinor, parseMajorAmount } from '../../../src/contracts/money';
import { Purchase } from '../../../src/contracts/purchases';
import { isPlainPurchase } from '../../../src/bridges/ingest/purchase-scanner';
import { createTestSpace, openTestDatabase } from '../../support/harness';
import { withDatabase } from '../../support/shared-stack';
import { purchase } from '../../unit/ingest/purchase';

const readMigration = (name: string) =>
  readFile(path.join(PROJECT_ROOT, 'prisma', 'migrations', name, 'migration.sql'), 'utf8');

/** Currencies are written down in one place; whatever else knows them must know the same. */
const codes = Object.keys(CURRENCIES);
const ID = '3f6d2c1a-8b4e-4d57-9a10-5c2e7f9b6d31';

describe('the currencies', () => {
  it('are those of ISO 4217 as of 2026', () => {
    expect(ISO_4217_PUBLISHED >= '2026-01-01').toBe(true);
    expect(CURRENCIES).toMatchObject({
      ...{ XCG: 2, XAD: 2, ZWG: 2, SLE: 2, VED: 2, VES: 2, EUR: 2, TRY: 2, JPY: 0, KWD: 3, CLF: 4, UYW: 4 },
      ...{ ISK: 0, UGX: 0, HUF: 2, IQD: 3, MRU: 2, MGA: 2, CHE: 2, UYI: 0 },
    });
    const gone = ['ANG', 'BGN', 'CUC', 'HRK', 'SLL', 'ZWL', 'TRL', 'LTL', 'BYR', 'MRO', 'STD', 'VEF', 'USS'];
    const without = [
      'XAU',
      'XAG',
      'XPT',
      'XPD',
      'XDR',
      'XSU',
      'XUA',
      'XBA',
      'XBB',
      'XBC',
      'XBD',
      'XTS',
      'XXX',
    ];
    for (const code of [...gone, ...without, 'try', 'TR', 'XYZ', '__proto__']) {
      expect([code, Currency.safeParse(code).success]).toEqual([code, false]);
      expect(() => parseMajorAmount('1', code)).toThrow('ISO 4217');
    }
  });

  it('are the same at every door', () => {
    for (const currency of [...codes, ...Object.keys(WITHDRAWN), 'XAU', 'XXX', 'HRK']) {
      const known = codes.includes(currency);
      const event = { currency, amount: '1', status: 'success' };
      const parts = { provider_event_id: 'e', order_id: ID, user_id: 'u' };
      const bought = purchase({ currency, amount: '1' });
      const doors = {
        decard: DecardEvent.safeParse({ ...event, provider: 'decard', transactionId: ID, type: 'payment' }),
        order: OrderWebhook.safeParse({ ...event, ...parts }),
        chargeback: ChargebackWebhook.safeParse({ ...event, ...parts, status: 'opened' }),
        purchase: Purchase.safeParse(bought),
      };
      for (const [door, { success }] of Object.entries(doors))
        expect({ currency, door, success }).toEqual({ currency, door, success: known });
      expect({ currency, plain: isPlainPurchase(Buffer.from(JSON.stringify(bought))) }).toEqual({
        currency,
        plain: known,
      });
    }
  });

  it('are the same in PostgreSQL, with their decimals', async () => {
    const space = await createTestSpace();
    const database = openTestDatabase(space);
    const { rows } = await database.pool.query<{ code: string; exponent: number }>(
      'SELECT code, exponent FROM currencies ORDER BY code',
    );
    expect(Object.fromEntries(rows.map(({ code, exponent }) => [code, exponent]))).toEqual(CURRENCIES);
    await database.close();
  });

  it('stay in PostgreSQL when they are withdrawn and money is in them, and are shown', async () => {
    expect(formatMinor(12_345n, 'BGN')).toBe('123.45');
    expect(Object.keys(WITHDRAWN)).toEqual(expect.arrayContaining(['ANG', 'BGN', 'CUC']));
    const space = await createTestSpace();
    await withDatabase(space.ownerUrl, async (client) => {
      await client.query(`INSERT INTO currencies (code, exponent) VALUES ('BGN', 2), ('ANG', 2)`);
      await client.query(
        `INSERT INTO accounts (id, tenant_id, user_id, currency) VALUES (gen_random_uuid(), 't', 'u', 'BGN')`,
      );
      const sql = await readMigration('20261126082000_currencies_of_2026');
      await client.query(sql);
      const { rows } = await client.query(`SELECT code FROM currencies WHERE code IN ('ANG', 'BGN')`);
      expect(rows).toEqual([{ code: 'BGN' }]);
    });
  });

  it('are the same in ClickHouse', async () => {
    const space = await createTestSpace();
    await migrateClickHouse(space.config, space.log);
    const clickhouse = createClickHouse(space.config);
    const answer = await clickhouse.query({
      query: `SELECT create_table_query AS ddl FROM system.tables WHERE database = currentDatabase() AND name = 'purchases'`,
      format: 'JSONEachRow',
    });
    const [table] = await answer.json<{ ddl: string }>();
    await clickhouse.close();
    const list = /currency_known CHECK [^(]*\(([^)]*)\)/.exec(table?.ddl ?? '')?.[1] ?? '';
    expect([...list.matchAll(/'(\w+)'/g)].map(([, code]) => code).sort()).toEqual([...codes].sort());
  });
});
