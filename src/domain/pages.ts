import { RemitError } from '../contracts/errors';

/** A place in a list ordered by creation time and id, newest first. */
export interface PagePosition {
  createdAt: Date;
  id: string;
}

export interface Page<T> {
  items: T[];
  /** Hands back the next page; null at the end. */
  nextCursor: string | null;
}

/** An opaque cursor for the position after an item. */
export function encodeCursor(position: PagePosition): string {
  return Buffer.from(JSON.stringify([position.createdAt.toISOString(), position.id])).toString('base64url');
}

/** @throws RemitError invalid_request when it is not a cursor that encodeCursor made. */
export function decodeCursor(cursor: string): PagePosition {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (Array.isArray(parsed) && parsed.length === 2) {
      const [at, id] = parsed as [unknown, unknown];
      const createdAt = new Date(String(at));
      if (typeof id === 'string' && /^[\w-]{1,64}$/.test(id) && !Number.isNaN(createdAt.getTime()))
        return { createdAt, id };
    }
  } catch {
    // Not base64url of JSON: refused below, like everything else that is not a cursor of ours.
  }
  throw new RemitError('invalid_request', 'the cursor is not one that a list returned', [
    { path: 'cursor', message: 'not a cursor that a list returned' },
  ]);
}

/** The condition for items after a cursor, newest first, as a Prisma `where`. */
export function afterCursor(cursor: string | undefined) {
  if (cursor === undefined) return {};
  const { createdAt, id } = decodeCursor(cursor);
  // The first condition follows from the second, in which no index could find where to begin.
  return {
    createdAt: { lte: createdAt },
    OR: [{ createdAt: { lt: createdAt } }, { createdAt, id: { lt: id } }],
  };
}

/** The condition for rows made from `since` on and before `until`, as a Prisma `where`. */
export function createdWithin({ since, until }: { since?: Date | undefined; until?: Date | undefined }) {
  if (!since && !until) return {};
  return { createdAt: { ...(since && { gte: since }), ...(until && { lt: until }) } };
}

/** Prisma's order for pages: newest first, ids break ties. */
export const NEWEST_FIRST = [{ createdAt: 'desc' as const }, { id: 'desc' as const }];

/** Cuts a page out of up to `limit + 1` rows. */
export function toPage<Row extends PagePosition, T>(
  rows: Row[],
  limit: number,
  view: (row: Row) => T,
): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return { items: items.map(view), nextCursor: rows.length > limit && last ? encodeCursor(last) : null };
}
