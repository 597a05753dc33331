import express, { type Request, type RequestHandler, type Response, type Router } from 'express';
import { LogoutBody, RedeemLinkBody, type ConsoleState } from '../../contracts/console';
import { RemitError } from '../../contracts/errors';
import { redeemConsoleLink } from '../../domain/console-sessions';
import { VERSION } from '../../platform/project';
import { perAddress } from '../address-limit';
import { readJson, requireJson } from '../json-body';
import { csrfTokenOf } from '../own-page';
import { invalidRequest } from '../problem';
import type { ApiDeps } from '../routes/route';
import { framedBy, type PageFiles } from './files';
import { OidcLogin } from './oidc';
import type { ConsoleSessions } from './sessions';

const BODY_LIMIT_BYTES = 2_048;
/** Of one address in a minute. Codes can't be guessed; this keeps a guesser from the database. */
const LOGINS_A_MINUTE = 60;

/**
 * The console below /console: its files, and who is logged in. What it shows and does goes through the API like
 * everybody's requests.
 */
export function consoleRouter(deps: ApiDeps, sessions: ConsoleSessions, files: PageFiles): Router {
  const { config, database } = deps;
  const router = express.Router();
  const limited = perAddress(deps.log, LOGINS_A_MINUTE, 'Too many logins from this address');
  let oidc: Promise<OidcLogin> | undefined;
  const issuer = (): Promise<OidcLogin> => {
    if (!config.CONSOLE_OIDC_CLIENT_ID) throw new RemitError('not_found', 'No issuer is configured here.');
    return (oidc ??= OidcLogin.create(config));
  };
  const body: RequestHandler[] = [
    requireOwnOrigin(sessions),
    express.raw({ limit: BODY_LIMIT_BYTES, type: () => true }),
  ];

  router.use(named('/console'), framedBy([]));
  router.get('/assets/:file', named('/console/assets/:file'), files.file);

  router.get('/api/session', named('/console/api/session'), async (request, response) => {
    sessions.requireSameOrigin(request);
    const session = await sessions.find(request);
    const state: ConsoleState = {
      session: session
        ? {
            subject: session.subject,
            tenant: session.tenantId,
            role: session.role,
            platform: session.platform,
            expiresAt: session.expiresAt.toISOString(),
            endsAt: session.endsAt.toISOString(),
            csrfToken: csrfTokenOf(sessions.secretOf(request)!),
            temporalUi: config.TEMPORAL_UI_URL ?? null,
            temporalNamespace: config.TEMPORAL_NAMESPACE,
          }
        : null,
      oidcIssuer: config.CONSOLE_OIDC_CLIENT_ID ? new URL(config.AUTH_ISSUER!).host : null,
      version: VERSION,
    };
    response.setHeader('Cache-Control', 'no-store');
    response.json(state);
  });

  router.post(
    '/api/login',
    named('/console/api/login'),
    limited,
    ...body,
    async (request: Request, response: Response) => {
      requireJson(request);
      const parsed = RedeemLinkBody.safeParse(readJson(request.body as Buffer).json);
      if (!parsed.success) throw invalidRequest(parsed.error);
      const user = await redeemConsoleLink(database, parsed.data.code);
      if (!user) {
        deps.log.info({ address: request.ip }, 'console login refused');
        throw new RemitError(
          'unauthenticated',
          'The link was used already or is too old; ask for a new one.',
        );
      }
      await sessions.start(request, response, user, 'link');
      deps.log.info(
        { tenant: user.tenantId, subject: user.subject, role: user.role, address: request.ip },
        'console login by link',
      );
      response.status(204).end();
    },
  );

  router.post(
    '/api/logout',
    named('/console/api/logout'),
    ...body,
    async (request: Request, response: Response) => {
      requireJson(request);
      sessions.requireOwnPage(request);
      const parsed = LogoutBody.safeParse(readJson(request.body as Buffer).json);
      if (!parsed.success) throw invalidRequest(parsed.error);
      await sessions.end(request, response, parsed.data.everywhere);
      response.status(204).end();
    },
  );

  router.get('/login/oidc', named('/console/login/oidc'), limited, async (request, response) => {
    await (await issuer()).begin(response, request.query['next']);
  });
  router.get('/login/callback', named('/console/login/callback'), limited, async (request, response) => {
    response.setHeader('Cache-Control', 'no-store');
    try {
      const { user, next } = await (await issuer()).finish(request, response);
      await sessions.start(request, response, user, 'oidc');
      deps.log.info(
        { tenant: user.tenantId, subject: user.subject, role: user.role, address: request.ip },
        'console login by OIDC',
      );
      response.redirect(303, next);
    } catch (error) {
      if (!(error instanceof RemitError)) throw error;
      deps.log.info(
        { code: error.code, detail: error.message, address: request.ip },
        'console login refused',
      );
      response.redirect(303, `/console/login?problem=${error.code}`);
    }
  });

  // Every other address is a page that the script in the browser draws.
  router.get(/.*/, named('/console'), files.page('index.html'));
  return router;
}

/** The route's name, for metrics. */
export function named(route: string): RequestHandler {
  return (request, _response, next) => {
    request.remit.route = route;
    next();
  };
}

function requireOwnOrigin(sessions: ConsoleSessions): RequestHandler {
  return (request, _response, next) => {
    sessions.requireSameOrigin(request);
    next();
  };
}
