import { parseArgs } from 'node:util';
import { arrivals } from './checks';
import { Cluster } from './cluster';
import { chosenFaults, FAULTS, Faults, type Fault } from './faults';
import { Load, type Rates } from './load';
import { Measure } from './measure';

const HELP = `node --import tsx test/nightly/cluster/run.ts [options]

A cluster in small, under load of payments, orders with refunds, events and purchases. Each fault is injected in turn, and
when everything flows again, what was away comes back. At the end everything is counted. Ends with 1 when something is
lost, happened twice, or did not come back. Needs Go (once, to build Temporal's server), Java and the rest of what
\`npm start\` needs; takes about 40 seconds a fault.

  --faults <text,…>    only faults whose name has one of these texts in it
  --list               names the faults
  --rate <n>           times the usual load (2 payments, 1 order, 1 event, 40 purchases a second); default 1
  --measure            no faults: CPU of each part by payment, order, event and purchase
  --keep               leaves data and logs of the servers behind
  --help
`;

const RATES: Rates = { payments: 2, orders: 1, events: 1, purchases: 40 };
const SETTLE_MS = 10_000;

export const say = (line: string): void =>
  void process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);

/** Runs the faults on a new cluster. @returns what was found, and the table. */
export async function runFaults(
  faults: readonly Fault[],
  options: { rate?: number; keep?: boolean } = {},
): Promise<{ violations: string[]; table: string; counts: Record<string, unknown>; slowest: string }> {
  const cluster = await Cluster.start(say);
  const rate = options.rate ?? 1;
  const rates = Object.fromEntries(
    Object.entries(RATES).map(([kind, perSecond]) => [kind, perSecond * rate]),
  ) as unknown as Rates;
  const load = new Load(cluster, rates);
  try {
    await load.prepare();
    load.start();
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const done = new Faults(cluster, load, say);
    const violations: string[] = [];
    for (const fault of faults)
      await done.inject(fault).catch((error: unknown) => {
        violations.push(`${fault.name}: ${String(error)}`);
        say(`  ${String(error)}`);
      });
    await load.stop();
    say('the load has ended');
    const verdict = await arrivals(cluster, load);
    violations.push(
      ...verdict.violations,
      ...done.outcomes.flatMap(({ fault, stuck }) =>
        stuck.length > 0 ? [`${fault}: ${stuck.join(', ')}`] : [],
      ),
    );
    for (const line of cluster.pair.events) say(line);
    return { violations, table: done.table(), counts: verdict.counts, slowest: done.slowest() };
  } finally {
    await load.close();
    await cluster.stop(options.keep);
  }
}

async function measure(): Promise<void> {
  const cluster = await Cluster.start(say);
  const load = new Load(cluster, { payments: 0, orders: 0, events: 0, purchases: 0 });
  try {
    await load.prepare(false);
    void load.look();
    const measured = new Measure(cluster, load, say);
    await measured.all({ payments: 900, orders: 450, events: 450, purchases: 200_000, perSecond: 6 });
    process.stdout.write(`${measured.lines.join('\n')}\n`);
  } finally {
    await load.close();
    await cluster.stop();
  }
}

async function main(): Promise<number> {
  const { values: options } = parseArgs({
    options: {
      faults: { type: 'string' },
      list: { type: 'boolean' },
      rate: { type: 'string', default: '1' },
      measure: { type: 'boolean' },
      keep: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (options.help) process.stdout.write(HELP);
  else if (options.list) process.stdout.write(`${FAULTS.map(({ name }) => name).join('\n')}\n`);
  else if (options.measure) await measure();
  else {
    const { violations, table, counts } = await runFaults(chosenFaults(options.faults), {
      rate: Number(options.rate),
      keep: options.keep ?? false,
    });
    process.stdout.write(`${table}\n\n${JSON.stringify(counts)}\n`);
    process.stdout.write(
      violations.length === 0 ? 'NOTHING FOUND\n' : `${violations.length} FOUND:\n${violations.join('\n')}\n`,
    );
    return violations.length === 0 ? 0 : 1;
  }
  return 0;
}

if (require.main === module)
  main().then(
    (code) => process.exit(code),
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
      process.exit(1);
    },
  );
