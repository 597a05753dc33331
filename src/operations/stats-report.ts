import { plot } from 'asciichart';
import { configure } from 'safe-stable-stringify';
import { tableOf } from '../platform/table';
import { printable } from '../platform/terminal';
import type { Stats, StatsOptions } from './stats';

const stringify = configure({ bigint: true, deterministic: false, strict: true });

const PLOT_HEIGHT = 8;
/** In front of the plot's points: a label, a blank and the axis. */
const LABEL_WIDTH = 11;
const AXIS_WIDTH = LABEL_WIDTH + 2;
/** Where no terminal says how wide it is. */
const USUAL_WIDTH = 120;
const MIN_POINTS = 2;
/** Of the list by minute; the plot has all. */
const LAG_MINUTES = 10;

/**
 * What `remit stats` says to people: tables and plots. In a terminal of `width` columns long cells are wrapped, and
 * plots have the latest points; in a pipe each row is a line.
 */
export function statsReport(
  { stored, revenue, products, lag }: Stats,
  { days }: Pick<StatsOptions, 'days'>,
  width: number | undefined,
): string[] {
  const table = (title: string, head: string[], rows: (string | number | bigint)[][]): string =>
    `\n${title}\n${rows.length === 0 ? '  nothing yet' : tableOf(head, rows, width)}`;
  const when = `the last ${days} days`;
  return [
    table(
      'Stored',
      ['table', 'rows', 'each once (FINAL)'],
      stored.map((row) => [row.table, row.rows, row.once]),
    ),
    table(
      `Revenue of ${when}, completed purchases`,
      ['day', 'provider', 'currency', 'purchases', 'amount'],
      revenue.map((row) => [row.day, row.provider, row.currency, row.purchases, row.amount]),
    ),
    ...[...new Set(revenue.map((row) => row.currency))].flatMap((currency) =>
      plotted(`Revenue a day, ${printable(currency)}`, revenueByDay(revenue, currency), width),
    ),
    table(
      `Top products of ${when}`,
      ['product', 'currency', 'purchases', 'amount'],
      products.map((row) => [row.productId, row.currency, row.purchases, row.amount]),
    ),
    table(
      'From Kafka to the row, by minute',
      ['minute', 'rows', 'mean s', 'max s'],
      lag.slice(-LAG_MINUTES).map((row) => [row.minute, row.rows, row.meanSeconds, row.maxSeconds]),
    ),
    ...plotted(
      'Rows a minute',
      lag.map(({ rows }) => Number(rows)),
      width,
    ),
  ];
}

/** The figures as one JSON object; counts are numbers with all their digits, also beyond 2^53. */
export function statsJson(stats: Stats): string {
  return stringify(stats);
}

function revenueByDay(revenue: Stats['revenue'], currency: string): number[] {
  const byDay = new Map<string, number>();
  for (const row of revenue)
    if (row.currency === currency) byDay.set(row.day, (byDay.get(row.day) ?? 0) + Number(row.amount));
  return [...byDay.values()];
}

/** Nothing for less than two points. */
function plotted(title: string, series: number[], width = USUAL_WIDTH): string[] {
  if (series.length < MIN_POINTS) return [];
  const points = Math.max(MIN_POINTS, width - AXIS_WIDTH);
  const shown = series.slice(-points);
  const of = shown.length < series.length ? ` (the latest ${shown.length} of ${series.length})` : '';
  return [`\n${title}${of}\n${plot(shown, { height: PLOT_HEIGHT, format: label })}`];
}

/** A value of the axis, never wider than its place: the plot would cut off its first digits. */
function label(value: number): string {
  const text = value.toFixed(2);
  return (Math.abs(value) < 1e8 && text.length <= LABEL_WIDTH ? text : value.toExponential(3)).padStart(
    LABEL_WIDTH,
  );
}
