import type { Database } from '../platform/postgres';

/** A window of a limit, and how many of its requests are asked for. */
export interface RequestsAsked {
  /** Whose limit. */
  key: string;
  startsAt: Date;
  asked: number;
}

/**
 * Takes requests out of windows that all processes share. Not idempotent: what was asked for without an answer may be
 * taken all the same.
 * @returns for each of them, in the same order, how many of its window had been taken before.
 * @throws what the pool throws when the database does not answer in time.
 */
export async function takeRequests(
  { limitsPool }: Pick<Database, 'limitsPool'>,
  asks: readonly RequestsAsked[],
): Promise<number[]> {
  const { rows } = await limitsPool.query<{ key: string; starts_at: Date; used_before: string }>({
    name: 'take_requests',
    text: 'SELECT * FROM take_requests($1, $2, $3)',
    values: [asks.map(({ key }) => key), asks.map((ask) => ask.startsAt), asks.map(({ asked }) => asked)],
  });
  const nameOf = (key: string, startsAt: Date) => `${startsAt.getTime()} ${key}`;
  const before = new Map(rows.map((row) => [nameOf(row.key, row.starts_at), Number(row.used_before)]));
  return asks.map(({ key, startsAt }) => {
    const found = before.get(nameOf(key, startsAt));
    if (found === undefined) throw new Error('take_requests did not answer for every window');
    return found;
  });
}
