import { readdirSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createTable } from '../src/platform/table';
import { withinBound, type Benchmark, type BenchRow } from './report';

const names = readdirSync(__dirname)
  .filter((file) => file.endsWith('.ts') && !['run.ts', 'report.ts'].includes(file))
  .map((file) => path.basename(file, '.ts'))
  .sort();

const HELP = `npm run bench -- NAME [--json] [--quick]

Benchmarks: ${names.join(', ')}
  --json   the last line is one JSON array of {bench, value, unit, reference, ratio, atLeast|atMost}
  --quick  smaller sizes, to see that it runs; the figures mean little

Each starts its own throw-away stack and measures its reference in the same run. Run it on a quiet machine.`;

function print(rows: readonly BenchRow[]): void {
  const table = createTable(['benchmark', 'value', 'unit', 'reference', 'ratio', 'bound', '']);
  for (const row of rows) {
    const bound =
      row.atLeast !== undefined ? `>= ${row.atLeast}` : row.atMost !== undefined ? `<= ${row.atMost}` : '';
    table.push([
      row.bench,
      row.value,
      row.unit,
      row.reference,
      row.ratio.toFixed(2),
      bound,
      bound === '' ? '' : withinBound(row) ? 'ok' : 'MISSED',
    ]);
  }
  const notes = rows.flatMap(({ bench, note }) => (note ? [`${bench}: ${note}`] : []));
  process.stdout.write(`${table.toString()}\n${notes.join('\n')}\n`);
}

async function main(): Promise<number> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { json: { type: 'boolean' }, quick: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  const [name] = positionals;
  if (values.help || name === undefined || !names.includes(name)) {
    process.stdout.write(
      `${name !== undefined && !names.includes(name) ? `There is no benchmark ${name}.\n\n` : ''}${HELP}\n`,
    );
    return values.help ? 0 : 2;
  }
  const { run } = (await import(`./${name}.js`)) as { run: Benchmark };
  const rows = await run({
    quick: values.quick ?? false,
    progress: (line) => process.stderr.write(`  ${line}\n`),
  });
  print(rows);
  if (values.json) process.stdout.write(`${JSON.stringify(rows)}\n`);
  return rows.every(withinBound) ? 0 : 1;
}

// Exit handlers stop the parts; a signal's default would not run them.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
