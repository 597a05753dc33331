import { RemitError } from '../../contracts/errors';
import { PageQuery } from '../../contracts/http';
import { OutboxRowsBody, OutboxRowsOperated, RefusedOutboxPage, SystemStatus } from '../../contracts/system';
import { defineRoute, type Route } from './route';

const later = () => Promise.reject(new RemitError('unavailable', 'not there yet'));

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
    handle: later,
  }),
  defineRoute({
    ...common,
    method: 'get',
    path: '/api/v1/outbox/refused',
    operationId: 'listRefusedOutboxRows',
    summary: 'List messages that Kafka will never take as they are, newest first',
    query: PageQuery,
    responses: { 200: { description: 'A page of rows', schema: RefusedOutboxPage } },
    handle: later,
  }),
  defineRoute({
    ...common,
    alsoScope: 'admin',
    method: 'post',
    path: '/api/v1/outbox/refused/retry',
    operationId: 'retryRefusedOutboxRows',
    summary: 'Put refused messages into the outbox again, once their cause is mended',
    description: 'What Kafka still does not take comes back here. Needs the scope admin too.',
    body: OutboxRowsBody,
    responses: { 200: { description: 'How many wait for the relay', schema: OutboxRowsOperated } },
    handle: later,
  }),
  defineRoute({
    ...common,
    alsoScope: 'admin',
    method: 'post',
    path: '/api/v1/outbox/refused/discard',
    operationId: 'discardRefusedOutboxRows',
    summary: 'Give refused messages up; the audit log keeps them',
    description: 'Needs the scope admin too.',
    body: OutboxRowsBody,
    responses: { 200: { description: 'How many are gone', schema: OutboxRowsOperated } },
    handle: later,
  }),
];
