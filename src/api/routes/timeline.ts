import { RemitError } from '../../contracts/errors';
import { SearchQuery, SearchResult, Timeline, TimelineParams } from '../../contracts/timeline';
import { defineRoute, type Route } from './route';

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
    handle: () => Promise.reject(new RemitError('unavailable', 'not there yet')),
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
    handle: () => Promise.reject(new RemitError('unavailable', 'not there yet')),
  }),
];
