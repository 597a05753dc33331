import { randomUUID } from 'node:crypto';
import { RemitError } from '../contracts/errors';
import type { Subscription } from '../generated/prisma/client';
import { AddressRules } from '../platform/addresses';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';
import { newWebhookSecret } from './webhook-signature';

/**
 * `active` gets events. `paused` and `disabled` get none until resumed; their pending deliveries end as cancelled.
 * `deleted` is kept for its deliveries' sake and hidden from every read.
 */
export type SubscriptionState = 'active' | 'paused' | 'disabled' | 'deleted';

/** A subscriber's endpoint, without its secret. */
export interface SubscriptionView {
  id: string;
  url: string;
  /** Full types or wildcards at a dot. */
  eventTypes: string[];
  description: string;
  state: SubscriptionState;
  createdAt: Date;
  updatedAt: Date;
}

function view(subscription: Subscription): SubscriptionView {
  const { id, url, eventTypes, description, state, createdAt, updatedAt } = subscription;
  return { id, url, eventTypes, description, state: state as SubscriptionState, createdAt, updatedAt };
}

/** What a subscription's secret is bound to when it is encrypted. */
export function secretContext(subscriptionId: string): string {
  return `subscription:${subscriptionId}`;
}

export interface NewSubscription {
  /** A UUID that makes the creation idempotent. A fresh one when left out. */
  operationId?: string;
  tenantId: string;
  url: string;
  eventTypes: string[];
  description: string;
  /** WEBHOOK_ALLOWED_PRIVATE_CIDRS: private targets that a URL may name. */
  allowedPrivateCidrs: readonly string[];
  /** SUBSCRIPTIONS_MAX_PER_TENANT. */
  maxPerTenant: number;
}

/**
 * Saves a subscription with a new secret, which is returned here and never again. Idempotent when it is
 * given an operationId: the subscription made under it is returned as it is, with its secret.
 * @throws RemitError invalid_request when the URL is none that webhooks may go to; unprocessable when the tenant has
 *   as many subscriptions as it may have.
 */
export async function createSubscription(
  db: Database,
  keyring: Keyring,
  {
    operationId = randomUUID(),
    tenantId,
    url,
    eventTypes,
    description,
    allowedPrivateCidrs,
    maxPerTenant,
  }: NewSubscription,
): Promise<{ subscription: SubscriptionView; secret: string }> {
  requireDeliverableUrl(url, allowedPrivateCidrs);
  const id = `sub_${operationId.replaceAll('-', '')}`;
  const secret = newWebhookSecret();
  const row = {
    id,
    tenantId,
    url,
    eventTypes: [...new Set(eventTypes)],
    description,
    secretCiphertext: keyring.encrypt(secret, secretContext(id)),
  };
  const created = await db.prisma.$transaction(async (tx) => {
    // Two creations at once would both find the last free place.
    await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('subscriptions:' || ${tenantId}, 0))`;
    const made = await tx.subscription.findFirst({ where: { id, tenantId } });
    if (made) return made;
    const existing = await tx.subscription.count({ where: { tenantId, state: { not: 'deleted' } } });
    if (existing >= maxPerTenant)
      throw new RemitError('unprocessable', `a tenant has at most ${maxPerTenant} subscriptions`);
    return tx.subscription.create({ data: row });
  });
  return {
    subscription: view(created),
    secret: keyring.decrypt(created.secretCiphertext, secretContext(id)),
  };
}

/**
 * What can be said of a URL without asking DNS; where it really leads is checked when it is dialled.
 * @throws RemitError invalid_request that names the field.
 */
function requireDeliverableUrl(text: string, allowedPrivateCidrs: readonly string[]): void {
  const refuse = (message: string) =>
    new RemitError('invalid_request', 'the URL is none that webhooks can be sent to', [
      { path: 'url', message },
    ]);
  if (!URL.canParse(text)) throw refuse('must be a URL');
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw refuse('must start with https:// or http://');
  if (url.username !== '' || url.password !== '') throw refuse('must not contain a user name or password');
  if (new AddressRules(allowedPrivateCidrs).refusesHost(url.hostname))
    throw refuse('must not lead to a private, reserved or local address');
}

/** @throws RemitError not_found, also for another tenant's and for a deleted one. */
export async function getSubscription(
  db: Database,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<SubscriptionView> {
  const found = await db.prisma.subscription.findFirst({
    where: { id, tenantId, state: { not: 'deleted' } },
  });
  if (!found) throw new RemitError('not_found', 'there is no such subscription');
  return view(found);
}

/** A tenant's subscriptions, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listSubscriptions(
  db: Database,
  { tenantId, limit, cursor }: { tenantId: string; limit: number; cursor?: string | undefined },
): Promise<Page<SubscriptionView>> {
  const rows = await db.prisma.subscription.findMany({
    where: { tenantId, state: { not: 'deleted' }, ...afterCursor(cursor) },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

/**
 * Deletes a subscription: no new deliveries from now on, and each pending one is cancelled by its next attempt, before
 * anything is sent. The row stays, hidden, because deliveries refer to it; its secret is overwritten.
 * @throws RemitError not_found, also when it is deleted already.
 */
export async function deleteSubscription(
  db: Database,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<void> {
  const { count } = await db.prisma.subscription.updateMany({
    where: { id, tenantId, state: { not: 'deleted' } },
    data: {
      state: 'deleted',
      secretCiphertext: new Uint8Array(),
      version: { increment: 1 },
      updatedAt: new Date(),
    },
  });
  if (count === 0) throw new RemitError('not_found', 'there is no such subscription');
}
