import type { z } from 'zod';
import { RemitError } from '../../contracts/errors';
import { IdParams } from '../../contracts/http';
import {
  CancelDeliveriesBody,
  DeliveriesRetried,
  DeliveryAction,
  ResendBody,
  ResumeBody,
  RetryDeliveriesBody,
  SubscriptionOperated,
} from '../../contracts/replays';
import type { DeliveryStatus } from '../../contracts/webhooks';
import { workflowId } from '../../contracts/workflows';
import { recordChange } from '../../domain/audit';
import { finishDelivery } from '../../domain/delivery-ends';
import { countRetried, createReplay, getReplay } from '../../domain/replays';
import { deliveriesStarted, findDeliveryRow, reopenDelivery } from '../../domain/resends';
import { operateSubscription } from '../../domain/subscription-health';
import { tellDelivery, tellLane, tryDeliveryNow } from '../delivery-workflows';
import { beginReplay, replayOf } from './replays';
import { actorOf, defineRoute, type Answer, type ApiDeps, type Call, type Route } from './route';
import { subscriptionId, uuidOr404 } from './ids';

type By = Pick<Call<unknown, unknown, unknown>, 'caller' | 'correlationId'>;

/** Writes into the audit log that somebody has had a delivery sent again or cancelled. */
async function audit({ database }: ApiDeps, by: By, action: 'resent' | 'cancelled', id: string) {
  const change = { action: `delivery.${action}`, cause: `delivery:${id}` };
  await recordChange(database.prisma, actorOf(by), change);
}

const action = (name: 'resend' | 'try-now' | 'cancel', operationId: string, summary: string) =>
  ({
    method: 'post',
    path: `/api/v1/deliveries/:id/${name}`,
    operationId,
    tag: 'Deliveries',
    summary,
    access: 'token',
    params: IdParams,
    responses: { 202: { description: 'Temporal has taken it', schema: DeliveryAction } },
    problems: ['not_found', 'conflict', 'unavailable'],
  }) as const;

const deliveries: Route[] = [
  defineRoute({
    ...action('resend', 'resendDelivery', 'Send a delivery again, on a new schedule'),
    description:
      'One that is still pending is attempted now. The webhook-id stays the same. Once it is reopened it is sent, even if Temporal can not be reached at the moment (503).',
    body: ResendBody,
    bodyOptional: true,
    async handle({ deps, caller, correlationId, params, body: { onlyIf } }) {
      const id = uuidOr404(params.id, 'delivery');
      const { tenantId } = caller;
      const { delivery } = await reopenDelivery(deps.database, { tenantId, id, onlyIf });
      await audit(deps, { caller, correlationId }, 'resent', id);
      const workflow = await tryDeliveryNow(deps, delivery, correlationId);
      // Otherwise the recovery job finds it.
      await deliveriesStarted(deps.database, [delivery]).catch((error: unknown) =>
        deps.log.warn({ err: error, deliveryId: id }, 'a delivery that was started is not noted as such'),
      );
      return { status: 202, body: { id, workflowId: workflow } };
    },
  }),
  defineRoute({
    ...action(
      'try-now',
      'tryDeliveryNow',
      'Attempt a pending delivery now; uses one attempt of its schedule',
    ),
    async handle({ deps, caller, correlationId, params }) {
      const id = uuidOr404(params.id, 'delivery');
      const delivery = await findDeliveryRow(deps.database, { tenantId: caller.tenantId, id });
      return { status: 202, body: { id, workflowId: await tryDeliveryNow(deps, delivery, correlationId) } };
    },
  }),
  defineRoute({
    ...action('cancel', 'cancelDelivery', 'End a pending delivery without another attempt'),
    description:
      'It is cancelled with the answer, also while Temporal can not be reached, and nothing is sent for it any more. An attempt that is in progress may still arrive: it is recorded, and the delivery stays cancelled. Where deliveries are ordered, the next one is sent at once.',
    responses: { 202: { description: 'Cancelled', schema: DeliveryAction } },
    problems: ['not_found', 'conflict'],
    async handle({ deps, caller, correlationId, params }) {
      const id = uuidOr404(params.id, 'delivery');
      const row = await findDeliveryRow(deps.database, { tenantId: caller.tenantId, id });
      const { generation = 0, subscriptionId } = row;
      await audit(deps, { caller, correlationId }, 'cancelled', id);
      const reason = 'cancelled by an operator';
      const end = { deliveryId: id, status: 'cancelled', reason, generation } as const;
      const status = await finishDelivery(deps.database, end);
      if (status !== 'cancelled')
        throw new RemitError('conflict', `The delivery is ${status ?? 'sent again'}.`);
      // Neither its workflow nor those that wait behind it in a lane need wait until its next attempt would have been.
      const workflow = workflowId.delivery(row.eventId, subscriptionId, generation);
      await Promise.all([tellDelivery(deps, workflow), tellLane(deps, subscriptionId)]);
      return { status: 202, body: { id, workflowId: workflow } };
    },
  }),
];

/** Deliveries that a dry run counts; beyond it says that there are at least as many. */
const COUNTED_MAX = 100_000;

const bulkResponses = {
  200: { description: 'A dry run: how many there are; nothing was done', schema: DeliveriesRetried },
  202: {
    description: 'The replay has begun',
    schema: DeliveriesRetried,
    headers: { Location: 'where its progress is' },
  },
};

const retries: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/deliveries/retry',
    operationId: 'retryDeliveries',
    tag: 'Deliveries',
    summary: 'Try deliveries now, in bulk: what waits, or also what was given up',
    description:
      'Of one subscription or the whole tenant, created in a period, no faster than the rate. Lets a subscriber that is resting be tried again at once. A replay does it: it shows the progress, and can be paused, resumed and cancelled.',
    access: 'token',
    body: RetryDeliveriesBody,
    responses: bulkResponses,
    problems: ['not_found', 'conflict', 'unprocessable'],
    handle: ({ body: { statuses, ...body }, ...call }) => inBulk(call, { kind: 'retry', statuses }, body),
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/deliveries/cancel',
    operationId: 'cancelDeliveries',
    tag: 'Deliveries',
    summary: 'End pending deliveries without another attempt, in bulk',
    description:
      'Of one subscription or the whole tenant, created in a period. A replay of the kind cancel does it, tens of thousands a second, whatever the rate: it shows the progress, and can be paused, resumed and cancelled. What it has ended is not sent any more; an attempt that is in progress may still arrive, and is recorded. At the rate, it then ends the workflows that waited.',
    access: 'token',
    body: CancelDeliveriesBody,
    responses: bulkResponses,
    problems: ['not_found', 'conflict', 'unprocessable'],
    handle: ({ body, ...call }) => inBulk(call, { kind: 'cancel', statuses: ['pending'] }, body),
  }),
];

/** Counts the deliveries that something is to be done to, and unless that was all, has a replay do it. */
async function inBulk(
  { deps, caller, correlationId, operationId }: Omit<Call<undefined, undefined, unknown>, 'body'>,
  what: { kind: 'retry' | 'cancel'; statuses: DeliveryStatus[] },
  body: z.output<typeof CancelDeliveriesBody>,
): Promise<Answer> {
  const { subscriptionId: subscription, since, until, ratePerSecond, dryRun, eventTypes, eventId } = body;
  const { WEBHOOK_REPLAY_RATE_PER_SECOND: most, WEBHOOK_REPLAYS_MAX_RUNNING: maxRunning } = deps.config;
  const which = {
    ...what,
    eventTypes,
    eventId: eventId ?? null,
    tenantId: caller.tenantId,
    subscriptionId: subscription === undefined ? null : await subscriptionId(deps, caller, subscription),
    since: new Date(since ?? 0),
    until: until === undefined ? undefined : new Date(until),
  };
  const matched = await countRetried(deps.database, which, COUNTED_MAX);
  if (dryRun) return { status: 200, body: { matched, replay: null } };
  const replay = await createReplay(deps.database, {
    ...which,
    id: operationId,
    actor: caller.actor,
    correlationId,
    ratePerSecond: Math.min(ratePerSecond ?? most, most),
    maxRunning,
  });
  await beginReplay(deps, replay, correlationId);
  return {
    status: 202,
    body: { matched, replay: replayOf(replay) },
    headers: { Location: `/api/v1/replays/${replay.id}` },
  };
}

const subscriptions: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/subscriptions/:id/pause',
    operationId: 'pauseSubscription',
    tag: 'Subscriptions',
    summary: 'Pause a subscription: nothing is sent to it until it is resumed',
    description: 'What is pending is held at its next attempt; a resume brings it back.',
    access: 'token',
    params: IdParams,
    responses: { 200: { description: 'Paused', schema: SubscriptionOperated } },
    problems: ['not_found', 'conflict'],
    async handle({ deps, params, ...call }) {
      const id = await subscriptionId(deps, call.caller, params.id);
      await operateSubscription(deps.database, actorOf(call), id, 'pause');
      await tellLane(deps, id);
      return { status: 200, body: { id, state: 'paused', missedSince: null, replay: null } };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/subscriptions/:id/resume',
    operationId: 'resumeSubscription',
    tag: 'Subscriptions',
    summary: 'Resume a paused or disabled subscription, with or without what it missed',
    description:
      'Deliveries that were held, also the one that met a 410, and those that wait for their next attempt are tried now, by a replay.',
    access: 'token',
    params: IdParams,
    body: ResumeBody,
    bodyOptional: true,
    responses: {
      200: { description: 'Resumed; the replay, if there is one, has begun', schema: SubscriptionOperated },
    },
    problems: ['not_found', 'conflict', 'unprocessable'],
    async handle({ deps, params, body, operationId, ...call }) {
      const id = await subscriptionId(deps, call.caller, params.id);
      const { tenantId } = call.caller;
      const resumed = await operateSubscription(deps.database, actorOf(call), id, 'resume', {
        missed: body.missed,
        replayId: operationId,
        ratePerSecond: deps.config.WEBHOOK_REPLAY_RATE_PER_SECOND,
        maxRunning: deps.config.WEBHOOK_REPLAYS_MAX_RUNNING,
      });
      const { missedSince: since, replayId } = resumed;
      const replay = replayId === null ? null : await getReplay(deps.database, { tenantId, id: replayId });
      if (replay) await beginReplay(deps, replay, call.correlationId);
      return {
        status: 200,
        body: {
          id,
          state: 'active',
          missedSince: since?.toISOString() ?? null,
          replay: replay && replayOf(replay),
        },
      };
    },
  }),
];

/** What operators and subscribers do with deliveries and with subscriptions that get nothing. */
export const deliveryActionRoutes: Route[] = [...retries, ...deliveries, ...subscriptions];
