/** One figure of a benchmark next to the limit it is compared with, measured in the same run on the same machine. */
export interface BenchRow {
  bench: string;
  value: number;
  unit: string;
  /** The limit: what the same machine does with nothing of ours in the way. */
  reference: number;
  /** value / reference. */
  ratio: number;
  /** The ratio (or, where `reference` is a bound, the value's share of it) that must be reached. */
  atLeast?: number;
  atMost?: number;
  note?: string;
}

export interface BenchOptions {
  /** Smaller sizes, to see that the benchmark runs; its figures mean little. */
  quick: boolean;
  progress: (line: string) => void;
}

export type Benchmark = (options: BenchOptions) => Promise<BenchRow[]>;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The value below which the share `p` of all values lies (nearest rank). */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN;
}

/** Whether a row is within its bound; rows without one always are. */
export function withinBound({ ratio, atLeast, atMost }: BenchRow): boolean {
  return (atLeast === undefined || ratio >= atLeast) && (atMost === undefined || ratio <= atMost);
}

export function round(value: number): number {
  return Number(value.toPrecision(4));
}
