import { RemitError } from '../contracts/errors';
import type { Prisma } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { isDatabaseUnavailable } from '../platform/postgres-errors';

/** Creations of one tenant that may wait for each other in one process; each takes milliseconds. */
const MAX_WAITING = 1_000;

/** Creations of one kind by one tenant in this process, one after the other. */
interface Line {
  last: Promise<unknown>;
  waiting: number;
  /** Why nobody who stands in it goes on: the database is away, and each would wait for it again. */
  broken?: Error;
}
const linesOf = new WeakMap<object, Map<string, Line>>();

/**
 * Runs a creation while nobody else creates one of these for the tenant, so that what it counts holds until its commit.
 * Creations in one process wait in a line without a connection; other processes are kept out by a lock in the
 * transaction. Were all of them to wait for that lock, a burst of one tenant would hold every connection.
 * @throws RemitError unavailable when too many wait already; whatever `create` and the database throw.
 */
export async function createWithinQuota<T>(
  { prisma }: Pick<Database, 'prisma'>,
  things: string,
  tenantId: string,
  create: (tx: Prisma.TransactionClient) => Promise<T>,
): Promise<T> {
  const key = `${things}:${tenantId}`;
  const lines = linesOf.get(prisma) ?? new Map<string, Line>();
  linesOf.set(prisma, lines);
  const line = lines.get(key) ?? { last: Promise.resolve(), waiting: 0 };
  lines.set(key, line);
  if (line.waiting >= MAX_WAITING)
    throw new RemitError('unavailable', `Too many ${things} are being created at once; try again.`);
  line.waiting += 1;
  const turn = line.last.then(() => {
    if (line.broken !== undefined) throw line.broken;
    return prisma.$transaction(async (tx) => {
      await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended(${key}, 0))`;
      return create(tx);
    });
  });
  line.last = turn.catch(() => undefined);
  try {
    return await turn;
  } catch (error) {
    if (isDatabaseUnavailable(error)) line.broken ??= error as Error;
    throw error;
  } finally {
    line.waiting -= 1;
    if ((line.waiting === 0 || line.broken !== undefined) && lines.get(key) === line) lines.delete(key);
  }
}

/** @throws RemitError unprocessable when the tenant has as many as it may. */
export function requireRoom(things: string, existing: number, max: number): void {
  if (existing >= max) throw new RemitError('unprocessable', `A tenant has at most ${max} ${things}.`);
}
