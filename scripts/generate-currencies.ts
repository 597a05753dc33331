import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { format, resolveConfig } from 'prettier';
import { CURRENCIES, WITHDRAWN } from '../src/contracts/iso-4217';

/**
 * `npm run generate:currencies -- list-one.xml` writes src/contracts/iso-4217.ts from List One of ISO 4217, which the
 * maintenance agency (SIX) publishes as XML: https://www.six-group.com/dam/download/financial-information/data-center/iso-currrency/lists/list-one.xml
 *
 * What it changes needs a migration of PostgreSQL and one of ClickHouse as well; test/integration/domain/currencies.test.ts
 * says which codes are missing there.
 */

const TARGET = path.join(__dirname, '..', 'src', 'contracts', 'iso-4217.ts');

interface ListOne {
  published: string;
  /** Minor units by code; of those that have any. */
  currencies: Record<string, number>;
}

function readListOne(xml: string): ListOne {
  const published = /<ISO_4217 Pblshd="(\d{4}-\d\d-\d\d)">/.exec(xml)?.[1];
  const currencies: Record<string, number> = {};
  for (const [, entry = ''] of xml.matchAll(/<CcyNtry>(.*?)<\/CcyNtry>/gs)) {
    const code = /<Ccy>([A-Z]{3})<\/Ccy>/.exec(entry)?.[1];
    const minorUnits = /<CcyMnrUnts>(\d)<\/CcyMnrUnts>/.exec(entry)?.[1];
    if (code !== undefined && minorUnits !== undefined) currencies[code] = Number(minorUnits);
  }
  if (published === undefined || Object.keys(currencies).length < 150)
    throw new Error('This is not List One of ISO 4217 as the maintenance agency publishes it.');
  return { published, currencies };
}

const sorted = (codes: Record<string, number>) =>
  Object.fromEntries(Object.entries(codes).sort(([a], [b]) => (a < b ? -1 : 1)));

async function main(): Promise<void> {
  const [file] = process.argv.slice(2);
  if (file === undefined) throw new Error('Name the file: npm run generate:currencies -- list-one.xml');
  const { published, currencies } = readListOne(readFileSync(file, 'utf8'));
  const gone = Object.entries({ ...WITHDRAWN, ...CURRENCIES }).filter(([code]) => !(code in currencies));
  const source = `
    // Written by scripts/generate-currencies.ts.

    /** When the maintenance agency published List One of ISO 4217, from which this is. */
    export const ISO_4217_PUBLISHED = '${published}';

    /**
     * Decimals of the current currencies and funds. Codes that the list gives no minor units (metals, drawing rights, tests)
     * are left out: there are no amounts in them.
     */
    export const CURRENCIES: Readonly<Record<string, number>> = ${JSON.stringify(sorted(currencies))};

    /** Those that were in an earlier list: nothing new can be in them, but what is can be shown. */
    export const WITHDRAWN: Readonly<Record<string, number>> = ${JSON.stringify(sorted(Object.fromEntries(gone)))};
  `;
  const options = await resolveConfig(TARGET);
  writeFileSync(TARGET, await format(source, { ...options, filepath: TARGET }));
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
