import path from 'node:path';
import { statementFor } from '../../../src/platform/clickhouse-cluster';
import { readMigrations } from '../../../src/platform/clickhouse-migrations';
import { PROJECT_ROOT } from '../../../src/platform/project';

const SHIPPED = path.join(PROJECT_ROOT, 'clickhouse');

/** What each statement of each migration is on a cluster: its file, and its first and its other lines. */
async function shippedFor(cluster: string | undefined) {
  const migrations = await readMigrations(SHIPPED);
  return migrations.flatMap(({ name, statements }) =>
    statements.map((statement) => ({ name, statement, rewritten: statementFor(cluster, statement) })),
  );
}

const kindOf = (text: string) =>
  /^(CREATE TABLE|CREATE VIEW|CREATE MATERIALIZED VIEW|ALTER TABLE)/.exec(text)?.[1];

describe('the migrations of ClickHouse on a cluster', () => {
  it('run each of their statements on all servers, and change nothing else of views and alterations', async () => {
    const all = await shippedFor('the `best`');
    expect(all.length).toBeGreaterThanOrEqual(12);
    expect(new Set(all.map(({ name }) => name)).size).toBe((await readMigrations(SHIPPED)).length);
    for (const { statement, rewritten } of all) {
      const [, created, rest] =
        /^((?:CREATE (?:TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS|ALTER TABLE) \w+)(.*)$/s.exec(statement)!;
      const head = `${created} ON CLUSTER \`the \\\`best\\\`\``;
      expect(rewritten.slice(0, head.length)).toBe(head);
      if (kindOf(statement) !== 'CREATE TABLE') expect(rewritten).toBe(head + rest!);
    }
    expect(all.filter(({ statement }) => kindOf(statement) === 'ALTER TABLE').length).toBeGreaterThan(0);
  });

  it('make each table replicated, with its window of tokens in Keeper and none that is for one server', async () => {
    const tables = (await shippedFor('main')).filter(({ statement }) => kindOf(statement) === 'CREATE TABLE');
    expect(tables.map(({ rewritten }) => /ENGINE = (\w+)/.exec(rewritten)?.[1])).toEqual([
      'ReplicatedReplacingMergeTree',
      'ReplicatedSummingMergeTree',
      'ReplicatedSummingMergeTree',
      'ReplicatedAggregatingMergeTree',
      'ReplicatedReplacingMergeTree',
    ]);
    for (const { rewritten } of tables) {
      expect(rewritten).toMatch(
        /SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800$/,
      );
      expect(rewritten).not.toContain('non_replicated');
    }
  });

  it('are left as they are for one server', async () => {
    for (const { statement, rewritten } of await shippedFor(undefined)) expect(rewritten).toBe(statement);
  });

  it.each([
    ['DROP TABLE purchases', "can't be run on a cluster"],
    ['INSERT INTO purchases SELECT * FROM purchases_old', "can't be run on a cluster"],
    ['RENAME TABLE purchases TO others', "can't be run on a cluster"],
    ['CREATE TABLE purchases (n UInt8) ENGINE = MergeTree ORDER BY n', "can't be run on a cluster"],
    ['CREATE TABLE IF NOT EXISTS a (n UInt8) ENGINE = Memory', 'to be replicated'],
    ['CREATE TABLE IF NOT EXISTS a (n UInt8)\nENGINE=Log', 'to be replicated'],
  ])('are refused when they would change or fill one server alone: %s', (statement, why) => {
    expect(() => statementFor('main', statement)).toThrow(why);
    expect(statementFor(undefined, statement)).toBe(statement);
  });
});
