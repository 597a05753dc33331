import type { ReactNode } from 'react';

/** A column: its heading, what it shows of a row, and the classes of its cells. */
export type PlainColumn<T> = readonly [
  heading: ReactNode,
  cell: (row: T) => ReactNode,
  className?: 'right' | 'mono' | 'nowrap' | 'right nowrap',
];

/** A table of so few rows that all of them are in the document; without headings where no column has one. */
export function PlainTable<T>({
  columns,
  rows,
  keyOf,
  stack = false,
}: {
  columns: readonly PlainColumn<T>[];
  rows: readonly T[];
  keyOf: (row: T) => string;
  /** On narrow screens, the cells of a row stand one below the other. */
  stack?: boolean;
}) {
  return (
    <div className="tablewrap">
      <table className={stack ? 'plain stack' : 'plain'}>
        {columns.some(([heading]) => heading !== null) && (
          <thead>
            <tr>
              {columns.map(([heading, , className], index) => (
                <th key={index} className={className?.startsWith('right') ? 'right' : undefined}>
                  {heading}
                </th>
              ))}
            </tr>
          </thead>
        )}
        <tbody>
          {rows.map((row) => (
            <tr key={keyOf(row)}>
              {columns.map(([, cell, className], index) => (
                <td key={index} className={className}>
                  {cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
