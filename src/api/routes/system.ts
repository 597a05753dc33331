import { PageQuery } from '../../contracts/http';
import { OutboxRowsBody, OutboxRowsOperated, RefusedOutboxPage, SystemStatus } from '../../contracts/system';
import { listRefused, operateRefused, type RefusedRow } from '../../domain/outbox-refused';
import { systemStatus } from '../system-status';
import { actorOf, defineRoute, pageLimits, pageOf, type Route, type RouteDeps } from './route';

/** One measurement serves all who ask within this time. */
const MEASURED_FOR_MS = 2_000;
const measurements = new WeakMap<object, { at: number; status: ReturnType<typeof systemStatus> }>();

function measured(deps: RouteDeps): ReturnType<typeof systemStatus> {
  const last = measurements.get(deps.lifecycle);
  if (last && Date.now() - last.at < MEASURED_FOR_MS) return last.status;
  const status = systemStatus(deps);
  measurements.set(deps.lifecycle, { at: Date.now(), status });
  return status;
}

function refusedOf({ id, createdAt, refusedAt, headers, ...row }: RefusedRow) {
  const texts = Object.entries((headers ?? {}) as Record<string, unknown>).map(([name, value]) => [
    name,
    String(value),
  ]);
  return {
    ...row,
    id: id.toString(),
    headers: Object.fromEntries(texts) as Record<string, string>,
    createdAt: createdAt.toISOString(),
    refusedAt: refusedAt.toISOString(),
  };
}

const common = { tag: 'System', access: 'token', scope: 'platform' } as const;

/** The installation as a whole, with the scope `platform`. */
export const systemRoutes: Route[] = [
  defineRoute({
    ...common,
    method: 'get',
    path: '/api/v1/system',
    operationId: 'getSystem',
    summary: 'Dependencies, outbox, consumer lag, workers, and what is wrong',
    description: 'Measured when it is asked for, at most once in two seconds.',
    responses: { 200: { description: 'How the installation is', schema: SystemStatus } },
    async handle({ deps }) {
      return { status: 200, body: await measured(deps) };
    },
  }),
  defineRoute({
    ...common,
    method: 'get',
    path: '/api/v1/outbox/refused',
    operationId: 'listRefusedOutboxRows',
    summary: 'List messages that Kafka will never take as they are, newest first',
    query: PageQuery,
    responses: { 200: { description: 'A page of rows', schema: RefusedOutboxPage } },
    async handle({ deps, query }) {
      const page = await listRefused(deps.database, pageLimits(query, deps.config, 'number'));
      return { status: 200, body: pageOf(page, refusedOf) };
    },
  }),
  defineRoute({
    ...common,
    alsoScope: 'admin',
    method: 'post',
    path: '/api/v1/outbox/refused/retry',
    operationId: 'retryRefusedOutboxRows',
    summary: 'Put refused messages into the outbox again, once their cause is fixed',
    description: 'What Kafka still does not take comes back here. Needs the scope admin too.',
    body: OutboxRowsBody,
    bodyOptional: true,
    responses: { 200: { description: 'How many wait for the relay', schema: OutboxRowsOperated } },
    async handle({ deps, body, ...call }) {
      const rows = await operateRefused(deps.database, actorOf(call), 'retry', body.ids);
      return { status: 200, body: { rows } };
    },
  }),
  defineRoute({
    ...common,
    alsoScope: 'admin',
    method: 'post',
    path: '/api/v1/outbox/refused/discard',
    operationId: 'discardRefusedOutboxRows',
    summary: 'Discard refused messages; the audit log keeps them',
    description: 'Needs the scope admin too.',
    body: OutboxRowsBody,
    bodyOptional: true,
    responses: { 200: { description: 'How many are gone', schema: OutboxRowsOperated } },
    async handle({ deps, body, ...call }) {
      const rows = await operateRefused(deps.database, actorOf(call), 'discard', body.ids);
      return { status: 200, body: { rows } };
    },
  }),
];
