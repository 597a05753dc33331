import { keepPreviousData, useInfiniteQuery } from '@tanstack/react-query';
import {
  flexRender,
  getCoreRowModel,
  useReactTable,
  type ColumnDef,
  type RowData,
} from '@tanstack/react-table';
import { Link } from '@tanstack/react-router';
import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useMemo, useRef, useSyncExternalStore, type ReactNode } from 'react';
import { count } from '../lib/format';
import { Failure, Loading } from './basics';

declare module '@tanstack/react-table' {
  // The parameters are the library's own.
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface ColumnMeta<TData extends RowData, TValue> {
    /** CSS grid track; `minmax(0, 1fr)` when left out. */
    width?: string;
    right?: boolean;
    /** Left out on narrow screens. */
    wide?: boolean;
  }
}

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

/** A list of the API that is read page by page as it is scrolled. */
export function usePages<T>(
  key: readonly unknown[],
  fetchPage: (cursor: string | undefined) => Promise<Page<T>>,
  refreshMs: number | false = false,
) {
  const query = useInfiniteQuery({
    queryKey: key,
    queryFn: ({ pageParam }) => fetchPage(pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.nextCursor ?? undefined,
    placeholderData: keepPreviousData,
    refetchInterval: (state) => (state.state.data && state.state.data.pages.length > 1 ? false : refreshMs),
  });
  const rows = useMemo(() => query.data?.pages.flatMap(({ items }) => items) ?? [], [query.data]);
  return { ...query, rows };
}

const NARROW = '(max-width: 820px)';
const useNarrow = (): boolean =>
  useSyncExternalStore(
    (changed) => {
      const media = matchMedia(NARROW);
      media.addEventListener('change', changed);
      return () => media.removeEventListener('change', changed);
    },
    () => matchMedia(NARROW).matches,
  );

export type Column<T> = ColumnDef<T, unknown>;

/** One column: a name, what to show, and how wide. */
export function column<T>(
  id: string,
  header: ReactNode,
  cell: (row: T) => ReactNode,
  meta: Column<T>['meta'] = {},
): Column<T> {
  return { id, header: () => header, cell: ({ row }) => cell(row.original), meta };
}

/** The column of ids, each of which leads to its page. */
export const idColumn = <T extends { id: string }>(
  to: `/${'payments' | 'payouts' | 'orders' | 'disputes' | 'events' | 'subscriptions'}/$id`,
  width: string,
): Column<T> =>
  column<T>(
    'id',
    'Id',
    ({ id }) => (
      <Link to={to} params={{ id }} className="open mono">
        {id}
      </Link>
    ),
    { width },
  );

const ROW_PX = 36;
const AHEAD_ROWS = 30;

/**
 * A list of any length: only what is in sight is in the document, and the next page is asked for before its end is reached. Arrow keys go
 * from row to row.
 */
export function List<T>({
  label,
  pages,
  columns,
  keyOf,
  empty,
  foot,
}: {
  label: string;
  pages: ReturnType<typeof usePages<T>>;
  columns: Column<T>[];
  keyOf: (row: T) => string;
  empty: ReactNode;
  foot?: ReactNode;
}) {
  const narrow = useNarrow();
  const shown = useMemo(
    () => (narrow ? columns.filter(({ meta }) => !meta?.wide) : columns),
    [columns, narrow],
  );
  const { rows, hasNextPage, isFetchingNextPage, fetchNextPage } = pages;
  const table = useReactTable({
    data: rows,
    columns: shown,
    getCoreRowModel: getCoreRowModel(),
    getRowId: keyOf,
  });
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_PX,
    overscan: 12,
  });
  const inSight = virtual.getVirtualItems();
  const last = inSight.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasNextPage && !isFetchingNextPage && last >= rows.length - AHEAD_ROWS) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage, last, rows.length]);

  const tracks = { gridTemplateColumns: shown.map(({ meta }) => meta?.width ?? 'minmax(0, 1fr)').join(' ') };
  const all = table.getRowModel().rows;
  if (pages.error && rows.length === 0)
    return (
      <div className="panel list">
        <Failure error={pages.error} retry={() => void pages.refetch()} />
      </div>
    );
  return (
    <div className="panel list">
      <div className="scroller" ref={scroller} onKeyDown={moveByArrows}>
        {pages.isPending ? (
          <Loading />
        ) : rows.length === 0 ? (
          empty
        ) : (
          <div
            className="grid"
            role="table"
            aria-label={label}
            aria-rowcount={hasNextPage ? -1 : rows.length + 1}
          >
            <div role="rowgroup">
              <div className="row thead" role="row" style={tracks}>
                {table.getFlatHeaders().map((header) => (
                  <div
                    key={header.id}
                    role="columnheader"
                    className={header.column.columnDef.meta?.right ? 'cell right' : 'cell'}
                  >
                    {flexRender(header.column.columnDef.header, header.getContext())}
                  </div>
                ))}
              </div>
            </div>
            <div role="rowgroup" style={{ height: virtual.getTotalSize(), position: 'relative' }}>
              {inSight.map(({ index, start }) => (
                <div
                  key={all[index]!.id}
                  role="row"
                  aria-rowindex={index + 2}
                  className="row tr"
                  style={{ ...tracks, transform: `translateY(${start}px)` }}
                >
                  {all[index]!.getVisibleCells().map((cell) => (
                    <div
                      key={cell.id}
                      role="cell"
                      className={cell.column.columnDef.meta?.right ? 'cell right' : 'cell'}
                    >
                      {flexRender(cell.column.columnDef.cell, cell.getContext())}
                    </div>
                  ))}
                </div>
              ))}
            </div>
          </div>
        )}
      </div>
      <div className="foot">
        <span role="status">
          {pages.isPending
            ? 'Loading…'
            : `${count(rows.length)}${hasNextPage ? ' loaded, more below' : rows.length === 1 ? ' row' : ' rows'}`}
        </span>
        {pages.error ? <span className="bad-text">{pages.error.message}</span> : null}
        <span className="grow" />
        {foot}
      </div>
    </div>
  );
}

function moveByArrows(event: React.KeyboardEvent<HTMLDivElement>): void {
  if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
  const links = [...event.currentTarget.querySelectorAll<HTMLElement>('.tr a.open')];
  const at = links.indexOf(document.activeElement as HTMLElement);
  const to = links[at + (event.key === 'ArrowDown' ? 1 : -1)];
  if (at === -1 || !to) return;
  event.preventDefault();
  to.focus();
}
