import { RemitError } from '../../contracts/errors';
import { IdParams, uuidOrUndefined } from '../../contracts/http';
import { DeliveryAction, ResumeBody, SubscriptionOperated } from '../../contracts/replays';
import { SIGNALS, workflowId } from '../../contracts/workflows';
import { findDeliveryRow, reopenDelivery } from '../../domain/replays';
import { operateSubscription } from '../../domain/subscription-health';
import { signalWorkflow, tryDeliveryNow } from '../delivery-workflows';
import { beginReplay, replayOf } from './replays';
import { actorOf, defineRoute, type Route } from './route';

function deliveryId(text: string): string {
  const id = uuidOrUndefined(text);
  if (id === undefined) throw new RemitError('not_found', 'There is no such delivery.');
  return id;
}

function subscriptionId(text: string): string {
  if (!/^[\w-]{1,64}$/.test(text)) throw new RemitError('not_found', 'There is no such subscription.');
  return text;
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
    ...action('resend', 'resendDelivery', 'Send a delivery again, with a whole schedule before it'),
    description: 'One that is still pending is attempted now. The webhook-id stays the same.',
    async handle({ deps, caller, correlationId, params }) {
      const id = deliveryId(params.id);
      const { delivery } = await reopenDelivery(deps.database, { tenantId: caller.tenantId, id });
      return { status: 202, body: { id, workflowId: await tryDeliveryNow(deps, delivery, correlationId) } };
    },
  }),
  defineRoute({
    ...action(
      'try-now',
      'tryDeliveryNow',
      'Attempt a pending delivery now; uses one attempt of its schedule',
    ),
    async handle({ deps, caller, correlationId, params }) {
      const id = deliveryId(params.id);
      const delivery = await findDeliveryRow(deps.database, { tenantId: caller.tenantId, id });
      return { status: 202, body: { id, workflowId: await tryDeliveryNow(deps, delivery, correlationId) } };
    },
  }),
  defineRoute({
    ...action('cancel', 'cancelDelivery', 'End a pending delivery without another attempt'),
    async handle({ deps, caller, params }) {
      const id = deliveryId(params.id);
      const row = await findDeliveryRow(deps.database, { tenantId: caller.tenantId, id });
      const workflow = workflowId.delivery(row.eventId, row.subscriptionId, row.generation);
      await signalWorkflow(deps, workflow, SIGNALS.cancel, 'delivery');
      return { status: 202, body: { id, workflowId: workflow } };
    },
  }),
];

const subscriptions: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/subscriptions/:id/pause',
    operationId: 'pauseSubscription',
    tag: 'Subscriptions',
    summary: 'Pause a subscription: nothing is sent to it until it is resumed',
    description: 'What is pending is held at its next attempt; a resume can bring it back.',
    access: 'token',
    params: IdParams,
    responses: { 200: { description: 'Paused', schema: SubscriptionOperated } },
    problems: ['not_found', 'conflict'],
    async handle({ deps, params, ...call }) {
      const id = subscriptionId(params.id);
      await operateSubscription(deps.database, actorOf(call), id, 'pause');
      return { status: 200, body: { id, state: 'paused', missedSince: null, replay: null } };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/subscriptions/:id/resume',
    operationId: 'resumeSubscription',
    idempotent: true,
    tag: 'Subscriptions',
    summary: 'Resume a paused or disabled subscription, with or without what it missed',
    access: 'token',
    params: IdParams,
    body: ResumeBody,
    bodyOptional: true,
    responses: {
      200: { description: 'Resumed; the replay, if there is one, has begun', schema: SubscriptionOperated },
    },
    problems: ['not_found', 'conflict', 'unprocessable', 'unavailable'],
    async handle({ deps, params, body, operationId, ...call }) {
      const id = subscriptionId(params.id);
      const { missedSince: since } = await operateSubscription(deps.database, actorOf(call), id, 'resume');
      const replay =
        body.missed && since
          ? await beginReplay(deps, call.caller, call.correlationId, {
              operationId,
              subscriptionId: id,
              kind: 'missed',
              since,
              eventTypes: [],
            })
          : null;
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
export const deliveryActionRoutes: Route[] = [...deliveries, ...subscriptions];
