import { type z } from 'zod';
import { RemitError } from '../../contracts/errors';
import { IdParams, PageQuery } from '../../contracts/http';
import {
  CreateSubscriptionBody,
  DeliveriesQuery,
  Delivery,
  AttemptsQuery,
  DeliveryAttempts,
  FoundAttempts,
  DeliveryPage,
  Subscription,
  SubscriptionCreated,
  RotateSecretBody,
  FilterTested,
  SecretRotated,
  SubscriptionPage,
  SubscriptionsQuery,
  TestFilterBody,
  UpdateSubscriptionBody,
} from '../../contracts/subscriptions';
import { findAttempts, listAttempts } from '../../domain/attempt-reads';
import { getDelivery, listDeliveries, type DeliveryView } from '../../domain/deliveries';
import { rotateSecret } from '../../domain/subscription-secrets';
import {
  createSubscription,
  deleteSubscription,
  getSubscription,
  listSubscriptions,
  updateSubscription,
  type SubscriptionView,
} from '../../domain/subscriptions';
import { PublishedEvent } from '../../contracts/events';
import { testFilter } from '../../domain/filter-test';
import { countWaiting } from '../../domain/lanes';
import { tellLane } from '../delivery-workflows';
import { actorOf, defineRoute, etagOf, given, pageLimits, pageOf, timeOf, type Route } from './route';
import { subscriptionId, subscriptionIdFilter, uuidOr404 } from './ids';

/** Field by field: what the domain adds to a row later does not leave by itself. */
export function subscriptionOf(subscription: SubscriptionView): z.output<typeof Subscription> {
  const { id, url, eventTypes, description, filter, headerNames, rateLimitPerSecond } = subscription;
  const { ordered, uid, labels, metadata, state, stateReason, stateChangedAt, version } = subscription;
  const { createdAt, updatedAt } = subscription;
  return {
    ...{ id, url, eventTypes, description, filter, headerNames, rateLimitPerSecond, ordered },
    ...{ uid, labels, metadata, state, stateReason, version },
    restsUntil: subscription.restsUntil?.toISOString() ?? null,
    stateChangedAt: stateChangedAt.toISOString(),
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}

export function deliveryOf(delivery: DeliveryView): z.output<typeof Delivery> {
  const { id, eventId, subscriptionId, eventType, status, attempts, lastStatusCode, lastError } = delivery;
  return {
    id,
    eventId,
    subscriptionId,
    eventType,
    status,
    attempts,
    lastStatusCode,
    lastError,
    nextAttemptAt: delivery.nextAttemptAt?.toISOString() ?? null,
    waitsFor: delivery.waitsFor,
    waitsForDeliveryId: delivery.waitsForDeliveryId,
    createdAt: delivery.createdAt.toISOString(),
    finishedAt: delivery.finishedAt?.toISOString() ?? null,
  };
}

const startedOf = <T extends { startedAt: Date }>({ startedAt, ...attempt }: T) => ({
  ...attempt,
  startedAt: startedAt.toISOString(),
});

const VERSION = 'its version, for If-Match';

const manage: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/subscriptions',
    operationId: 'createSubscription',
    tag: 'Subscriptions',
    summary: 'Subscribe a URL to event types',
    description:
      'The secret that signs the webhooks is in this answer and never shown again. It is random, or the one that you supply.',
    access: 'token',
    answersSecret: true,
    body: CreateSubscriptionBody,
    responses: {
      201: {
        description: 'The subscription and its secret',
        schema: SubscriptionCreated,
        headers: { Location: 'where it is', ETag: VERSION },
      },
    },
    problems: ['unprocessable', 'conflict'],
    async handle({ deps, caller, body, operationId, correlationId }) {
      const { subscription, secret } = await createSubscription(deps.database, deps.keyring, {
        operationId,
        by: actorOf({ caller, correlationId }),
        tenantId: caller.tenantId,
        ...body,
        allowedPrivateCidrs: deps.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
        maxPerTenant: deps.config.SUBSCRIPTIONS_MAX_PER_TENANT,
      });
      return {
        status: 201,
        body: { ...subscriptionOf(subscription), secret },
        headers: { Location: `/api/v1/subscriptions/${subscription.id}`, ...etagOf(subscription) },
      };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/subscriptions',
    operationId: 'listSubscriptions',
    tag: 'Subscriptions',
    summary: 'List subscriptions, newest first',
    access: 'token',
    query: SubscriptionsQuery,
    responses: { 200: { description: 'A page of subscriptions', schema: SubscriptionPage } },
    async handle({ deps, caller, query }) {
      const page = await listSubscriptions(deps.database, {
        tenantId: caller.tenantId,
        state: query.state,
        uid: query.uid,
        label: query.label,
        ...pageLimits(query, deps.config, 'text'),
      });
      return { status: 200, body: pageOf(page, subscriptionOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/subscriptions/:id',
    operationId: 'getSubscription',
    tag: 'Subscriptions',
    summary: 'Read a subscription',
    access: 'token',
    params: IdParams,
    responses: {
      200: { description: 'The subscription', schema: Subscription, headers: { ETag: VERSION } },
    },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const id = await subscriptionId(deps, caller, params.id);
      const subscription = await getSubscription(deps.database, { tenantId: caller.tenantId, id });
      const waiting = await countWaiting(deps.database, id);
      return {
        status: 200,
        body: { ...subscriptionOf(subscription), waiting },
        headers: etagOf(subscription),
      };
    },
  }),
  defineRoute({
    method: 'patch',
    path: '/api/v1/subscriptions/:id',
    operationId: 'updateSubscription',
    tag: 'Subscriptions',
    summary: 'Change the given fields of a subscription',
    description:
      'Holds for events from now on; URL, headers and rate also for deliveries that are pending. A new URL lets a subscriber that is resting be tried again at once. Headers are replaced as a whole.',
    access: 'token',
    ifMatch: 'required',
    params: IdParams,
    body: UpdateSubscriptionBody,
    responses: {
      200: { description: 'The subscription', schema: Subscription, headers: { ETag: VERSION } },
    },
    problems: ['not_found', 'conflict'],
    async handle({ deps, params, body, expected, ...call }) {
      const subscription = await updateSubscription(deps.database, deps.keyring, actorOf(call), {
        id: await subscriptionId(deps, call.caller, params.id),
        expected,
        changes: given(body),
        allowedPrivateCidrs: deps.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
      });
      await tellLane(deps, subscription.id);
      return { status: 200, body: subscriptionOf(subscription), headers: etagOf(subscription) };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/subscriptions/:id/rotate-secret',
    operationId: 'rotateSubscriptionSecret',
    tag: 'Subscriptions',
    summary: 'Give a subscription a new secret, which is shown in this answer alone',
    description:
      'The previous secret keeps signing alongside the new one for overlapS, so that the subscriber can change over without losing a webhook.',
    access: 'token',
    answersSecret: true,
    ifMatch: 'optional',
    params: IdParams,
    body: RotateSecretBody,
    bodyOptional: true,
    responses: {
      200: { description: 'The new secret', schema: SecretRotated, headers: { ETag: VERSION } },
    },
    problems: ['not_found', 'unprocessable', 'conflict'],
    async handle({ deps, params, body, expected, operationId, repeats, ...call }) {
      const rotated = await rotateSecret(deps.database, deps.keyring, actorOf(call), {
        id: await subscriptionId(deps, call.caller, params.id),
        expected,
        operationId,
        repeats,
        secret: body.secret,
        overlapMs:
          body.overlapS === undefined ? deps.config.WEBHOOK_SECRET_OVERLAP_MS : body.overlapS * 1_000,
      });
      const { secret, previousSecretValidUntil } = rotated;
      return {
        status: 200,
        body: { secret, previousSecretValidUntil: previousSecretValidUntil?.toISOString() ?? null },
        headers: etagOf(rotated),
      };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/subscriptions/:id/filter-test',
    operationId: 'testFilter',
    tag: 'Subscriptions',
    summary: 'Try a filter on the newest events of a subscription’s types; nothing is sent or kept',
    access: 'token',
    scope: 'read',
    params: IdParams,
    body: TestFilterBody,
    responses: { 200: { description: 'Which of them it wants', schema: FilterTested } },
    problems: ['not_found'],
    async handle({ deps, caller, params, body }) {
      const id = await subscriptionId(deps, caller, params.id);
      const items = await testFilter(deps.database, caller.tenantId, id, body.filter, body.limit);
      if (!items) throw new RemitError('not_found', 'There is no such subscription.');
      return { status: 200, body: { items } };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/subscriptions/:id/test',
    operationId: 'testSubscription',
    tag: 'Subscriptions',
    summary: 'Send a test event (remit.webhook.test) to this subscription alone',
    access: 'token',
    params: IdParams,
    responses: {
      202: {
        description: 'The event is stored and will be delivered',
        schema: PublishedEvent,
        headers: { Location: 'where it is' },
      },
    },
    problems: ['not_found', 'conflict'],
    async handle({ deps, params, operationId, ...call }) {
      const published = await deps.eventPublisher.publishTest(actorOf(call), {
        subscriptionId: await subscriptionId(deps, call.caller, params.id),
        operationId,
      });
      return { status: 202, body: published, headers: { Location: `/api/v1/events/${published.id}` } };
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/api/v1/subscriptions/:id',
    operationId: 'deleteSubscription',
    tag: 'Subscriptions',
    summary: 'Delete a subscription; nothing more is delivered to it',
    access: 'token',
    ifMatch: 'optional',
    params: IdParams,
    responses: { 204: { description: 'Deleted' } },
    problems: ['not_found'],
    async handle({ deps, params, expected, ...call }) {
      const by = actorOf(call);
      const id = await subscriptionId(deps, call.caller, params.id);
      await deleteSubscription(deps.database, {
        tenantId: by.tenantId,
        id,
        by,
        expected,
      });
      await tellLane(deps, id);
      return { status: 204 };
    },
  }),
];

const deliveries: Route[] = [
  defineRoute({
    method: 'get',
    path: '/api/v1/deliveries',
    operationId: 'listDeliveries',
    tag: 'Deliveries',
    summary: 'List deliveries, newest first',
    access: 'token',
    query: DeliveriesQuery,
    responses: { 200: { description: 'A page of deliveries', schema: DeliveryPage } },
    async handle({ deps, caller, query }) {
      const page = await listDeliveries(deps.database, {
        tenantId: caller.tenantId,
        subscriptionId: await subscriptionIdFilter(deps, caller, query.subscriptionId),
        eventId: query.eventId,
        eventType: query.eventType,
        status: query.status,
        ...timeOf(query),
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, deliveryOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/deliveries/:id',
    operationId: 'getDelivery',
    tag: 'Deliveries',
    summary: 'Read a delivery',
    access: 'token',
    params: IdParams,
    responses: { 200: { description: 'The delivery', schema: Delivery } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const id = uuidOr404(params.id, 'delivery');
      const delivery = await getDelivery(deps.database, { tenantId: caller.tenantId, id });
      return { status: 200, body: deliveryOf(delivery) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/deliveries/:id/attempts',
    operationId: 'listAttempts',
    tag: 'Deliveries',
    summary: 'Every attempt of a delivery: when, how long, and the answer',
    access: 'token',
    params: IdParams,
    query: PageQuery,
    responses: { 200: { description: 'A page of attempts, first to last', schema: DeliveryAttempts } },
    problems: ['not_found'],
    async handle({ deps, caller, params, query }) {
      const page = await listAttempts(deps.database, {
        ...{ tenantId: caller.tenantId, id: uuidOr404(params.id, 'delivery') },
        ...pageLimits(query, deps.config, 'attempt'),
      });
      return { status: 200, body: pageOf(page, startedOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/attempts',
    operationId: 'findAttempts',
    tag: 'Deliveries',
    summary: 'List attempts of all deliveries, newest first',
    description: 'Headers and bodies are in the attempts of one delivery.',
    access: 'token',
    query: AttemptsQuery,
    responses: { 200: { description: 'A page of attempts', schema: FoundAttempts } },
    async handle({ deps, caller, query }) {
      const { eventType, outcome, result } = query;
      const page = await findAttempts(deps.database, {
        ...{ tenantId: caller.tenantId, eventType, outcome, result },
        subscriptionId: await subscriptionIdFilter(deps, caller, query.subscriptionId),
        ...timeOf(query),
        ...pageLimits(query, deps.config, 'attempt of a delivery'),
      });
      return { status: 200, body: pageOf(page, startedOf) };
    },
  }),
];

/** Webhooks out: who gets what, and what became of it. */
export const subscriptionRoutes: Route[] = [...manage, ...deliveries];
