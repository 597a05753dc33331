import { setTimeout as sleep } from 'node:timers/promises';
import { readiness } from '../../../src/platform/ops-server';
import { eventually, type RunningRoles } from '../../support/harness';
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

/** Long enough for more retries, which are 0.5 s apart at most. */
const WHILE_WAITING_MS = 800;

async function troubles({ lifecycle }: RunningRoles<unknown>): Promise<string> {
  const { dependencies } = await readiness(lifecycle, 5_000);
  return Object.entries(dependencies)
    .filter(([, state]) => state !== 'ok')
    .map(([name, state]) => `${name}: ${state}`)
    .join('\n');
}

async function figures(space: IngestSpace): Promise<Record<string, number>> {
  const [row] = await rows<Record<string, string>>(
    space,
    `SELECT count() AS plain, uniqExact(id) AS ids,
      (SELECT sum(r.purchases) FROM revenue_daily AS r) AS revenue,
      (SELECT sum(p.purchases) FROM products_daily AS p) AS products,
      (SELECT sum(l.rows) FROM ingest_lag AS l) AS lag FROM purchases`,
  );
  return Object.fromEntries(Object.entries(row!).map(([name, n]) => [name, Number(n)]));
}
const exactly = (n: number) => ({ plain: n, ids: n, revenue: n, products: n, lag: n });

/** What somebody may do to the table and its surroundings, what readiness says of it, and how it is undone. */
const HARMS: [name: string, harm: string[], said: RegExp, undo: string[]][] = [
  [
    'a view throws on some rows',
    [
      'CREATE TABLE numbers_of_users (n UInt8) ENGINE = MergeTree ORDER BY n',
      'CREATE MATERIALIZED VIEW theirs TO numbers_of_users AS SELECT toUInt8(userId) AS n FROM purchases',
    ],
    /batches of .*: \d+ batches wait: .*CANNOT_PARSE_TEXT/,
    ['DROP VIEW theirs'],
  ],
  [
    'a view throws of itself',
    [
      `CREATE MATERIALIZED VIEW theirs TO numbers_of_users AS SELECT toUInt8(throwIf(userId = '77', 'no')) AS n FROM purchases`,
    ],
    /batches of .*FUNCTION_THROW_IF/,
    // Mended, and not dropped.
    [
      'DROP VIEW theirs',
      'CREATE MATERIALIZED VIEW theirs TO numbers_of_users AS SELECT 1 AS n FROM purchases',
    ],
  ],
  [
    'the table of a view has a constraint',
    ['ALTER TABLE numbers_of_users ADD CONSTRAINT none CHECK n > 1'],
    /batches of .*VIOLATED_CONSTRAINT/,
    ['ALTER TABLE numbers_of_users DROP CONSTRAINT none', 'DROP VIEW theirs'],
  ],
  [
    'the table has a constraint that some rows violate',
    [`ALTER TABLE purchases ADD CONSTRAINT no_robots CHECK userId != '77'`],
    /batches of .*valid rows: VIOLATED_CONSTRAINT/,
    ['ALTER TABLE purchases DROP CONSTRAINT no_robots'],
  ],
  [
    'the table has a constraint that all rows violate',
    [`ALTER TABLE purchases ADD CONSTRAINT nobody CHECK userId = 'nobody'`],
    /batches of .*valid rows: VIOLATED_CONSTRAINT/,
    ['ALTER TABLE purchases DROP CONSTRAINT nobody'],
  ],
  [
    'a column is gone',
    ['ALTER TABLE purchases DROP COLUMN processedAt'],
    /table purchases: No such column processedAt/,
    [`ALTER TABLE purchases ADD COLUMN processedAt DateTime64(3, 'UTC')`],
  ],
  [
    'a column has a type that does not fit',
    ['ALTER TABLE purchases MODIFY COLUMN processedAt DateTime'],
    /^$|batches of/,
    [`ALTER TABLE purchases MODIFY COLUMN processedAt DateTime64(3, 'UTC')`],
  ],
  [
    'the table is gone',
    ['RENAME TABLE purchases TO hidden'],
    /table purchases: /,
    ['RENAME TABLE hidden TO purchases'],
  ],
];

it.each([['full'], ['pass-through']])(
  'whatever becomes of the table and its views, right messages wait, are stored once, and readiness tells why (%s)',
  async (mode) => {
    const space = await createIngestSpace({ INGEST_BATCH_ROWS: '40', INGEST_VALIDATION: mode });
    const run = (statement: string) => space.clickhouse.command({ query: statement });
    const role = await startIngestRole(space);
    let produced = 0;
    try {
      for (const [, harm, said, undo] of HARMS) {
        for (const statement of harm) await run(statement);
        await produce(
          space,
          space.config.TOPIC_PURCHASES,
          Array.from({ length: 150 }, (_, i) => ({
            value: JSON.stringify(
              goodPurchase({ userId: i % 50 === 7 ? '77' : `${i}x`.slice(0, i % 2 ? 9 : -1) || '0' }),
            ),
          })),
        );
        produced += 150;
        await eventually(async () => expect(await troubles(role)).toMatch(said), 20_000);
        await sleep(WHILE_WAITING_MS);
        for (const statement of undo) await run(statement);
        await untilCommitted(space, 40_000);
        expect(await figures(space)).toEqual(exactly(produced));
        await eventually(async () => expect(await troubles(role)).toBe(''));
      }
      expect(await readAll(space, space.config.TOPIC_PURCHASES_DLQ, 0)).toEqual([]);
      expect(await count(space, 'purchases_once')).toBe(produced);
    } finally {
      await role.stop();
      await space.clickhouse.close();
    }
  },
);
