import type { z } from 'zod';
import { RemitError } from '../../contracts/errors';
import { IdParams } from '../../contracts/http';
import { CreateReplayBody, Replay, ReplayPage, ReplaysQuery } from '../../contracts/replays';
import { SIGNALS, workflowId } from '../../contracts/workflows';
import { cancelReplay, createReplay, getReplay, listReplays, type ReplayView } from '../../domain/replays';
import { signalWorkflow, startReplay } from '../delivery-workflows';
import { defineRoute, pageLimits, pageOf, type ApiDeps, type Route } from './route';
import { subscriptionIdFilter, uuidOr404 } from './ids';

export function replayOf(replay: ReplayView): z.output<typeof Replay> {
  const { since, until, reachedAt, createdAt, finishedAt, ...rest } = replay;
  const { id, subscriptionId, kind, statuses, eventTypes, eventId, ratePerSecond, status, statusReason } =
    rest;
  const { examined, replayed } = rest;
  return {
    id,
    subscriptionId,
    kind,
    statuses,
    eventTypes,
    eventId,
    since: since.toISOString(),
    until: until.toISOString(),
    ratePerSecond,
    status,
    statusReason,
    examined,
    replayed,
    reachedAt: reachedAt?.toISOString() ?? null,
    createdAt: createdAt.toISOString(),
    finishedAt: finishedAt?.toISOString() ?? null,
  };
}

/** Has a replay that is written carried out. */
export async function beginReplay(deps: ApiDeps, replay: ReplayView, correlationId: string): Promise<void> {
  const { id: replayId, subscriptionId, ratePerSecond } = replay;
  await startReplay(deps, { replayId, subscriptionId, ratePerSecond, correlationId });
}

const signalRoute = (signal: 'pause' | 'resume' | 'cancel', summary: string) =>
  defineRoute({
    method: 'post',
    path: `/api/v1/replays/:id/${signal}`,
    operationId: `${signal}Replay`,
    tag: 'Replays',
    summary,
    access: 'token',
    params: IdParams,
    responses: {
      202: { description: 'The replay as it is; it reacts within a second', schema: Replay },
    },
    problems: ['not_found', 'conflict', 'unavailable'],
    async handle({ deps, caller: { tenantId }, params }) {
      const id = uuidOr404(params.id, 'replay');
      const replay = await getReplay(deps.database, { tenantId, id });
      const done = replay.finishedAt !== null;
      const heard = !done && (await signalWorkflow(deps, workflowId.replay(id), SIGNALS[signal]));
      if (heard) return { status: 202, body: replayOf(replay) };
      // Without a workflow there is nothing that could go on; what is left to do is to say that it ended.
      if (signal !== 'cancel' || !(await cancelReplay(deps.database, { tenantId, id })))
        throw new RemitError(
          'conflict',
          done ? `The replay is ${replay.status}.` : 'The replay is not running.',
        );
      return { status: 202, body: replayOf(await getReplay(deps.database, { tenantId, id })) };
    },
  });

/** Deliveries of a time, sent again. */
export const replayRoutes: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/replays',
    operationId: 'createReplay',
    tag: 'Replays',
    summary: 'Send again what a subscription did not get, or everything of a period',
    description:
      'Goes through the period in order, no faster than the rate, however much there is. Only this subscription gets anything.',
    access: 'token',
    body: CreateReplayBody,
    responses: {
      202: {
        description: 'The replay has begun',
        schema: Replay,
        headers: { Location: 'where its progress is' },
      },
    },
    problems: ['not_found', 'conflict', 'unprocessable'],
    async handle({ deps, caller, correlationId, operationId, body }) {
      const { since, until, ratePerSecond, ...rest } = body;
      const { WEBHOOK_REPLAY_RATE_PER_SECOND: most, WEBHOOK_REPLAYS_MAX_RUNNING: maxRunning } = deps.config;
      const replay = await createReplay(deps.database, {
        ...rest,
        id: operationId,
        tenantId: caller.tenantId,
        actor: caller.actor,
        correlationId,
        since: new Date(since),
        until: until === undefined ? undefined : new Date(until),
        ratePerSecond: Math.min(ratePerSecond ?? most, most),
        maxRunning,
      });
      await beginReplay(deps, replay, correlationId);
      return { status: 202, body: replayOf(replay), headers: { Location: `/api/v1/replays/${replay.id}` } };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/replays',
    operationId: 'listReplays',
    tag: 'Replays',
    summary: 'List replays, newest first',
    access: 'token',
    query: ReplaysQuery,
    responses: { 200: { description: 'A page of replays', schema: ReplayPage } },
    async handle({ deps, caller, query }) {
      const subscriptionId = await subscriptionIdFilter(deps, caller, query.subscriptionId);
      const page = await listReplays(deps.database, {
        ...{ tenantId: caller.tenantId, subscriptionId, status: query.status },
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, replayOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/replays/:id',
    operationId: 'getReplay',
    tag: 'Replays',
    summary: 'Read a replay and its progress',
    access: 'token',
    params: IdParams,
    responses: { 200: { description: 'The replay', schema: Replay } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const id = uuidOr404(params.id, 'replay');
      return {
        status: 200,
        body: replayOf(await getReplay(deps.database, { tenantId: caller.tenantId, id })),
      };
    },
  }),
  signalRoute('pause', 'Pause a replay'),
  signalRoute('resume', 'Resume a paused replay'),
  signalRoute('cancel', 'End a replay; what it has sent again stays sent'),
];
