import { randomBytes } from 'node:crypto';
import { migratePostgres } from '../../../src/platform/postgres-migrations';
import { catalogFunctions, functionFiles } from '../../support/database-catalog';
import { eventually } from '../../support/harness';
import { PrismaFolder } from '../../support/prisma-folder';
import { sharedStack, withDatabase } from '../../support/shared-stack';

const BASELINE = '20261126000000_baseline';

const folders: PrismaFolder[] = [];
afterAll(() => Promise.all(folders.map((each) => each.remove())));

async function folder(version?: string): Promise<PrismaFolder> {
  const copy = await PrismaFolder.copy(version);
  folders.push(copy);
  return copy;
}

async function emptyDatabase(): Promise<string> {
  const { postgres } = sharedStack();
  const name = `m${randomBytes(5).toString('hex')}`;
  await withDatabase(postgres, (client) => client.query(`CREATE DATABASE ${name}`));
  const url = new URL(postgres);
  url.pathname = name;
  return url.toString();
}

const history = (url: string) =>
  withDatabase(url, async (client) => {
    const { rows } = await client.query<{ file: string; version: string }>(
      'SELECT file, version FROM _remit_functions ORDER BY id',
    );
    return rows;
  });

const sourceOf = (url: string, name: string) =>
  withDatabase(url, async (client) => {
    const found = (await catalogFunctions(client)).find((each) => each.name === name);
    return found?.source;
  });

describe('remit migrate on PostgreSQL', () => {
  it('applies the migrations, then every file of functions in its order, and nothing when repeated', async () => {
    const url = await emptyDatabase();
    const files = functionFiles().map(({ name }) => `functions/${name}.sql`);
    const { applied } = await migratePostgres(url);
    expect(applied[0]).toBe(BASELINE);
    expect(applied.slice(-files.length)).toEqual(files);
    expect(await migratePostgres(url)).toEqual({ applied: [] });
  });

  it('applies a file again when it has changed, and no other', async () => {
    const url = await emptyDatabase();
    const copy = await folder();
    await migratePostgres(url, copy);
    const refunds = await copy.read('functions/refunds.sql');
    await copy.write('functions/refunds.sql', refunds.replace('refundableMinor', 'leftMinor'));
    expect(await migratePostgres(url, copy)).toEqual({ applied: ['functions/refunds.sql'] });
    expect(await sourceOf(url, 'refund_result')).toContain('leftMinor');
    await copy.write('functions/refunds.sql', refunds);
    expect(await migratePostgres(url, copy)).toEqual({ applied: ['functions/refunds.sql'] });
    expect(await sourceOf(url, 'refund_result')).toContain('refundableMinor');
    expect((await history(url)).filter(({ file }) => file === 'refunds.sql')).toHaveLength(3);
  });

  it('changes no function when one of the files fails, and says where', async () => {
    const url = await emptyDatabase();
    const copy = await folder();
    await migratePostgres(url, copy);
    const [accounts, refunds] = [
      await copy.read('functions/accounts.sql'),
      await copy.read('functions/refunds.sql'),
    ];
    await copy.write('functions/accounts.sql', accounts.replaceAll("'ok'", "'fine'"));
    await copy.write('functions/refunds.sql', `${refunds}\nSELEC 1;\n`);
    const line = refunds.split('\n').length + 1;
    await expect(migratePostgres(url, copy)).rejects.toThrow(
      new RegExp(`^functions/refunds.sql:${line} failed, no function was changed: .*syntax error`),
    );
    expect(await sourceOf(url, 'top_up')).not.toContain("'fine'");
  });

  it('refuses a folder with a file of functions that order.json does not name', async () => {
    const copy = await folder();
    await copy.write('functions/forgotten.sql', 'SELECT 1;');
    await expect(migratePostgres(await emptyDatabase(), copy)).rejects.toThrow(
      'order.json does not name forgotten.sql',
    );
  });

  it('lets two runs at a time do the work once', async () => {
    const url = await emptyDatabase();
    const [first, second] = await Promise.all([migratePostgres(url), migratePostgres(url)]);
    expect([first.applied.length, second.applied.length].sort((a, b) => a - b)[0]).toBe(0);
    expect(await history(url)).toHaveLength(functionFiles().length);
  });

  describe('a migration outside a transaction', () => {
    const ALONE = '-- remit: outside a transaction\n';
    const INDEX = `${ALONE}CREATE INDEX CONCURRENTLY IF NOT EXISTS later_idx ON later (n);`;
    const validOf = (url: string) =>
      withDatabase(url, async (client) => {
        const { rows } = await client.query<{ valid: boolean }>(
          `SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass('later_idx')`,
        );
        return rows.map(({ valid }) => valid);
      });
    /** Of each index that is being built. From another connection than one in a transaction, which sees what it has seen. */
    const beingBuilt = (url: string, what = 'true') =>
      withDatabase(url, async (client) => {
        const { rows } = await client.query<{ it: boolean }>(
          `SELECT ${what} AS it FROM pg_stat_progress_create_index WHERE datname = current_database()`,
        );
        return rows.map(({ it }) => it);
      });
    async function withTable(): Promise<{ url: string; copy: PrismaFolder }> {
      const url = await emptyDatabase();
      const copy = await folder();
      await copy.addMigration('29991231000000_table', 'CREATE TABLE later (n integer)');
      await migratePostgres(url, copy);
      return { url, copy };
    }

    it('builds an index while others write to the table, and beside another run that waits', async () => {
      const { url, copy } = await withTable();
      await copy.addMigration('29991231000001_index', INDEX);
      await withDatabase(url, async (writer) => {
        await writer.query('BEGIN');
        await writer.query('INSERT INTO later VALUES (1)');
        const runs = [migratePostgres(url, copy), migratePostgres(url, copy)];
        const building = async () => {
          expect(await beingBuilt(url)).toHaveLength(1);
        };
        await eventually(building, 30_000);
        // It waits for this transaction, which goes on writing meanwhile.
        await writer.query('INSERT INTO later VALUES (2)');
        await writer.query('COMMIT');
        const applied = (await Promise.all(runs)).map((run) => run.applied);
        expect(applied.flat()).toEqual(['29991231000001_index']);
      });
      expect(await validOf(url)).toEqual([true]);
    });

    it('that was killed in the middle begins again, without what the first run left', async () => {
      const { url, copy } = await withTable();
      await copy.addMigration('29991231000001_index', INDEX);
      await withDatabase(url, async (writer) => {
        await writer.query('BEGIN');
        await writer.query('INSERT INTO later VALUES (1)');
        const run = migratePostgres(url, copy);
        const failure = expect(run).rejects.toThrow('29991231000001_index failed and can be repeated');
        // The first of its transactions, which leaves the index to be built, is over.
        await eventually(async () => expect(await validOf(url)).toEqual([false]), 30_000);
        expect(await beingBuilt(url, 'pg_terminate_backend(pid)')).toEqual([true]);
        await failure;
        await writer.query('COMMIT');
      });
      expect(await validOf(url)).toEqual([false]);
      expect((await migratePostgres(url, copy)).applied).toEqual(['29991231000001_index']);
      expect(await validOf(url)).toEqual([true]);
    });

    it('is refused when it is more than one statement: the second would not be repeated alone', async () => {
      const copy = await folder();
      await copy.addMigration('29991231000000_two', `${ALONE}-- a; b\nSELECT 1;\nSELECT 2;`);
      await expect(migratePostgres(await emptyDatabase(), copy)).rejects.toThrow(
        '29991231000000_two runs outside a transaction and must be one statement',
      );
    });
  });

  it('refuses a database of 0.1, changes nothing, and says what to do', async () => {
    const url = await emptyDatabase();
    const former = await folder();
    await former.addMigration('20261121000000_tables', 'CREATE TABLE accounts (id uuid PRIMARY KEY);');
    // The folder of 0.1 had no baseline: only its own migration is applied.
    await withDatabase(url, async (client) => {
      await client.query('CREATE TABLE accounts (id uuid PRIMARY KEY)');
      await client.query(`CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL,
        finished_at timestamptz, migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
        started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0)`);
      await client.query(`INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name)
        VALUES ('1', 'x', now(), '20261121000000_tables')`);
    });
    await expect(migratePostgres(url)).rejects.toThrow(
      /made by an earlier version, whose data is not carried over .*Nothing was changed.*remit reset/,
    );
    const { rows } = await withDatabase(url, (client) =>
      client.query<{ tables: string }>(
        `SELECT string_agg(tablename, ',' ORDER BY tablename) AS tables FROM pg_tables WHERE schemaname = 'public'`,
      ),
    );
    expect(rows[0]?.tables).toBe('_prisma_migrations,accounts');
  });

  it('leaves a database alone that a newer version has migrated, whether it brought tables or only functions', async () => {
    const url = await emptyDatabase();
    const next = await folder('99.0.0');
    await next.write(
      'functions/refunds.sql',
      (await next.read('functions/refunds.sql')).replace('-- ', '-- 99 '),
    );
    await migratePostgres(url, next);
    expect(await migratePostgres(url)).toEqual({ applied: [], newer: '99.0.0' });
    await next.addMigration('29991231000000_later', 'CREATE TABLE later (id integer)');
    await migratePostgres(url, next);
    expect(await migratePostgres(url)).toEqual({ applied: [], newer: '29991231000000_later' });
    expect((await history(url)).every(({ version }) => version === '99.0.0')).toBe(true);
  });

  it('refuses a database with a migration between its own that it does not know', async () => {
    const url = await emptyDatabase();
    const other = await folder();
    await other.addMigration('20261126000001_of_another_branch', 'SELECT 1');
    await other.addMigration('29991231000000_last', 'SELECT 1');
    await migratePostgres(url, other);
    const mine = await folder();
    await mine.addMigration('29991231000000_last', 'SELECT 1');
    await expect(migratePostgres(url, mine)).rejects.toThrow(
      "its migration 20261126000001_of_another_branch is not one of this version's",
    );
  });
});
