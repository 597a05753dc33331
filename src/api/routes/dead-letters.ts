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
import { headersToBase64 } from '../../platform/kafka';
import { uuidOrUndefined } from '../../contracts/http';
import { recordChange } from '../../domain/audit';
import { decodeCursor, encodeCursor } from '../../domain/pages';
import { deliveriesStarted, reopenDelivery } from '../../domain/resends';
import { letterId, letterSummary } from '../dead-letter-desk';
import { tryDeliveryNow } from '../delivery-workflows';
import { actorOf, defineRoute, pageLimits, type Route, type RouteDeps } from './route';

/** Sends a delivery again if it is exhausted. @returns why not, or undefined. */
async function resendExhausted(
  deps: RouteDeps,
  id: string,
  tenantId: string,
  correlationId: string,
): Promise<string | undefined> {
  if (uuidOrUndefined(id) === undefined) return 'it names no delivery';
  try {
    const { delivery } = await reopenDelivery(deps.database, { tenantId, id, onlyIf: 'exhausted' });
    await tryDeliveryNow(deps, delivery, correlationId);
    await deliveriesStarted(deps.database, [delivery]).catch(() => undefined);
    return undefined;
  } catch (error) {
    if (error instanceof RemitError && error.code !== 'unavailable')
      return `delivery ${id}: ${error.message}`;
    throw error;
  }
}

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
    async handle({ deps }) {
      return { status: 200, body: { items: await deps.deadLetters.overview() } };
    },
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
    async handle({ deps, params, query }) {
      const { limit, cursor } = pageLimits(query, deps.config, 'place');
      const { found, next } = await deps.deadLetters.list(params.topic, {
        code: query.code,
        state: query.state,
        limit,
        after: cursor === undefined ? undefined : decodeCursor(cursor).id,
      });
      const items = found.map(({ message, waits }) => letterSummary(message, waits));
      const nextCursor = next && encodeCursor({ createdAt: new Date(next.timestampMs), id: letterId(next) });
      return { status: 200, body: { items, nextCursor } };
    },
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
    async handle({ deps, params }) {
      const { message, waits } = await deps.deadLetters.read(params.topic, params.id);
      return {
        status: 200,
        body: {
          ...letterSummary(message, waits),
          keyBase64: message.key?.toString('base64') ?? null,
          valueBase64: message.value?.toString('base64') ?? null,
          headersBase64: headersToBase64(message.headers),
        },
      };
    },
  }),
  defineRoute({
    ...common,
    alsoScope: 'admin',
    method: 'post',
    path: '/api/v1/dead-letters/:topic/redrive',
    operationId: 'redriveDeadLetters',
    summary: 'Put letters back where they came from: some, those with one reason, or the oldest',
    description:
      'Each once; redriving twice changes nothing twice. What was redriven stays there as done until it is purged. An exhausted delivery is sent again instead. Needs the scope admin too.',
    params: DeadLetterTopicParams,
    body: RedriveBody,
    bodyOptional: true,
    responses: { 200: { description: 'What became of them', schema: Redriven } },
    problems: ['not_found', 'conflict', 'unprocessable', 'not_queued'],
    async handle({ deps, params, body, correlationId, ...call }) {
      const resend = (id: string, tenantId: string) => resendExhausted(deps, id, tenantId, correlationId);
      const result = await deps.deadLetters.redrive(params.topic, body, resend);
      if (result.redriven > 0)
        await recordChange(deps.database.prisma, actorOf({ ...call, correlationId }), {
          action: 'dead_letters.redriven',
          cause: `dead_letters:${params.topic}`,
          after: { ...body, redriven: result.redriven },
        });
      return { status: 200, body: result };
    },
  }),
  defineRoute({
    ...common,
    alsoScope: 'admin',
    method: 'post',
    path: '/api/v1/dead-letters/:topic/purge',
    operationId: 'purgeDeadLetters',
    summary: 'Discard letters: some, those with one reason, or those that are done',
    description: 'What is deleted can’t be brought back. Needs the scope admin too.',
    params: DeadLetterTopicParams,
    body: PurgeBody,
    responses: { 200: { description: 'What became of them', schema: Purged } },
    problems: ['not_found', 'conflict', 'unprocessable'],
    async handle({ deps, params, body, ...call }) {
      const result = await deps.deadLetters.purge(params.topic, body);
      await recordChange(deps.database.prisma, actorOf(call), {
        action: 'dead_letters.purged',
        cause: `dead_letters:${params.topic}`,
        after: { ...body, purged: result.purged, deleted: result.deleted },
      });
      return { status: 200, body: result };
    },
  }),
];
