import createClient from 'openapi-fetch';
import type { components, paths } from '../generated/api';

/** Types of what the API answers, from its OpenAPI document: a change there that breaks a screen fails the type check. */
export type Schemas = components['schemas'];

/** A refusal of the API: an RFC 9457 problem document. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly fields: readonly { path: string; message: string }[] = [],
  ) {
    super([message, ...fields.map(({ path, message: what }) => `${path}: ${what}`)].join(' '));
    this.name = 'ApiError';
  }
}

/** Whether this page is the subscribers' portal. It calls the API below its own address, where its session alone counts. */
export const IN_PORTAL = /^\/portal(?:\/|$)/.test(location.pathname);

let csrfToken = '';
/** The session's token, which goes with everything that changes something. */
export function useCsrfToken(token: string): void {
  csrfToken = token;
}

function prepare(headers: Headers, method: string): void {
  if (method === 'GET') return;
  headers.set('X-CSRF-Token', csrfToken);
  // A repetition by the browser or a second click changes nothing twice.
  if (method === 'POST' && !headers.has('Idempotency-Key'))
    headers.set('Idempotency-Key', crypto.randomUUID());
}

export const api = createClient<paths>({ baseUrl: IN_PORTAL ? '/portal' : '/' });
api.use({
  onRequest({ request }) {
    prepare(request.headers, request.method);
    return request;
  },
});

/** What a call answered. @throws ApiError. */
export async function ok<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await call.catch(() => {
    throw new ApiError(0, 'The API can’t be reached. Is remit running?');
  });
  if (response.ok) return data as T;
  throw problem(response.status, error);
}

function problem(status: number, body: unknown): ApiError {
  const given = (typeof body === 'object' && body !== null ? body : {}) as {
    detail?: string;
    errors?: { path: string; message: string }[];
  };
  return new ApiError(status, given.detail ?? `The API answered ${status}.`, given.errors ?? []);
}

/** A call that the API itself proposed, such as how to hurry what will happen. @throws ApiError. */
export async function proposed(method: string, path: string, body: unknown): Promise<unknown> {
  if (!/^\/api\/v1\/[\w\-./~%]+$/.test(path)) throw new ApiError(0, 'This is not an address of the API.');
  return send(method, path, body);
}

/** A call below /console/api. @throws ApiError. */
export const consoleCall = (method: string, path: string, body?: unknown): Promise<unknown> =>
  send(method, `/console/api/${path}`, body);

/** A call below /portal/api. @throws ApiError. */
export const portalCall = (method: string, path: string, body?: unknown): Promise<unknown> =>
  send(method, `/portal/api/${path}`, body);

async function send(method: string, path: string, body: unknown): Promise<unknown> {
  const headers = new Headers();
  prepare(headers, method);
  if (body !== undefined && body !== null) headers.set('Content-Type', 'application/json');
  const response = await fetch(path, {
    method,
    headers,
    body: body === undefined || body === null ? null : JSON.stringify(body),
  }).catch(() => {
    throw new ApiError(0, 'The API can’t be reached. Is remit running?');
  });
  const text = await response.text();
  const json: unknown = text === '' ? null : JSON.parse(text);
  if (!response.ok) throw problem(response.status, json);
  return json;
}
