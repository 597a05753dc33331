import type { Consumed, IngestStage } from './support/ingest-stage';
import { openIngestStage } from './support/ingest-stage';
import { measureLatency } from './support/ingest-latency';
import { consumeByKafkaEngine } from './support/kafka-engine';
import { median, percentile, round, type Benchmark, type BenchRow } from './report';

const BAD_SHARE = 0.001;
const LATENCY_BOUND_MS = 2_000;

interface Figures {
  discard: Consumed[];
  bare: Consumed[];
  bareTable: Consumed[];
  full: Consumed[];
  trusting: Consumed[];
  engine: number[];
  engineTwo: number[];
}

/**
 * Purchases from Kafka into ClickHouse, each consumer a process of its own on the same broker, topic and engine: (a) kafkajs
 * reading and throwing away; (b) the bare loop that reads and inserts raw bytes into the same table with nothing else; the same
 * into a plain table without views; (c) ClickHouse's own Kafka table engine into the same table; and the ingest role with
 * everything on, fully validating (0.1 % of the messages bad), and in pass-through (a trusted producer). Rounds alternate,
 * medians are compared.
 */
export const run: Benchmark = async ({ quick, progress }) => {
  const stage = await openIngestStage(progress);
  try {
    const [size, rounds] = quick ? [200_000, 1] : [2_000_000, 3];
    await stage.fill('clean', size, 0);
    const bad = await stage.fill('dirty', size, BAD_SHARE);
    const figures = await measureRates(stage, size, bad, rounds, progress);
    const small = await peakAt(stage, size / 4, progress);
    const latency = await measureLatency(stage, quick ? 5 : 60, progress);
    return [
      ...rateRows(figures, size, rounds),
      memoryRow(figures, small, size),
      latencyRow('p50', percentile(latency, 0.5)),
      latencyRow('p99', percentile(latency, 0.99), latency.length),
    ];
  } finally {
    await stage.close();
  }
};

async function measureRates(
  stage: IngestStage,
  size: number,
  bad: number,
  rounds: number,
  progress: (line: string) => void,
): Promise<Figures> {
  const figures: Figures = {
    discard: [],
    bare: [],
    bareTable: [],
    full: [],
    trusting: [],
    engine: [],
    engineTwo: [],
  };
  const passThrough = { INGEST_VALIDATION: 'pass-through' };
  for (let i = 1; i <= rounds; i++) {
    figures.discard.push(await stage.consume('discard', 'clean', size));
    figures.bare.push(await stage.consume('bare', 'clean', size, { BENCH_TABLE: 'purchases' }));
    figures.full.push(expectRows(await stage.consume('remit', 'dirty', size), size - bad));
    figures.trusting.push(expectRows(await stage.consume('remit', 'clean', size, passThrough), size));
    figures.bareTable.push(await stage.consume('bare', 'clean', size));
    // They are slow, so once is enough.
    if (i === 1) {
      figures.engine.push(await consumeByKafkaEngine(stage, 'clean', size, 1));
      figures.engineTwo.push(await consumeByKafkaEngine(stage, 'clean', size, 2));
    }
    progress(
      `round ${i}/${rounds}, rows/s: ${Object.entries(
        figures as unknown as Record<string, (Consumed | number)[]>,
      )
        .map(([name, all]) => `${name} ${Math.round(rateOf(all.at(-1)!))}`)
        .join(', ')}`,
    );
  }
  return figures;
}

function rateOf(figure: Consumed | number): number {
  return typeof figure === 'number' ? figure : figure.perSecond;
}

function expectRows(consumed: Consumed, rows: number): Consumed {
  if (consumed.rows !== rows) throw new Error(`${consumed.rows} rows are stored, ${rows} were good`);
  return consumed;
}

function rateRows(figures: Figures, size: number, rounds: number): BenchRow[] {
  const rate = (all: readonly (Consumed | number)[]) => median(all.map(rateOf));
  const cpu = (all: readonly Consumed[]) =>
    round(median(all.map(({ cpuSeconds }) => (cpuSeconds * 1e6) / size)));
  const row = (
    name: string,
    all: readonly Consumed[],
    against: readonly (Consumed | number)[],
    what: string,
    atLeast?: number,
  ): BenchRow => ({
    bench: `ingest ${name}`,
    value: round(rate(all)),
    unit: 'rows/s',
    reference: round(rate(against)),
    ratio: rate(all) / rate(against),
    ...(atLeast === undefined ? {} : { atLeast }),
    note: `${what}; ${cpu(all)} CPU µs a row, peak ${peak(all)} MB; ${rounds} rounds of ${size.toLocaleString('en')}`,
  });
  const { full, trusting, bare, bareTable, discard, engine, engineTwo } = figures;
  return [
    row('validating, 0.1 % bad', full, bare, 'reference: bare loop into the same table', 0.75),
    row('pass-through', trusting, bare, 'reference: bare loop into the same table', 0.9),
    row(
      'validating, next to the Kafka engine',
      full,
      engine,
      'reference: ClickHouse’s Kafka engine, one consumer as by default and as the role, same table',
      2,
    ),
    row(
      'validating, next to the Kafka engine with 2 consumers',
      full,
      engineTwo,
      'one process next to two consumers',
    ),
    row(
      'validating, next to a plain table',
      full,
      bareTable,
      'reference: bare loop into a plain table without views',
    ),
    row('validating, next to discarding', full, discard, 'reference: kafkajs reading and discarding'),
    row('bare loop', bare, discard, 'same table; reference: kafkajs reading and discarding'),
    totalCpuRow('validating, CPU of all processes', full, bare, size),
    totalCpuRow('pass-through, CPU of all processes', trusting, bare, size),
  ];
}

/** Client, ClickHouse and Kafka together: what a noisy machine disturbs least. */
function totalCpuRow(
  name: string,
  all: readonly Consumed[],
  against: readonly Consumed[],
  size: number,
): BenchRow {
  const total = (each: Consumed) =>
    ((each.cpuSeconds + each.clickhouseCpuSeconds + each.kafkaCpuSeconds) * 1e6) / size;
  const [value, reference] = [median(all.map(total)), median(against.map(total))];
  return {
    bench: `ingest ${name}`,
    value: round(value),
    unit: 'µs/row',
    reference: round(reference),
    ratio: value / reference,
    note: 'reference: bare loop into the same table',
  };
}

function peak(all: readonly Consumed[]): number {
  return Math.round(Math.max(...all.map(({ peakMegabytes }) => peakMegabytes)));
}

/** A quarter of the messages, for the memory that it takes. */
async function peakAt(
  stage: IngestStage,
  size: number,
  progress: (line: string) => void,
): Promise<Consumed[]> {
  await stage.fill('quarter', size, BAD_SHARE);
  const runs = [await stage.consume('remit', 'quarter', size), await stage.consume('remit', 'quarter', size)];
  progress(`peak at ${size.toLocaleString('en')} messages: ${peak(runs)} MB`);
  return runs;
}

function memoryRow({ full }: Figures, small: readonly Consumed[], size: number): BenchRow {
  return {
    bench: 'ingest peak memory',
    value: peak(full),
    unit: 'MB',
    reference: peak(small),
    ratio: peak(full) / peak(small),
    atMost: 1.1,
    note: `validating ${size.toLocaleString('en')} messages; reference: a quarter of them`,
  };
}

function latencyRow(name: string, value: number, messages?: number): BenchRow {
  return {
    bench: `ingest message to visible row, ${name}`,
    value: round(value),
    unit: 'ms',
    reference: LATENCY_BOUND_MS,
    ratio: value / LATENCY_BOUND_MS,
    ...(messages === undefined ? {} : { atMost: 1 }),
    note: `1,000 messages a second, flush time 1 s${messages === undefined ? '' : `, ${messages} messages`}`,
  };
}
