import type { RouteDoc } from '../../src/api/routes/route';

/**
 * Makes of what openapi-to-postmanv2 writes a collection that works as it is imported, and that is the same every time:
 * the converter makes up ids, values and bodies at random, which are replaced here by the examples of the contracts.
 */

/** Variables of the collection: every `{{name}}` in it is one of these. */
export const POSTMAN_VARIABLES = [
  { key: 'baseUrl', value: 'http://127.0.0.1:8080' },
  { key: 'token', value: '', description: 'npm run remit -- token --scope admin' },
  { key: 'userId', value: 'user123', description: 'believed where TRUST_USER_ID_HEADER=true' },
  {
    key: 'providerSecret',
    value: '',
    description:
      'whsec_…: PROVIDER_SECRET_DECARD, for orders and chargebacks PROVIDER_SECRET_PAYMENTS (npm start: .remit/secrets.json)',
  },
  {
    key: 'lastId',
    value: '3f6d2c1a-8b4e-4d57-9a10-5c2e7f9b6d31',
    description: 'id of what was created last; set by every answer 201',
  },
  { key: 'providerEventId', value: 'evt_1', description: 'set anew before each webhook' },
] as const;

/** Runs in Postman before a webhook is sent: signs it as Standard Webhooks say. */
const SIGN = [
  "pm.collectionVariables.set('providerEventId', pm.variables.replaceIn('evt_{{$guid}}'));",
  "const id = pm.collectionVariables.get('providerEventId');",
  'const timestamp = String(Math.floor(Date.now() / 1000));',
  'const body = pm.variables.replaceIn(pm.request.body.raw);',
  "const secret = (pm.variables.get('providerSecret') || '').replace(/^whsec_/, '');",
  "if (!secret) throw new Error('Set the variable providerSecret of the collection.');",
  "const CryptoJS = require('crypto-js');",
  'const mac = CryptoJS.HmacSHA256(`${id}.${timestamp}.${body}`, CryptoJS.enc.Base64.parse(secret));',
  "pm.request.headers.upsert({ key: 'webhook-id', value: id });",
  "pm.request.headers.upsert({ key: 'webhook-timestamp', value: timestamp });",
  "pm.request.headers.upsert({ key: 'webhook-signature', value: 'v1,' + CryptoJS.enc.Base64.stringify(mac) });",
];

const REMEMBER = [
  'if (pm.response.code === 201) {',
  '  const { id } = pm.response.json();',
  "  if (id) pm.collectionVariables.set('lastId', id);",
  '}',
];

const script = (listen: 'prerequest' | 'test', exec: string[]) => ({
  listen,
  script: { type: 'text/javascript', exec },
});

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

const PATH_VALUES: Record<string, string> = {
  name: 'invoice.paid',
  eventType: 'invoice.paid',
  provider: 'decard',
  file: 'swagger-ui.css',
};
const HEADER_VALUES: Record<string, string> = { 'Idempotency-Key': '{{$guid}}', 'If-Match': '*' };

/** The route that a request is about. @throws Error when there is none. */
export function routeOf(request: PostmanRequest, routes: readonly RouteDoc[]): RouteDoc {
  const path = `/${request.url.path.join('/')}`;
  const found = routes.find((route) => route.path === path && route.method === request.method.toLowerCase());
  if (!found) throw new Error(`${request.method} ${path} is no route`);
  return found;
}

const isWebhook = (route: RouteDoc) => route.method === 'post' && route.path.startsWith('/webhooks/');

/** A body's example, with what is another one each time as variables. */
function bodyOf(route: RouteDoc): unknown {
  const example = route.body?.meta()?.['example'];
  if (example === undefined || example === null || typeof example !== 'object')
    throw new Error(`the body of ${route.operationId} has no example in its contract`);
  if (!isWebhook(route)) return example;
  const fresh = {
    transactionId: '{{lastId}}',
    order_id: '{{lastId}}',
    provider_event_id: '{{providerEventId}}',
  };
  return { ...example, ...Object.fromEntries(Object.entries(fresh).filter(([key]) => key in example)) };
}

function requestOf(request: PostmanRequest, route: RouteDoc): object {
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
      query: (url.query ?? []).map((each) => ({ ...each, value: '', disabled: true })),
      variable: (url.variable ?? []).map((each) => ({
        ...each,
        value: PATH_VALUES[each.key] ?? '{{lastId}}',
      })),
    },
    header,
    ...(route.body && request.body
      ? { body: { ...request.body, raw: JSON.stringify(bodyOf(route), null, 2) } }
      : {}),
    // Otherwise that of the collection: the bearer token.
    auth: route.access === 'public' ? { type: 'noauth' } : null,
  };
}

function itemOf(item: PostmanItem, routes: readonly RouteDoc[]): object {
  if (!item.request) return { ...item, item: (item.item ?? []).map((each) => itemOf(each, routes)) };
  const route = routeOf(item.request, routes);
  return {
    ...item,
    request: requestOf(item.request, route),
    // Examples of answers are in the OpenAPI document.
    response: [],
    event: isWebhook(route) ? [script('prerequest', SIGN)] : [],
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

/** The collection to write, from what the converter made of the routes' OpenAPI document. */
export function usableCollection(
  converted: Record<string, unknown>,
  routes: readonly RouteDoc[],
): Record<string, unknown> {
  const { item } = withoutRandom(converted) as { item: PostmanItem[] };
  return {
    ...(withoutRandom(converted) as Record<string, unknown>),
    item: item.map((each) => itemOf(each, routes)),
    auth: { type: 'bearer', bearer: [{ key: 'token', value: '{{token}}', type: 'string' }] },
    event: [script('test', REMEMBER)],
    variable: POSTMAN_VARIABLES,
  };
}
