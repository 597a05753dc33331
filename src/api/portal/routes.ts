import type { z } from 'zod';
import { RemitError } from '../../contracts/errors';
import { EventDetail, EventPage, EventsQuery } from '../../contracts/events';
import { IdParams, PageQuery } from '../../contracts/http';
import { JsonText } from '../../contracts/json';
import { PortalSecret } from '../../contracts/portal';
import { DeliveriesQuery, DeliveryPage, Subscription } from '../../contracts/subscriptions';
import { countWaiting } from '../../domain/lanes';
import {
  getPortalEvent,
  listPortalDeliveries,
  listPortalEvents,
  requirePortalDelivery,
} from '../../domain/portal-reads';
import { revealSecret } from '../../domain/subscription-secrets';
import { getSubscription, getSubscriptions, type SubscriptionView } from '../../domain/subscriptions';
import { deliveryActionRoutes } from '../routes/delivery-actions';
import { eventOf } from '../routes/events';
import { uuidOr404 } from '../routes/ids';
import { actorOf, defineRoute, pageLimits, pageOf, timeOf, type Call, type Route } from '../routes/route';
import { statisticsRoutes } from '../routes/statistics';
import { deliveryOf, subscriptionOf, subscriptionRoutes } from '../routes/subscriptions';

/** A call of the portal: one of the API's own, for some of the tenant's subscriptions. */
export interface PortalRoute {
  route: Route;
  /** A link that is read-only does not allow it. */
  acts: boolean;
}

type AnyCall = Call<unknown, unknown, unknown>;

/** All that a portal's session may see. @throws Error when the caller is none: nothing is shown then. */
function scopeOf({ caller }: Pick<AnyCall, 'caller'>) {
  const { tenantId, subscriptionIds } = caller;
  if (!subscriptionIds) throw new Error('a route of the portal was called without its session');
  return { tenantId, subscriptionIds };
}

/** @throws RemitError not_found unless the subscription is one of the session's. Only its id will do, and no uid. */
function requireOwn(call: Pick<AnyCall, 'caller'>, id: string): string {
  if (!scopeOf(call).subscriptionIds.includes(id))
    throw new RemitError('not_found', 'There is no such subscription.');
  return id;
}

/** Nothing that the tenant keeps for itself: its own id, labels and notes. */
const forSubscriber = (subscription: SubscriptionView): z.output<typeof Subscription> => ({
  ...subscriptionOf(subscription),
  ...{ uid: null, labels: [], metadata: {} },
});

const token = { access: 'token', tag: 'Portal' } as const;

const reads: Route[] = [
  defineRoute({
    ...token,
    method: 'get',
    path: '/api/v1/subscriptions',
    operationId: 'listSubscriptions',
    summary: 'The subscriptions of the link',
    responses: { 200: { description: 'All of them' } },
    async handle({ deps, ...call }) {
      const { tenantId, subscriptionIds: ids } = scopeOf(call);
      const found = await getSubscriptions(deps.database, { tenantId, ids });
      return { status: 200, body: { items: found.map(forSubscriber), nextCursor: null } };
    },
  }),
  defineRoute({
    ...token,
    method: 'get',
    path: '/api/v1/subscriptions/:id',
    operationId: 'getSubscription',
    summary: 'One of them',
    params: IdParams,
    responses: { 200: { description: 'The subscription', schema: Subscription } },
    async handle({ deps, params, ...call }) {
      const id = requireOwn(call, params.id);
      const { tenantId } = scopeOf(call);
      const subscription = await getSubscription(deps.database, { tenantId, id });
      const waiting = await countWaiting(deps.database, id);
      return { status: 200, body: { ...forSubscriber(subscription), waiting } };
    },
  }),
  defineRoute({
    ...token,
    method: 'get',
    path: '/api/v1/deliveries',
    operationId: 'listDeliveries',
    summary: 'Their deliveries, newest first',
    query: DeliveriesQuery.omit({ eventId: true }),
    responses: { 200: { description: 'A page of deliveries', schema: DeliveryPage } },
    async handle({ deps, query, ...call }) {
      const { tenantId, subscriptionIds } = scopeOf(call);
      const { subscriptionId, eventType, status } = query;
      const page = await listPortalDeliveries(deps.database, {
        ...{ tenantId, eventType, status },
        subscriptionIds: subscriptionId === undefined ? subscriptionIds : [requireOwn(call, subscriptionId)],
        ...timeOf(query),
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, deliveryOf) };
    },
  }),
  defineRoute({
    ...token,
    method: 'get',
    path: '/api/v1/events',
    operationId: 'listEvents',
    summary: 'The events that they got, newest first',
    query: PageQuery.extend(EventsQuery.pick({ type: true, since: true, until: true }).shape),
    responses: { 200: { description: 'A page of events', schema: EventPage } },
    async handle({ deps, query, ...call }) {
      const page = await listPortalEvents(deps.database, {
        ...scopeOf(call),
        eventType: query.type,
        ...timeOf(query),
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, (event) => ({ ...eventOf(event), clientId: null })) };
    },
  }),
  defineRoute({
    ...token,
    method: 'get',
    path: '/api/v1/events/:id',
    operationId: 'getEvent',
    summary: 'An event with its deliveries to them',
    params: IdParams,
    responses: { 200: { description: 'The event', schema: EventDetail } },
    async handle({ deps, params, ...call }) {
      if (!/^[\w-]{1,64}$/.test(params.id)) throw new RemitError('not_found', 'There is no such event.');
      const event = await getPortalEvent(deps.database, { ...scopeOf(call), id: params.id });
      const { data, deliveryCounts, deliveries } = event;
      const rest = {
        ...{ ...eventOf(event), clientId: null, deliveryCounts },
        deliveries: deliveries.map(deliveryOf),
      };
      const text = `${JSON.stringify(rest).slice(0, -1)},"data":${data}}`;
      return { status: 200, body: new JsonText(text, undefined) };
    },
  }),
];

const reveal = defineRoute({
  ...token,
  answersSecret: true,
  method: 'post',
  path: '/api/v1/subscriptions/:id/secret',
  operationId: 'revealSubscriptionSecret',
  summary: 'See the secret of one of them; noted in the audit log',
  params: IdParams,
  responses: { 200: { description: 'The present secret', schema: PortalSecret } },
  async handle({ deps, params, ...call }) {
    const id = requireOwn(call, params.id);
    return {
      status: 200,
      body: { secret: await revealSecret(deps.database, deps.keyring, actorOf(call), id) },
    };
  },
});

/** Judges whether a call is about what the session may see. @throws RemitError not_found. */
type Guard = (call: AnyCall & { params: { id: string }; query: { subscriptionId?: string } }) => unknown;

const ownSubscription: Guard = (call) => requireOwn(call, call.params.id);
const ownDelivery: Guard = (call) =>
  requirePortalDelivery(call.deps.database, {
    ...scopeOf(call),
    id: uuidOr404(call.params.id, 'delivery'),
  });
const ownStatistics: Guard = (call) => requireOwn(call, call.query.subscriptionId ?? '');

const API: readonly Route[] = [...subscriptionRoutes, ...deliveryActionRoutes, ...statisticsRoutes];

/** A route of the API as it is, behind a guard. */
function guarded(operationId: string, guard: Guard): Route {
  const route = API.find((each) => each.operationId === operationId);
  if (!route) throw new Error(`there is no route ${operationId}`);
  return {
    ...route,
    handle: async (call) => {
      await guard(call);
      return route.handle(call);
    },
  };
}

const look = (route: Route): PortalRoute => ({ route, acts: false });
const act = (route: Route): PortalRoute => ({ route, acts: true });

/**
 * Everything that a portal's session can call, below /portal; there is nothing else for it. Each looks at no more than the
 * caller's `subscriptionIds`.
 */
export const PORTAL_ROUTES: readonly PortalRoute[] = [
  ...reads.map(look),
  look(guarded('getDelivery', ownDelivery)),
  look(guarded('listAttempts', ownDelivery)),
  look(guarded('attemptStatistics', ownStatistics)),
  act(guarded('resendDelivery', ownDelivery)),
  act(guarded('tryDeliveryNow', ownDelivery)),
  act(guarded('testSubscription', ownSubscription)),
  act(guarded('rotateSubscriptionSecret', ownSubscription)),
  act(reveal),
];
