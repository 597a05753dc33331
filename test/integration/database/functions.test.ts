import { readdirSync } from 'node:fs';
import released from '../../../prisma/released.json';
import { DataRefusedError, isTransactionConflict } from '../../../src/domain/conflicts';
import {
  calledFrom,
  catalogFunctions,
  definedFunctions,
  functionFiles,
  FUNCTIONS,
  sourceText,
  type CatalogFunction,
} from '../../support/database-catalog';
import { createTestSpace, type TestSpace } from '../../support/harness';
import { withDatabase } from '../../support/shared-stack';

let space: TestSpace;
let functions: CatalogFunction[];
beforeAll(async () => {
  space = await createTestSpace();
  functions = await withDatabase(space.ownerUrl, catalogFunctions);
});

describe('the database functions', () => {
  it('come from prisma/functions, each with one definition, and nothing there is left out', () => {
    const defined = definedFunctions(functionFiles());
    expect(functions.map(({ name }) => name).sort()).toEqual([...defined].sort());
    expect(new Set(defined).size).toBe(defined.length);
  });

  it('stand in files that order.json names, and in no migration', () => {
    const named = functionFiles().map(({ name }) => `${name}.sql`);
    expect(
      readdirSync(FUNCTIONS)
        .filter((file) => file.endsWith('.sql'))
        .sort(),
    ).toEqual(named.sort());
  });

  it('are all reached from src or from a trigger', async () => {
    const reached = new Set(calledFrom(await sourceText(), functions).map(({ name }) => name));
    const triggers = functionFiles().find(({ name }) => name === 'triggers')?.sql ?? '';
    for (const [, name] of triggers.matchAll(/EXECUTE FUNCTION (\w+)\(/g)) reached.add(name ?? '');
    for (let before = -1; before < reached.size;) {
      before = reached.size;
      for (const { name, source } of functions)
        if (reached.has(name)) for (const each of calledFrom(source, functions)) reached.add(each.name);
    }
    // What the release before calls stays until the one after this.
    const former = Object.keys(released.functions);
    const left = functions.map(({ name }) => name).filter((name) => !reached.has(name));
    expect(left.filter((name) => !former.includes(name))).toEqual([]);
  });

  it('raise only what their callers can tell apart', () => {
    // Conflicts are tried again; what is refused never is; the rest is a defect or a wrong deployment.
    const kinds: Record<string, string> = {
      serialization_failure: '40001',
      check_violation: '23514',
      restrict_violation: '23001',
      invalid_transaction_state: '25000',
      raise_exception: 'P0001',
    };
    const raised = new Set(
      functions.flatMap(({ source }) =>
        [...source.matchAll(/RAISE EXCEPTION '[^;]*?(?:USING ERRCODE = '(\w+)')?;/g)].map(
          ([, condition]) => condition ?? 'raise_exception',
        ),
      ),
    );
    expect([...raised].sort()).toEqual(Object.keys(kinds).sort());
    const errors = Object.values(kinds).map((code) => Object.assign(new Error('raised'), { code }));
    expect(errors.filter(isTransactionConflict).map(({ code }) => code)).toEqual(['40001']);
    const refused = errors.filter((error) => DataRefusedError.from('any', error) !== error);
    expect(refused.map(({ code }) => code)).toEqual(['23514', '23001']);
  });

  it('have a comment above them that says what they do', () => {
    const bare = functionFiles().flatMap(({ sql }) =>
      [...sql.matchAll(/^(.*)\nCREATE OR REPLACE FUNCTION (\w+)/gm)]
        .filter(([, above]) => !above?.startsWith('-- '))
        .map(([, , name]) => name),
    );
    expect(bare).toEqual([]);
  });
});

describe('the triggers', () => {
  it('come from prisma/functions/triggers.sql, and nothing there is left out', async () => {
    const { rows } = await withDatabase(space.ownerUrl, (client) =>
      client.query<{ trigger: string }>(
        `SELECT tgname || ' on ' || tgrelid::regclass AS trigger FROM pg_trigger WHERE NOT tgisinternal`,
      ),
    );
    const triggers = functionFiles().find(({ name }) => name === 'triggers')?.sql ?? '';
    const defined = [...triggers.matchAll(/^CREATE OR REPLACE TRIGGER (\w+) [A-Z ]+ ON (\w+)/gm)].map(
      ([, name, table]) => `${name} on ${table}`,
    );
    expect(rows.map(({ trigger }) => trigger).sort()).toEqual(defined.sort());
  });
});
