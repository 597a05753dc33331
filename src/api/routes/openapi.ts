import { z } from 'zod';
import { openApiDocument } from '../openapi';
import type { RawRoute, RouteDoc } from './route';

/** The OpenAPI document of the given routes and of this one. Generated once. */
export function openApiRoute(routes: readonly RouteDoc[]): RawRoute {
  const route: RawRoute = {
    method: 'get',
    path: '/openapi.json',
    operationId: 'getOpenApi',
    tag: 'Documentation',
    summary: 'This document',
    access: 'public',
    responses: { 200: { description: 'OpenAPI 3.1', schema: z.looseObject({ openapi: z.string() }) } },
    handlers: () => {
      const document = JSON.stringify(openApiDocument([...routes, route]));
      return [(_request, response) => void response.type('application/json').send(document)];
    },
  };
  return route;
}
