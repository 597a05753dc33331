import { OpenAPIRegistry, OpenApiGeneratorV31, type RouteConfig } from '@asteasolutions/zod-to-openapi';
import { z } from 'zod';
import { PROBLEM_STATUS, type ProblemCode } from '../contracts/errors';
import { Problem } from '../contracts/http';
import { scopeOf, takesIdempotencyKey, type RouteDoc } from './routes/route';

export type OpenApiDocument = ReturnType<OpenApiGeneratorV31['generateDocument']>;

const BEARER = 'bearer';
const USER_HEADER = 'userId';

/** The OpenAPI 3.1 document of routes, generated from the schemas that the server itself checks with. */
export function openApiDocument(routes: readonly RouteDoc[]): OpenApiDocument {
  const registry = new OpenAPIRegistry();
  registry.registerComponent('securitySchemes', BEARER, {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description:
      'Claims sub, tenant, and scope with read, write, topup or admin of the tenant, and platform for what belongs to the installation',
  });
  registry.registerComponent('securitySchemes', USER_HEADER, {
    type: 'apiKey',
    in: 'header',
    name: 'X-User-Id',
    description: 'Believed only where TRUST_USER_ID_HEADER=true, behind a gateway that sets it',
  });
  for (const route of routes) registry.registerPath(pathOf(route));
  return new OpenApiGeneratorV31(registry.definitions).generateDocument({
    openapi: '3.1.0',
    info: {
      title: 'remit',
      version: '1.0.0',
      description:
        'Payments, payouts and orders; signed webhooks in and out. Amounts are in major units: requests take a JSON number or a decimal string, answers are decimal strings. Errors are RFC 9457 problem documents.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: [...new Set(routes.map((route) => route.tag))].map((name) => ({ name })),
  });
}

const IF_MATCH = z
  .string()
  .max(500)
  .regex(/^(\*|(W\/)?"[^"]*"(, *(W\/)?"[^"]*")*)$/)
  .meta({ description: 'ETag of the version that was read, or * for any', example: '"1"' });

function headersOf(route: RouteDoc): { headers?: z.ZodObject } {
  const { ifMatch } = route;
  const headers = {
    ...(takesIdempotencyKey(route) ? IDEMPOTENCY_HEADERS.shape : {}),
    ...(ifMatch ? { 'If-Match': ifMatch === 'required' ? IF_MATCH : IF_MATCH.optional() } : {}),
  };
  return Object.keys(headers).length > 0 ? { headers: z.object(headers) } : {};
}

const IDEMPOTENCY_HEADERS = z.object({
  'Idempotency-Key': z.string().min(1).max(255).optional().meta({
    description:
      'A repetition with the same key and the same request gets the first answer, with Idempotency-Replayed: true; where that held a secret, it is not kept, and the repetition gets what was made then while that is true still. Kept for 24 hours (IDEMPOTENCY_KEY_TTL_MS); scoped to the caller and the route',
    example: '8e03978e-40d5-43e8-bc93-6894a57f9324',
  }),
});

function pathOf(route: RouteDoc): RouteConfig {
  const { method, params, query, body } = route;
  return {
    method,
    path: route.path.replace(/:(\w+)/g, '{$1}'),
    operationId: route.operationId,
    summary: route.summary,
    ...(route.description ? { description: route.description } : {}),
    tags: [route.tag],
    security: securityOf(route),
    request: {
      ...(params ? { params } : {}),
      ...(query ? { query } : {}),
      ...headersOf(route),
      ...(body
        ? { body: { required: !route.bodyOptional, content: { 'application/json': { schema: body } } } }
        : {}),
    },
    responses: { ...successes(route), ...problems(route) },
  };
}

function securityOf(route: RouteDoc): Record<string, string[]>[] {
  if (route.access === 'public') return [];
  // In OpenAPI 3.1 these are the roles that a caller needs, also where the scheme is not OAuth.
  const bearer = { [BEARER]: [scopeOf(route), ...(route.alsoScope ? [route.alsoScope] : [])] };
  return route.access === 'user' ? [{ [USER_HEADER]: [] }, bearer] : [bearer];
}

function successes(route: RouteDoc): RouteConfig['responses'] {
  return Object.fromEntries(
    Object.entries(route.responses).map(([status, { description, schema, contentTypes, headers }]) => [
      status,
      {
        description,
        headers: Object.fromEntries(
          Object.entries({
            'X-Correlation-Id': 'the request’s, or one made for it',
            ...(takesIdempotencyKey(route)
              ? { 'Idempotency-Replayed': 'true when this is the answer of an earlier request' }
              : {}),
            ...headers,
          }).map(([name, text]) => [name, { description: text, schema: { type: 'string' as const } }]),
        ),
        ...(schema ? { content: { 'application/json': { schema } } } : {}),
        ...(contentTypes && {
          content: Object.fromEntries(
            contentTypes.map((type) => [type, { schema: { type: 'string' as const } }]),
          ),
        }),
      },
    ]),
  );
}

/** The codes that a route can answer with, from what it takes. */
export function problemCodes(route: RouteDoc): ProblemCode[] {
  const secured = route.access !== 'public';
  const takesInput = secured || route.params || route.query || route.body;
  return [
    ...(takesInput ? (['invalid_request'] as const) : []),
    ...(secured ? (['unauthenticated', 'forbidden', 'rate_limited'] as const) : []),
    ...(route.ifMatch ? (['precondition_failed'] as const) : []),
    ...(route.ifMatch === 'required' ? (['precondition_required'] as const) : []),
    ...(route.body
      ? (['invalid_json', 'request_timeout', 'body_too_large', 'unsupported_media_type'] as const)
      : []),
    ...(takesIdempotencyKey(route) ? (['idempotency_in_progress', 'idempotency_key_reused'] as const) : []),
    ...(route.problems ?? []),
    ...(takesInput ? (['internal', 'unavailable'] as const) : []),
  ];
}

/** One response a status; its description lists the codes that come with it. */
function problems(route: RouteDoc): RouteConfig['responses'] {
  const byStatus = new Map<number, Set<ProblemCode>>();
  for (const code of problemCodes(route)) {
    const status = PROBLEM_STATUS[code];
    byStatus.set(status, (byStatus.get(status) ?? new Set<ProblemCode>()).add(code));
  }
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      status,
      {
        description: [...codes].join(', '),
        content: { 'application/problem+json': { schema: Problem } },
      },
    ]),
  );
}
