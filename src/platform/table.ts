import Table from 'cli-table3';
import stringWidth from 'string-width';
import wrapAnsi from 'wrap-ansi';
import { printable } from './terminal';

/** A table for people: without colour codes where they would only be noise (pipes, CI, NO_COLOR). */
export function createTable(head: string[]): Table.Table {
  const plain = !process.stdout.isTTY || Boolean(process.env['NO_COLOR']);
  return new Table({ head, style: plain ? { head: [], border: [] } : { head: ['bold'], border: ['gray'] } });
}

/** No column becomes narrower: a terminal that is narrower still breaks the lines itself. */
const MIN_COLUMN = 4;
/** What the frame takes of a line: a border and two blanks a column, and one border more. */
const frameWidth = (columns: number): number => 3 * columns + 1;

/**
 * A table of figures and of text from outside, whose longest cells go over several lines where the terminal has only
 * `width` columns. Nothing is cut off. Without a width (a pipe, a file) every row is one line.
 */
export function tableOf(
  head: string[],
  rows: readonly (readonly (string | number | bigint)[])[],
  width: number | undefined,
): string {
  const cells = [head, ...rows.map((row) => row.map((cell) => printable(String(cell))))];
  const widths = head.map((_, column) =>
    cells.reduce((most, row) => Math.max(most, stringWidth(row[column] ?? '')), 1),
  );
  if (width !== undefined) {
    let excess = widths.reduce((sum, one) => sum + one, frameWidth(head.length)) - width;
    for (let widest = Math.max(...widths); excess > 0 && widest > MIN_COLUMN; widest = Math.max(...widths)) {
      widths[widths.indexOf(widest)] = widest - 1;
      excess -= 1;
    }
  }
  const wrap = (cell: string, column: number): string =>
    wrapAnsi(cell, widths[column] ?? 1, { hard: true, trim: false, wordWrap: false });
  const [wrappedHead = [], ...wrappedRows] = cells.map((row) => row.map(wrap));
  const table = createTable(wrappedHead);
  table.push(...wrappedRows);
  return table.toString();
}
