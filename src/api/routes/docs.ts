import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { RequestHandler } from 'express';
import { z } from 'zod';
import { RemitError } from '../../contracts/errors';
import type { RawRoute } from './route';

/** What the page needs of swagger-ui-dist, with its type. Nothing else of the package can be fetched. */
const ASSETS: Record<string, string> = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
};

const DocsParams = z.strictObject({ file: z.string().max(200).meta({ example: 'swagger-ui.css' }) });

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>remit API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;

const START = `SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#ui',
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
`;

/**
 * Only what this server itself serves may run or be called; styles are set inline by Swagger UI. Without
 * upgrade-insecure-requests: the page also works on a plain http address.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ');

const secured: RequestHandler = (_request, response, next) => {
  response.setHeader('Content-Security-Policy', POLICY);
  next();
};

function assets(): Map<string, { type: string; body: Buffer }> {
  const folder = path.dirname(require.resolve('swagger-ui-dist/package.json'));
  const files = new Map(
    Object.entries(ASSETS).map(([name, type]) => [
      name,
      { type, body: readFileSync(path.join(folder, name)) },
    ]),
  );
  return files.set('start.js', { type: 'text/javascript; charset=utf-8', body: Buffer.from(START) });
}

/** The page to read and try the API, from files of this server alone. */
export const docsRoutes: RawRoute[] = [
  {
    method: 'get',
    path: '/docs',
    operationId: 'getDocs',
    tag: 'Documentation',
    summary: 'A page to read and try the API (Swagger UI)',
    access: 'public',
    responses: { 200: { description: 'HTML', contentTypes: ['text/html'] } },
    handlers: () => [secured, (_request, response) => void response.type('html').send(PAGE)],
  },
  {
    method: 'get',
    path: '/docs/:file',
    operationId: 'getDocsFile',
    tag: 'Documentation',
    summary: 'A file of that page',
    access: 'public',
    params: DocsParams,
    responses: {
      200: { description: 'A script or style sheet', contentTypes: ['text/css', 'text/javascript'] },
    },
    problems: ['not_found', 'invalid_request'],
    handlers: () => {
      const files = assets();
      return [
        secured,
        (request, response) => {
          const file = files.get(String(request.params['file']));
          if (!file) throw new RemitError('not_found', 'There is no such file.');
          response.setHeader('Cache-Control', 'public, max-age=3600');
          response.type(file.type).send(file.body);
        },
      ];
    },
  },
];
