import express, { type Request, type RequestHandler, type Response, type Router } from 'express';
import { rateLimit } from 'express-rate-limit';
import { RemitError } from '../../contracts/errors';
import { OpenPortalBody, type PortalState } from '../../contracts/portal';
import { framedBy, type PageFiles } from '../console/files';
import { named } from '../console/router';
import { perAddress } from '../address-limit';
import { readJson, requireJson } from '../json-body';
import { csrfTokenOf } from '../own-page';
import { invalidRequest } from '../problem';
import type { ApiDeps, Caller, Route } from '../routes/route';
import { brandColors } from './brand';
import { PORTAL_ROUTES } from './routes';
import { PortalSessions } from './sessions';

const BODY_LIMIT_BYTES = 2_048;
/** Of one address in a minute. Codes can't be guessed; this keeps a guesser from the database. */
const OPENED_A_MINUTE = 300;
/** Of one session in a minute: its subscriber uses up nothing of what its tenant has. */
const REQUESTS_A_MINUTE = 600;
const ACTIONS_A_MINUTE = 60;

/** Makes the handlers of a route for those whom `login` knows. */
export type Serve = (
  route: Route,
  login: (request: Request) => Promise<Caller>,
  limits: RequestHandler[],
) => RequestHandler[];

/**
 * The subscribers' portal below /portal: its page, its session, and the few routes of the API that the session may call. Its
 * cookie counts here alone, and nothing else that logs in counts here.
 */
export function portalRouter(deps: ApiDeps, files: PageFiles, serve: Serve): Router {
  const { config, database } = deps;
  const router = express.Router();
  const sessions = new PortalSessions(config, database);
  const limited = perAddress(deps.log, OPENED_A_MINUTE, 'Too many links opened from this address');
  const limits = [perSession(REQUESTS_A_MINUTE), perSession(ACTIONS_A_MINUTE, true)];
  const body: RequestHandler[] = [
    (request, _response, next) => {
      sessions.requireSameOrigin(request);
      next();
    },
    express.raw({ limit: BODY_LIMIT_BYTES, type: () => true }),
  ];

  router.use(named('/portal'), framedBy(config.PORTAL_FRAME_ORIGINS));

  router.get('/api/session', named('/portal/api/session'), async (request, response) => {
    sessions.requireSameOrigin(request);
    const session = await sessions.find(request);
    const color = session?.brand.color ?? null;
    const state: PortalState = {
      session: session
        ? {
            readOnly: session.readOnly,
            endsAt: session.endsAt.toISOString(),
            csrfToken: csrfTokenOf(sessions.secretOf(request)!),
            brand: { name: session.brand.name, colors: color === null ? null : brandColors(color) },
          }
        : null,
    };
    response.setHeader('Cache-Control', 'no-store');
    response.json(state);
  });

  router.post(
    '/api/login',
    named('/portal/api/login'),
    limited,
    ...body,
    async (request: Request, response: Response) => {
      requireJson(request);
      const parsed = OpenPortalBody.safeParse(readJson(request.body as Buffer).json);
      if (!parsed.success) throw invalidRequest(parsed.error);
      await sessions.open(request, response, parsed.data.code);
      response.status(204).end();
    },
  );

  router.post('/api/logout', named('/portal/api/logout'), ...body, async (request, response) => {
    sessions.requireOwnPage(request);
    await sessions.end(request, response);
    response.status(204).end();
  });

  for (const { route, acts } of PORTAL_ROUTES)
    router
      .route(route.path)
      [route.method](
        named(`/portal${route.path}`),
        ...serve(route, (request) => sessions.caller(request, acts), limits),
      );
  router.use('/api', () => {
    throw new RemitError('not_found', 'The portal has nothing at this address.');
  });

  // Every other address is a page that the script in the browser draws.
  router.get(/.*/, files.page('portal.html', config.PORTAL_FRAME_ORIGINS));
  return router;
}

function perSession(limit: number, actions = false): RequestHandler {
  return rateLimit({
    windowMs: 60_000,
    limit,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    identifier: actions ? 'actions' : 'session',
    skip: (request) => actions && request.method === 'GET',
    keyGenerator: (_request, response) => (response.locals['caller'] as Caller).id,
    handler: () => {
      throw new RemitError('rate_limited', 'Too many requests; try again after Retry-After.');
    },
  });
}
