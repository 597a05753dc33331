import { setTimeout as sleep } from 'node:timers/promises';
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

  --faults <text,…>    only faults whose name has one of these texts in it, in this order
  --minutes <n>        no further fault is injected after so long
  --list               names the faults
  --rate <n>           times the usual load (2 payments, 1 order, 1 event, 40 purchases a second), or
                       with --measure the usual number of each; default 1
  --measure            no faults: CPU of each part by payment, order, event and purchase
  --per-second <n>     with --measure: how many are begun a second; default 4
  --keep               leaves data and logs of the servers behind
  --help
`;

const RATES: Rates = { payments: 2, orders: 1, events: 1, purchases: 40 };
/** Groups are joined, workers warm. */
const SETTLE_MS = 15_000;
const USUAL_MS = 15_000;

export const say = (line: string): void =>
  void process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);

/** Runs the faults on a new cluster. @returns what was found, and the table. */
export async function runFaults(
  faults: readonly Fault[],
  options: { rate?: number; minutes?: number; keep?: boolean } = {},
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
    await sleep(SETTLE_MS + USUAL_MS);
    for (const flow of Object.values(load.flows)) flow.learnUsual(Date.now() - USUAL_MS);
    say(
      `late is what takes longer than ${Object.values(load.flows)
        .map(({ kind, lateMs }) => `${kind} ${lateMs}`)
        .join(', ')} ms`,
    );
    const done = new Faults(cluster, load, say);
    const violations: string[] = [];
    const until = Date.now() + (options.minutes ?? Infinity) * 60_000;
    for (const fault of faults)
      if (Date.now() > until) say(`no time is left for ${fault.name}`);
      else
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

async function measure(rate: number, perSecond: number): Promise<void> {
  const cluster = await Cluster.start(say);
  const load = new Load(cluster, { payments: 0, orders: 0, events: 0, purchases: 0 });
  try {
    await load.prepare(false);
    void load.look();
    const measured = new Measure(cluster, load, say);
    await measured.all({
      payments: 300 * rate,
      orders: 150 * rate,
      events: 150 * rate,
      purchases: 100_000 * rate,
      perSecond,
    });
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
      minutes: { type: 'string', default: '600' },
      list: { type: 'boolean' },
      rate: { type: 'string', default: '1' },
      measure: { type: 'boolean' },
      'per-second': { type: 'string', default: '4' },
      keep: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (options.help) process.stdout.write(HELP);
  else if (options.list) process.stdout.write(`${FAULTS.map(({ name }) => name).join('\n')}\n`);
  else if (options.measure) await measure(Number(options.rate), Number(options['per-second']));
  else {
    const { violations, table, counts } = await runFaults(chosenFaults(options.faults), {
      minutes: Number(options.minutes),
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

if (require.main === module) {
  // What runs then ends with this process.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  main().then(
    (code) => process.exit(code),
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
      process.exit(1);
    },
  );
}
