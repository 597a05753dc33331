import { randomUUID } from 'node:crypto';
import { RemitError } from '../contracts/errors';
import type { SubscriptionFilter } from '../contracts/webhooks';
import type { Prisma, Subscription } from '../generated/prisma/client';
import { AddressRules } from '../webhooks/addresses';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { recordChange, type Actor } from './audit';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';
import { createWithinQuota, requireRoom } from './quota';
import { requireOneRow, requireVersion, type ExpectedVersions } from './versions';
import { newWebhookSecret } from '../webhooks/signature';

/**
 * `active` and `failing` get events. `paused` and `disabled` get none until resumed; their pending deliveries are held.
 * `deleted` is kept for its deliveries' sake and hidden from every read.
 */
export type SubscriptionState = 'active' | 'failing' | 'paused' | 'disabled' | 'deleted';
/** The states that anybody gets to see. */
export type VisibleState = Exclude<SubscriptionState, 'deleted'>;

/** A subscriber's endpoint, without its secret. */
export interface SubscriptionView {
  id: string;
  url: string;
  /** Full types or wildcards at a dot. */
  eventTypes: string[];
  description: string;
  /** Conditions on an event's data, all of which must hold. */
  filter: SubscriptionFilter;
  /** Names of the custom headers; their values are as secret as the secret. */
  headerNames: string[];
  /** Most attempts a second; null for no limit of its own. */
  rateLimitPerSecond: number | null;
  /** Deliveries keep the order of the events. */
  ordered: boolean;
  /** The client's own id. */
  uid: string | null;
  labels: string[];
  metadata: Record<string, string>;
  state: VisibleState;
  /** Why: `operator`, `gone`, `exhausted`, or what the last attempt met; null while it is active. */
  stateReason: string | null;
  stateChangedAt: Date;
  /** It is left alone until then; null when it is not. */
  restsUntil: Date | null;
  version: number;
  createdAt: Date;
  updatedAt: Date;
}

function view(subscription: Subscription): SubscriptionView {
  const { id, url, eventTypes, description, filter, headerNames, rateLimitPerSecond } = subscription;
  const { ordered, uid, labels, state, stateReason, stateChangedAt, version, createdAt, updatedAt } =
    subscription;
  const { throttledUntil } = subscription;
  return {
    ...{ id, url, eventTypes, description, headerNames, rateLimitPerSecond, ordered, uid, labels },
    ...{ stateReason, stateChangedAt, version, createdAt, updatedAt },
    metadata: subscription.metadata as Record<string, string>,
    filter: filter as SubscriptionFilter,
    restsUntil: throttledUntil && throttledUntil > new Date() ? throttledUntil : null,
    state: state as VisibleState,
  };
}

/** What a subscription's secret is bound to when it is encrypted. */
export function secretContext(subscriptionId: string): string {
  return `subscription:${subscriptionId}`;
}

/** What a subscription's custom headers are bound to when they are encrypted. */
export function headersContext(subscriptionId: string): string {
  return `${secretContext(subscriptionId)}:headers`;
}

/** What a subscription can be given in addition to URL and types. */
export interface SubscriptionOptions {
  filter?: SubscriptionFilter | undefined;
  /** Custom headers by name; they replace all that there were. */
  headers?: Record<string, string> | undefined;
  rateLimitPerSecond?: number | null | undefined;
  ordered?: boolean | undefined;
  uid?: string | null | undefined;
  labels?: string[] | undefined;
  metadata?: Record<string, string> | undefined;
}

/** Custom headers as they are stored: names in lower case to be shown, all of them encrypted. */
function storedHeaders(keyring: Keyring, id: string, headers: Record<string, string>) {
  const lower = Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
  );
  const headerNames = Object.keys(lower).sort();
  const headersCiphertext =
    headerNames.length > 0 ? keyring.encrypt(JSON.stringify(lower), headersContext(id)) : null;
  return { headerNames, headersCiphertext };
}

/** What the audit log says of a subscription: nothing of its secrets. */
function auditable(subscription: SubscriptionView) {
  const { url, eventTypes, description, filter, headerNames, rateLimitPerSecond, ordered, state } =
    subscription;
  const { uid, labels, metadata } = subscription;
  return {
    ...{ url, eventTypes, description, filter, headerNames, rateLimitPerSecond, ordered, state },
    ...{ uid, labels, metadata },
  };
}

/** Of what happens to a subscription, in the audit log. */
export const subscriptionCause = (id: string) => `subscription:${id}`;
export const noSubscription = () => new RemitError('not_found', 'there is no such subscription');

export interface NewSubscription extends SubscriptionOptions {
  /** It gets nothing until somebody resumes it. */
  paused?: boolean;
  /** The client's own, in the form of Standard Webhooks. A random one when left out. */
  secret?: string | undefined;
  /** For the audit log. */
  by?: Actor;
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
 *   as many subscriptions as it may have; conflict when the one made under the operationId has been deleted or given
 *   another secret, or when another has its uid.
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
    by = { tenantId, actor: 'system', correlationId: operationId },
    filter = [],
    headers = {},
    rateLimitPerSecond = null,
    ordered = false,
    paused = false,
    uid = null,
    labels = [],
    metadata = {},
    secret = newWebhookSecret(),
  }: NewSubscription,
): Promise<{ subscription: SubscriptionView; secret: string }> {
  requireDeliverableUrl(url, allowedPrivateCidrs);
  const id = `sub_${operationId.replaceAll('-', '')}`;
  const row = {
    id,
    tenantId,
    url,
    eventTypes: [...new Set(eventTypes)],
    description,
    secretCiphertext: keyring.encrypt(secret, secretContext(id)),
    ...storedHeaders(keyring, id, headers),
    filter,
    rateLimitPerSecond,
    ordered,
    uid,
    labels: [...new Set(labels)],
    metadata,
    ...(paused && { state: 'paused', stateReason: 'operator', missedSince: new Date() }),
  };
  const created = await createWithinQuota(db, 'subscriptions', tenantId, async (tx) => {
    const made = await tx.subscription.findFirst({ where: { id, tenantId } });
    if (made?.state === 'deleted')
      throw new RemitError('conflict', 'it was created by this request and has been deleted since');
    if (made && made.secretOperationId !== null)
      throw new RemitError(
        'conflict',
        'it was created by this request and its secret has been rotated since',
      );
    if (made) return made;
    const existing = await tx.subscription.count({ where: { tenantId, state: { not: 'deleted' } } });
    requireRoom('subscriptions', existing, maxPerTenant);
    if (uid !== null) await requireFreeUid(tx, tenantId, uid);
    const fresh = await tx.subscription.create({ data: row });
    await recordChange(tx, by, {
      action: 'subscription.created',
      cause: subscriptionCause(id),
      after: auditable(view(fresh)),
    });
    return fresh;
  });
  return {
    subscription: view(created),
    secret: keyring.decrypt(created.secretCiphertext, secretContext(id)),
  };
}

/**
 * Two that want the same uid at once come one after the other: the later one waits for the transaction of the first.
 * @throws RemitError conflict when another subscription has it.
 */
async function requireFreeUid(tx: Prisma.TransactionClient, tenantId: string, uid: string): Promise<void> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended(${`uid:${tenantId}:${uid}`}, 0))`;
  const holder = await tx.subscription.findFirst({ where: { tenantId, uid }, select: { id: true } });
  if (holder) throw new RemitError('conflict', `the uid is that of ${holder.id}`);
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

/**
 * The id of the subscription that `ref` names: it is its id, or its uid. An id is returned without looking; undefined when
 * nobody of the tenant has that uid.
 */
export async function findSubscriptionId(
  db: Pick<Database, 'prisma'>,
  { tenantId, ref }: { tenantId: string; ref: string },
): Promise<string | undefined> {
  if (!/^[\w.-]{1,128}$/.test(ref)) return undefined;
  if (ref.startsWith('sub_')) return ref;
  const found = await db.prisma.subscription.findFirst({
    where: { tenantId, uid: ref },
    select: { id: true },
  });
  return found?.id;
}

/** @throws RemitError not_found, also for another tenant's and for a deleted one. */
export async function getSubscription(
  db: Pick<Database, 'prisma'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<SubscriptionView> {
  const found = await db.prisma.subscription.findFirst({
    where: { id, tenantId, state: { not: 'deleted' } },
  });
  if (!found) throw noSubscription();
  return view(found);
}

/** Those of a tenant's subscriptions that have these ids, newest first; few. */
export async function getSubscriptions(
  db: Pick<Database, 'prisma'>,
  { tenantId, ids }: { tenantId: string; ids: readonly string[] },
): Promise<SubscriptionView[]> {
  const rows = await db.prisma.subscription.findMany({
    where: { id: { in: [...ids] }, tenantId, state: { not: 'deleted' } },
    orderBy: NEWEST_FIRST,
  });
  return rows.map(view);
}

/** A tenant's subscriptions, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listSubscriptions(
  db: Pick<Database, 'prisma'>,
  {
    tenantId,
    state,
    uid,
    label,
    limit,
    cursor,
  }: {
    tenantId: string;
    state?: VisibleState | undefined;
    uid?: string | undefined;
    label?: string | undefined;
    limit: number;
    cursor?: string | undefined;
  },
): Promise<Page<SubscriptionView>> {
  const rows = await db.prisma.subscription.findMany({
    where: {
      ...{ tenantId, state: state ?? { not: 'deleted' }, ...afterCursor(cursor) },
      ...(uid !== undefined && { uid }),
      ...(label !== undefined && { labels: { has: label } }),
    },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

export interface SubscriptionChanges extends SubscriptionOptions {
  url?: string | undefined;
  eventTypes?: string[] | undefined;
  description?: string | undefined;
}

/**
 * Changes the given fields. Holds for events from now on, URL and headers also for deliveries that are pending.
 * @throws RemitError not_found, precondition_failed, invalid_request when the URL is none that webhooks may go to.
 */
export async function updateSubscription(
  db: Pick<Database, 'prisma'>,
  keyring: Keyring,
  by: Actor,
  {
    id,
    expected,
    changes: { headers, eventTypes, labels, ...changes },
    allowedPrivateCidrs,
  }: {
    id: string;
    expected: ExpectedVersions;
    changes: SubscriptionChanges;
    allowedPrivateCidrs: readonly string[];
  },
): Promise<SubscriptionView> {
  const { tenantId } = by;
  if (changes.url !== undefined) requireDeliverableUrl(changes.url, allowedPrivateCidrs);
  const before = await getSubscription(db, { tenantId, id });
  requireVersion(expected, before.version);
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  return db.prisma.$transaction(async (tx) => {
    if (typeof changes.uid === 'string' && changes.uid !== before.uid)
      await requireFreeUid(tx, tenantId, changes.uid);
    const { count } = await tx.subscription.updateMany({
      where: { id, tenantId, version: before.version, state: { not: 'deleted' } },
      data: {
        ...(given as Prisma.SubscriptionUpdateManyMutationInput),
        ...(eventTypes && { eventTypes: [...new Set(eventTypes)] }),
        ...(labels && { labels: [...new Set(labels)] }),
        ...(headers && storedHeaders(keyring, id, headers)),
        // What the former URL did says nothing of the new one.
        ...(changes.url !== undefined &&
          changes.url !== before.url && { throttledUntil: null, throttleLevel: 0 }),
        version: { increment: 1 },
        updatedAt: new Date(),
      },
    });
    requireOneRow(count);
    // Places that were reserved in the rate before would hold up the new one.
    if (changes.rateLimitPerSecond !== undefined && changes.rateLimitPerSecond !== before.rateLimitPerSecond)
      await tx.subscriptionPacing.deleteMany({ where: { subscriptionId: id } });
    const after = view(await tx.subscription.findUniqueOrThrow({ where: { id } }));
    await recordChange(tx, by, {
      action: 'subscription.updated',
      cause: subscriptionCause(id),
      before: auditable(before),
      // New values behind the same names are a change that nothing else would show.
      after: { ...auditable(after), ...(headers && { headersReplaced: true }) },
    });
    return after;
  });
}

/**
 * Deletes a subscription: no new deliveries from now on, and each pending one is cancelled by its next attempt, before
 * anything is sent. The row stays, hidden, because deliveries refer to it; its secrets and headers are overwritten.
 * @throws RemitError not_found, also when it is deleted already; precondition_failed.
 */
export async function deleteSubscription(
  db: Pick<Database, 'prisma'>,
  {
    tenantId,
    id,
    by,
    expected = '*',
  }: { tenantId: string; id: string; by?: Actor; expected?: ExpectedVersions },
): Promise<void> {
  const before = await getSubscription(db, { tenantId, id });
  requireVersion(expected, before.version);
  const actor = by ?? { tenantId, actor: 'system', correlationId: id };
  await db.prisma.$transaction(async (tx) => {
    const { count } = await tx.subscription.updateMany({
      where: {
        id,
        tenantId,
        state: { not: 'deleted' },
        ...(expected === '*' ? {} : { version: before.version }),
      },
      data: {
        state: 'deleted',
        secretCiphertext: new Uint8Array(),
        previousSecretCiphertext: null,
        previousSecretValidUntil: null,
        olderSecretCiphertexts: [],
        olderSecretsValidUntil: [],
        headersCiphertext: null,
        // Free for another.
        uid: null,
        version: { increment: 1 },
        updatedAt: new Date(),
      },
    });
    if (count === 0) throw noSubscription();
    await recordChange(tx, actor, {
      action: 'subscription.deleted',
      cause: subscriptionCause(id),
      before: auditable(before),
    });
  });
}
