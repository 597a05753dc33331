import { RemitError } from '../../contracts/errors';
import type { z } from 'zod';
import {
  type SearchHit,
  SearchQuery,
  SearchResult,
  Timeline,
  TimelineParams,
} from '../../contracts/timeline';
import { isWellFormed, NO_CONTROLS } from '../../contracts/http';
import { findByPrefix, findExactly, titleOf, workflowOf, type FoundSubject } from '../../domain/subjects';
import { providerStreams, timelineOf } from '../timeline';
import { defineRoute, type Route } from './route';

/** What can't be an id of anything is one of nothing. */
const idOf = (text: string): string | undefined =>
  NO_CONTROLS.test(text) && isWellFormed(text) && text.trim() !== '' ? text.trim() : undefined;

function hitOf(hit: FoundSubject): z.output<typeof SearchHit> {
  const { kind, id, status, at, matched } = hit;
  return {
    ...{ kind, id, status, matched },
    title: titleOf(hit),
    createdAt: at.toISOString(),
    workflowId: workflowOf(hit),
  };
}

/** What happened to one thing and what will, and finding things by what is known of their ids. */
export const timelineRoutes: Route[] = [
  defineRoute({
    method: 'get',
    path: '/api/v1/timeline/:id',
    operationId: 'getTimeline',
    tag: 'Timeline',
    summary: 'Everything that happened to one thing, in order, and what will happen',
    description:
      'Of a payment, payout, order, dispute, event, delivery, subscription, replay or user: its id, a provider’s reference, or the id of its workflow (with its slashes encoded). What can’t be read at the moment, such as Temporal’s history in an outage, is left out and noted.',
    access: 'token',
    params: TimelineParams,
    responses: { 200: { description: 'Its past and its future', schema: Timeline } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const id = idOf(params.id);
      const timeline = id === undefined ? undefined : await timelineOf(deps, caller.tenantId, id);
      if (!timeline) throw new RemitError('not_found', 'Nothing has this id or reference.');
      return { status: 200, body: timeline };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/search',
    operationId: 'search',
    tag: 'Timeline',
    summary: 'Find things by an id, the beginning of one, or a reference',
    access: 'token',
    query: SearchQuery,
    responses: { 200: { description: 'What was found, whole ids first', schema: SearchResult } },
    async handle({ deps, caller, query }) {
      const limit = Number(query.limit);
      const text = query.q.trim();
      const what = { tenantId: caller.tenantId, text };
      const whole = await findExactly(deps.database, { ...what, providers: providerStreams(deps.config) });
      const begun = await findByPrefix(deps.database, { ...what, limit: limit + 1 });
      const hits = new Map<string, FoundSubject>();
      for (const hit of [...whole, ...begun])
        if (!hits.has(`${hit.kind} ${hit.id}`)) hits.set(`${hit.kind} ${hit.id}`, hit);
      const items = [...hits.values()];
      return { status: 200, body: { items: items.slice(0, limit).map(hitOf), more: items.length > limit } };
    },
  }),
];
