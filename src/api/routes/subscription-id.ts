import { RemitError } from '../../contracts/errors';
import { resolveSubscriptionId } from '../../domain/subscriptions';
import type { ApiDeps, Call } from './route';

/**
 * The subscription that a path or a filter names, by its id or its uid.
 * @throws RemitError not_found.
 */
export function subscriptionId(
  { database }: Pick<ApiDeps, 'database'>,
  { tenantId }: Pick<Call<unknown, unknown, unknown>['caller'], 'tenantId'>,
  ref: string,
): Promise<string> {
  return resolveSubscriptionId(database, { tenantId, ref });
}

/** The same for the filter of a list, where nobody of that name is nothing found. */
export async function subscriptionIdFilter(
  deps: Pick<ApiDeps, 'database'>,
  caller: Pick<Call<unknown, unknown, unknown>['caller'], 'tenantId'>,
  ref: string | undefined,
): Promise<string | undefined> {
  if (ref === undefined) return undefined;
  try {
    return await subscriptionId(deps, caller, ref);
  } catch (error) {
    if (error instanceof RemitError && error.code === 'not_found') return ref;
    throw error;
  }
}
