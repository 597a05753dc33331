import { RemitError } from '../../contracts/errors';
import { uuidOrUndefined } from '../../contracts/http';
import { findSubscriptionId } from '../../domain/subscriptions';
import type { ApiDeps, Call } from './route';

/** The ids that paths and filters name. */

/** @param what is named, for people. @throws RemitError not_found: what is no UUID is nobody's id. */
export function uuidOr404(text: string, what: string): string {
  const id = uuidOrUndefined(text);
  if (id === undefined) throw new RemitError('not_found', `There is no such ${what}.`);
  return id;
}

type Tenant = Pick<Call<unknown, unknown, unknown>['caller'], 'tenantId'>;

/**
 * The subscription that a path names, by its id or its uid.
 * @throws RemitError not_found.
 */
export async function subscriptionId(
  { database }: Pick<ApiDeps, 'database'>,
  { tenantId }: Tenant,
  ref: string,
): Promise<string> {
  const id = await findSubscriptionId(database, { tenantId, ref });
  if (id === undefined) throw new RemitError('not_found', 'there is no such subscription');
  return id;
}

/** The same for the filter of a list, where nobody of that name is nothing found. */
export async function subscriptionIdFilter(
  { database }: Pick<ApiDeps, 'database'>,
  { tenantId }: Tenant,
  ref: string | undefined,
): Promise<string | undefined> {
  return ref === undefined ? undefined : ((await findSubscriptionId(database, { tenantId, ref })) ?? ref);
}
