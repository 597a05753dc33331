import { Alive, Readiness } from '../../contracts/http';
import { readiness } from '../../platform/ops-server';
import type { RawRoute } from './route';

/** Health on the API's own port, for load balancers that know no other; the same as on the metrics port. */
export const healthRoutes: RawRoute[] = [
  {
    method: 'get',
    path: '/healthz',
    operationId: 'getHealth',
    tag: 'Health',
    summary: 'Whether the process lives',
    access: 'public',
    responses: { 200: { description: 'It does', schema: Alive } },
    handlers: () => [(_request, response) => void response.json({ alive: true })],
    lean: true,
  },
  {
    method: 'get',
    path: '/readyz',
    operationId: 'getReadiness',
    tag: 'Health',
    summary: 'Whether the process can serve, and which dependency it waits for',
    access: 'public',
    responses: {
      200: { description: 'Ready', schema: Readiness },
      503: { description: 'Not ready', schema: Readiness },
    },
    handlers: ({ lifecycle, config }) => [
      async (_request, response) => {
        const report = await readiness(lifecycle, config.READINESS_TIMEOUT_MS);
        if (!response.headersSent) response.status(report.ready ? 200 : 503).json(report);
      },
    ],
    lean: true,
  },
];
