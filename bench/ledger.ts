import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { payOrder } from '../src/domain/orders';
import { metrics } from '../src/platform/metrics';
import type { Database } from '../src/platform/postgres';
import { median, round, type Benchmark, type BenchOptions, type BenchRow } from './report';
import { debitScript, findPgbench, runPgbench } from './support/pgbench';
import { openLedger, type LedgerServer, type OrderSpread } from './support/ledger-stage';

const CALLERS = 16;
const ACCOUNTS = 5_000;
const HISTORY = { short: 1_000, long: 1_000_000 } as const;
/** Leaves every order payable: what is measured are debits, not refusals. */
const DEBIT_MINOR = 1;

interface Sizes {
  rounds: number;
  spread: number;
  hot: number;
  growthRounds: number;
  growth: number;
  longHistory: number;
}

/**
 * Debits of orders through `payOrder`, the code that workers run, by 16 callers: over 5,000 accounts and on a single
 * one, next to pgbench sending the statements that the database function consists of, at the same isolation, to the
 * same server in the same run. And what a debit costs when the journal is long.
 */
export const run: Benchmark = async (options) => {
  const pgbench = findPgbench();
  const dataDir = await mkdtemp(path.join(os.tmpdir(), 'remit-bench-'));
  const server = await openLedger(dataDir, (line) => options.progress(line));
  try {
    const sizes = sizesOf(options);
    const rows: BenchRow[] = [];
    if (pgbench === undefined)
      options.progress(
        'pgbench is not there (Debian: postgresql-contrib or postgresql): its rows are left out, nothing is compared',
      );
    rows.push(await sideBySide(server, pgbench, 'spread', sizes, options));
    rows.push(await sideBySide(server, pgbench, 'hot', sizes, options));
    rows.push(await growth(server, sizes, options));
    return rows;
  } finally {
    await server.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
};

function sizesOf({ quick }: BenchOptions): Sizes {
  return quick
    ? { rounds: 1, spread: 1_600, hot: 800, growthRounds: 1, growth: 800, longHistory: 50_000 }
    : {
        rounds: 3,
        spread: 24_000,
        hot: 8_000,
        growthRounds: 5,
        growth: 12_000,
        longHistory: HISTORY.long,
      };
}

/** Debits per second of ours next to pgbench's; each measures on orders of its own in the same database. */
async function sideBySide(
  server: LedgerServer,
  pgbench: string | undefined,
  spread: OrderSpread,
  sizes: Sizes,
  options: BenchOptions,
): Promise<BenchRow> {
  const size = sizes[spread];
  const ours: number[] = [];
  const theirs: number[] = [];
  const ledger = await server.create(`bench_${spread}`, ACCOUNTS, HISTORY.short);
  let conflictsBefore = 0;
  try {
    await ledger.placeOrders('warm', Math.ceil(size / 4), spread, DEBIT_MINOR);
    await debitsPerSecond(ledger.db, ledger.orders('warm', Math.ceil(size / 4), spread));
    conflictsBefore = await conflicts();
    for (let i = 1; i <= sizes.rounds; i++) {
      const run = randomBytes(4).toString('hex');
      await ledger.placeOrders(run, size, spread, DEBIT_MINOR);
      ours.push(await debitsPerSecond(ledger.db, ledger.orders(run, size, spread)));
      if (pgbench !== undefined) {
        const reference = randomBytes(4).toString('hex');
        await ledger.placeOrders(reference, size, spread, DEBIT_MINOR);
        const script = debitScript({ run: reference, spread, accounts: ACCOUNTS, clients: CALLERS });
        theirs.push(await runPgbench(pgbench, ledger.url, script, CALLERS, size / CALLERS));
      }
      options.progress(
        `${spread}, round ${i}/${sizes.rounds}: remit ${Math.round(ours.at(-1)!)}/s` +
          (theirs.length > 0 ? `, pgbench ${Math.round(theirs.at(-1)!)}/s` : ''),
      );
    }
    await ledger.verify();
  } finally {
    await ledger.close();
  }
  const value = median(ours);
  const reference = theirs.length > 0 ? median(theirs) : Number.NaN;
  const lost = (await conflicts()) - conflictsBefore;
  return {
    bench: spread === 'hot' ? 'ledger debits, one hot account' : 'ledger debits, 5,000 accounts',
    value: round(value),
    unit: 'debits/s',
    reference: round(reference),
    ratio: value / reference,
    ...(pgbench === undefined ? {} : { atLeast: spread === 'hot' ? 1 : 0.6 }),
    note:
      `median of ${sizes.rounds} rounds of ${size} debits by ${CALLERS} callers; ` +
      `${(lost / (sizes.rounds * size)).toFixed(4)} conflicts a debit; reference: ` +
      (pgbench === undefined
        ? 'MISSING, pgbench is not installed'
        : 'pgbench, the same statements, SERIALIZABLE, prepared, conflicts retried'),
  };
}

/** Milliseconds of the server a debit with a long journal, next to a short one, in turns. */
async function growth(server: LedgerServer, sizes: Sizes, options: BenchOptions): Promise<BenchRow> {
  const long: number[] = [];
  const short: number[] = [];
  options.progress(`filling a journal with ${sizes.longHistory} entries`);
  const large = await server.create('bench_long', ACCOUNTS, sizes.longHistory);
  try {
    for (let i = 0; i <= sizes.growthRounds; i++) {
      const small = await server.create(`bench_short_${i}`, ACCOUNTS, HISTORY.short);
      const costs: number[] = [];
      for (const ledger of i % 2 === 0 ? [small, large] : [large, small]) {
        const run = randomBytes(4).toString('hex');
        await ledger.placeOrders(run, sizes.growth, 'spread', DEBIT_MINOR);
        const cost = 1_000 / (await debitsPerSecond(ledger.db, ledger.orders(run, sizes.growth, 'spread')));
        costs.push(cost);
        // The first round warms the server and the compiler.
        if (i > 0) (ledger === large ? long : short).push(cost);
      }
      await small.close();
      options.progress(
        `journal length, round ${i}/${sizes.growthRounds}: ${costs.map((c) => c.toFixed(3)).join(' ms, ')} ms`,
      );
    }
    await large.verify();
  } finally {
    await large.close();
  }
  const value = median(long);
  const reference = median(short);
  return {
    bench: `ledger debit at ${sizes.longHistory.toLocaleString('en')} entries`,
    value: round(value),
    unit: 'ms',
    reference: round(reference),
    ratio: value / reference,
    atMost: 1.15,
    note: `median time a debit of ${sizes.growthRounds} rounds of ${sizes.growth} by ${CALLERS} callers, in turns; reference: a journal that begins with 1,000 entries`,
  };
}

/** Every order paid once, by callers that each wait for an answer before the next. */
async function debitsPerSecond(
  db: Database,
  orders: readonly Parameters<typeof payOrder>[1][],
): Promise<number> {
  let next = 0;
  const caller = async (): Promise<void> => {
    for (let order = orders[next++]; order; order = orders[next++]) {
      const { outcome, status } = await payOrder(db, order);
      if (outcome !== 'applied' || status !== 'FINISHED')
        throw new Error(`a debit was ${outcome}, ${status}`);
    }
  };
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return orders.length / ((performance.now() - startedAt) / 1_000);
}

async function conflicts(): Promise<number> {
  const { values } = await metrics.moneyConflicts.get();
  return values.reduce((sum, { value }) => sum + value, 0);
}
