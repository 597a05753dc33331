import { RemitError } from '../contracts/errors';
import type { Prisma } from '../generated/prisma/client';

/** Waits until nobody else is creating one of these for the tenant, so that what is counted next holds until the commit. */
export async function lockQuota(
  tx: Pick<Prisma.TransactionClient, '$executeRaw'>,
  things: string,
  tenantId: string,
): Promise<void> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended(${`${things}:${tenantId}`}, 0))`;
}

/** @throws RemitError unprocessable when the tenant has as many as it may. */
export function requireRoom(things: string, existing: number, max: number): void {
  if (existing >= max) throw new RemitError('unprocessable', `A tenant has at most ${max} ${things}.`);
}
