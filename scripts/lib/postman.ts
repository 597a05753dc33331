import type { RouteDoc } from '../../src/api/routes/route';
import { FLOW, type Step } from './postman-flow';
import { beforeScript, checkScript } from './postman-scripts';

/**
 * Makes of what openapi-to-postmanv2 writes a collection that runs as it is imported, from top to bottom, and that is the
 * same every time: the converter makes up ids, values and bodies at random, which are replaced here by the examples of
 * the contracts.
 */

/** Variables of the collection: every `{{name}}` in it is one of these. Those without a description are set by the run. */
export const POSTMAN_VARIABLES = [
  { key: 'baseUrl', value: 'http://127.0.0.1:8080' },
  { key: 'token', value: '', description: 'to be set: npm run -s remit -- token --scope admin platform' },
  {
    key: 'secondToken',
    value: '',
    description:
      'to be set: npm run -s remit -- token --subject second --scope admin. Approves what the first has proposed',
  },
  {
    key: 'decardSecret',
    value: '',
    description:
      'to be set: PROVIDER_SECRET_DECARD, whsec_… (npm start: .remit/secrets.json). Signs payments and payouts',
  },
  {
    key: 'orderWebhookSecret',
    value: '',
    description: 'to be set: ORDER_WEBHOOK_SECRET, likewise. Signs webhooks of orders and chargebacks',
  },
  {
    key: 'subscriberUrl',
    value: 'https://example.com/webhooks',
    description: 'where the subscription leads; an endpoint of your own shows what arrives',
  },
  {
    key: 'userId',
    value: 'user123',
    description: 'believed where TRUST_USER_ID_HEADER=true; each run sets a new one',
  },
  { key: 'eventType', value: 'invoice.paid' },
  { key: 'startedAt', value: '2026-01-01T00:00:00Z' },
  { key: 'providerEventId', value: 'evt_1' },
  { key: 'disputeRef', value: 'dp_1001' },
  ...[
    'accountId',
    'orderId',
    'paymentId',
    'payoutId',
    'disputeId',
    'deliveryId',
    'otherDeliveryId',
    'replayId',
    'portalLinkId',
    'correctionId',
    'runId',
  ].map((key) => ({ key, value: '3f6d2c1a-8b4e-4d57-9a10-5c2e7f9b6d31' })),
  { key: 'eventId', value: 'evt_0123456789abcdef' },
  { key: 'subscriptionId', value: 'sub_0123456789abcdef' },
  { key: 'journalId', value: '1' },
  { key: 'deadLetterTopic', value: 'payment.webhook.decard.dlq' },
  { key: 'deadLetterId', value: '0-0' },
] as const;

interface Header {
  key: string;
  value: string;
  disabled?: boolean;
}
interface PostmanRequest {
  method: string;
  url: { path: string[]; query?: Header[]; variable?: Header[] };
  header?: Header[];
  body?: { raw: string };
}
export interface PostmanItem {
  name: string;
  item?: PostmanItem[];
  request?: PostmanRequest;
}

const HEADER_VALUES: Record<string, string> = { 'Idempotency-Key': '{{$guid}}', 'If-Match': '*' };

/** What stands in a path, by its parameter, or by what comes before `:id`. */
const PATH_VALUES: Record<string, string> = {
  name: '{{eventType}}',
  eventType: '{{eventType}}',
  provider: 'decard',
  file: 'swagger-ui.css',
  orderId: '{{orderId}}',
  accounts: '{{accountId}}',
  orders: '{{orderId}}',
  payments: '{{paymentId}}',
  payouts: '{{payoutId}}',
  disputes: '{{disputeId}}',
  events: '{{eventId}}',
  subscriptions: '{{subscriptionId}}',
  deliveries: '{{deliveryId}}',
  replays: '{{replayId}}',
  'portal-links': '{{portalLinkId}}',
  timeline: '{{paymentId}}',
  'journal-transactions': '{{journalId}}',
  'reconciliation-runs': '{{runId}}',
  corrections: '{{correctionId}}',
  topic: '{{deadLetterTopic}}',
  letters: '{{deadLetterId}}',
};

function pathValue({ path }: RouteDoc, step: Step, key: string): string {
  const before =
    path
      .slice(0, path.indexOf(`/:${key}`))
      .split('/')
      .at(-1) ?? '';
  const value = step.path?.[key] ?? PATH_VALUES[key === 'id' ? before : key];
  if (value === undefined) throw new Error(`nothing is known to stand for :${key} in ${path}`);
  return value;
}

/** The route that a request is about. @throws Error when there is none. */
export function routeOf(request: PostmanRequest, routes: readonly RouteDoc[]): RouteDoc {
  const path = `/${request.url.path.join('/')}`;
  const found = routes.find((route) => route.path === path && route.method === request.method.toLowerCase());
  if (!found) throw new Error(`${request.method} ${path} is no route`);
  return found;
}

/** The contract's example, with what the step changes of it. @throws Error when the contract has none. */
function bodyOf(route: RouteDoc, { body = (example) => example }: Step): unknown {
  const example = route.body?.meta()?.['example'];
  if (example === undefined || example === null || typeof example !== 'object')
    throw new Error(`the body of ${route.operationId} has no example in its contract`);
  return body(example as Record<string, unknown>);
}

/** Null: that of the collection, the bearer token. */
function authOf({ access }: RouteDoc, { token }: Step): object | null {
  if (access === 'public') return { type: 'noauth' };
  return token === undefined ? null : bearerOf(token);
}

const bearerOf = (variable: string) => ({
  type: 'bearer',
  bearer: [{ key: 'token', value: `{{${variable}}}`, type: 'string' }],
});

function requestOf(request: PostmanRequest, route: RouteDoc, step: Step): object {
  const { url } = request;
  const header = (request.header ?? []).map((each) => ({
    ...each,
    value: HEADER_VALUES[each.key] ?? each.value,
  }));
  if (route.access === 'user') header.push({ key: 'X-User-Id', value: '{{userId}}' });
  return {
    ...request,
    url: {
      ...url,
      // None is required: each is there to be switched on.
      query: (url.query ?? []).map((each) => {
        const value = step.query?.[each.key];
        return { ...each, value: value ?? '', disabled: value === undefined };
      }),
      variable: (url.variable ?? []).map((each) => ({ ...each, value: pathValue(route, step, each.key) })),
    },
    header,
    ...(route.body && request.body
      ? { body: { ...request.body, raw: JSON.stringify(bodyOf(route, step), null, 2) } }
      : {}),
    auth: authOf(route, step),
  };
}

/** The status that the document gives for success. */
export function successOf({ responses, operationId }: RouteDoc): number {
  const successes = Object.keys(responses)
    .map(Number)
    .filter((each) => each >= 200 && each < 300);
  // Where there are several (providers' webhooks), the one with a body is remit's own.
  const status = successes.find((each) => responses[each]?.schema !== undefined) ?? successes[0];
  if (status === undefined) throw new Error(`${operationId} documents no success`);
  return status;
}

type Converted = PostmanItem & { request: PostmanRequest };

function itemOf(found: Converted, route: RouteDoc, step: Step): object {
  const { until, keep, before, sign: secret } = step;
  const name = step.name ?? found.name;
  return {
    ...found,
    name,
    request: { ...requestOf(found.request, route, step), name },
    // Examples of answers are in the OpenAPI document.
    response: [],
    event: [...beforeScript({ before, secret }), checkScript({ status: successOf(route), until, keep })],
  };
}

/** The converter makes ids at random; Postman makes its own when it imports a collection without. */
const RANDOM = new Set(['_postman_id', 'id', '_postman_previewlanguage']);

function withoutRandom(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withoutRandom);
  if (typeof node !== 'object' || node === null) return node;
  return Object.fromEntries(
    Object.entries(node)
      .filter(([key]) => !RANDOM.has(key))
      .map(([key, value]) => [key, withoutRandom(value)]),
  );
}

function requestsIn(item: PostmanItem): Converted[] {
  return item.request ? [item as Converted] : (item.item ?? []).flatMap(requestsIn);
}

/**
 * The collection to write, from what the converter made of the routes' OpenAPI document.
 * @throws Error when an operation has no place in the flow, or a step no operation.
 */
export function usableCollection(
  converted: Record<string, unknown>,
  routes: readonly RouteDoc[],
): Record<string, unknown> {
  const stable = withoutRandom(converted) as Record<string, unknown> & { item: PostmanItem[] };
  const byOperation = new Map(
    stable.item.flatMap(requestsIn).map((each) => {
      const route = routeOf(each.request, routes);
      return [route.operationId, { each, route }];
    }),
  );
  const placed = new Set(FLOW.flatMap(({ steps }) => steps.map(({ operation }) => operation)));
  const missing = [...byOperation.keys()].filter((operation) => !placed.has(operation));
  if (missing.length > 0) throw new Error(`postman-flow.ts has no place for ${missing.join(', ')}`);
  return {
    ...stable,
    item: FLOW.map(({ folder, description, steps }) => ({
      name: folder,
      description,
      item: steps.map((step) => {
        const found = byOperation.get(step.operation);
        if (!found) throw new Error(`postman-flow.ts: ${step.operation} is no operation`);
        return itemOf(found.each, found.route, step);
      }),
    })),
    auth: bearerOf('token'),
    event: [],
    variable: POSTMAN_VARIABLES,
  };
}
