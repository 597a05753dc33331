import { RemitError } from '../../contracts/errors';
import {
  DeadLetterDetail,
  DeadLetterPage,
  DeadLetterParams,
  DeadLettersQuery,
  DeadLetterTopicParams,
  DeadLetterTopics,
  PurgeBody,
  Purged,
  RedriveBody,
  Redriven,
} from '../../contracts/dead-letters';
import { defineRoute, type Route } from './route';

const later = () => Promise.reject(new RemitError('unavailable', 'not there yet'));

const common = { tag: 'Dead letters', access: 'token', scope: 'platform' } as const;

/** Dead letters of every topic, with the scope `platform`: what could not be read has no tenant. */
export const deadLetterRoutes: Route[] = [
  defineRoute({
    ...common,
    method: 'get',
    path: '/api/v1/dead-letters',
    operationId: 'listDeadLetterTopics',
    summary: 'Every dead-letter topic, how much waits there, and why',
    description: 'Reads at most 1,000 of the letters that wait in a topic.',
    responses: { 200: { description: 'The topics', schema: DeadLetterTopics } },
    handle: later,
  }),
  defineRoute({
    ...common,
    method: 'get',
    path: '/api/v1/dead-letters/:topic/letters',
    operationId: 'listDeadLetters',
    summary: 'List the letters of a topic, of each partition the oldest first',
    params: DeadLetterTopicParams,
    query: DeadLettersQuery,
    responses: { 200: { description: 'A page of letters', schema: DeadLetterPage } },
    problems: ['not_found'],
    handle: later,
  }),
  defineRoute({
    ...common,
    method: 'get',
    path: '/api/v1/dead-letters/:topic/letters/:id',
    operationId: 'getDeadLetter',
    summary: 'Read one letter, byte for byte',
    params: DeadLetterParams,
    responses: { 200: { description: 'The letter', schema: DeadLetterDetail } },
    problems: ['not_found'],
    handle: later,
  }),
  defineRoute({
    ...common,
    alsoScope: 'admin',
    method: 'post',
    path: '/api/v1/dead-letters/:topic/redrive',
    operationId: 'redriveDeadLetters',
    summary: 'Put letters back where they came from: some, those of a reason, or the oldest',
    description:
      'Each once; redriving twice changes nothing twice. What was redriven lies there as done until it is purged. An exhausted delivery is sent again instead. Needs the scope admin too.',
    params: DeadLetterTopicParams,
    body: RedriveBody,
    bodyOptional: true,
    responses: { 200: { description: 'What became of them', schema: Redriven } },
    problems: ['not_found', 'conflict', 'unprocessable', 'not_queued'],
    handle: later,
  }),
  defineRoute({
    ...common,
    alsoScope: 'admin',
    method: 'post',
    path: '/api/v1/dead-letters/:topic/purge',
    operationId: 'purgeDeadLetters',
    summary: 'Give letters up: some, those of a reason, or those that are done',
    description: 'What is deleted can’t be brought back. Needs the scope admin too.',
    params: DeadLetterTopicParams,
    body: PurgeBody,
    responses: { 200: { description: 'What became of them', schema: Purged } },
    problems: ['not_found', 'conflict', 'unprocessable'],
    handle: later,
  }),
];
