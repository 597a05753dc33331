import { JSONToPayload, payloadToJSON } from '@temporalio/common/lib/proto-utils';
import express, { type Request, type RequestHandler, type Router } from 'express';
import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import type { Config } from '../platform/config';
import { PayloadEncryption } from '../platform/payload-encryption';
import { createKeyring, DecryptionError } from '../platform/secrets';
import type { Logger } from '../platform/logging';
import type { Authenticator } from './auth';
import type { ConsoleSessions } from './console/sessions';
import { readAnyJson, requireJson } from './json-body';
import { invalidRequest } from './problem';

/** A page of a history may hold two thousand payloads; Temporal takes at most 4 MB of them in one call, base64 makes 6 of it. */
const BODY_LIMIT_BYTES = 8 * 1_048_576;
const PAYLOADS_MAX = 10_000;
/** How long a browser need not ask again whether it may. */
const PREFLIGHT_S = 600;

const Base64 = z.string().regex(/^[A-Za-z0-9+/_-]*={0,2}$/);
/** What Temporal's UI and CLI send: `temporal.api.common.v1.Payloads` in JSON. */
const Payloads = z.object({
  payloads: z
    .array(z.object({ metadata: z.record(z.string(), Base64).optional(), data: Base64.optional() }))
    .max(PAYLOADS_MAX)
    .default([]),
});

export interface TemporalCodecDeps {
  config: Pick<
    Config,
    | 'CONSOLE_URL'
    | 'TEMPORAL_UI_URL'
    | 'TEMPORAL_NAMESPACE'
    | 'ENCRYPTION_KEY'
    | 'ENCRYPTION_KEYS_OLD'
    | 'TEMPORAL_ENCRYPT_PAYLOADS'
  >;
  log: Logger;
}

/**
 * Temporal's remote codec below /temporal-codec (`/encode`, `/decode`): with it the Temporal UI and CLI show payloads that are
 * encrypted in Temporal. Workflows are of all tenants, so it takes the right to see the platform: a bearer token with the scope,
 * or a login to the console with it. A browser may call it from one origin only, that of TEMPORAL_UI_URL.
 */
export function temporalCodecRouter(
  { config, log }: TemporalCodecDeps,
  authenticator: Authenticator,
  sessions: ConsoleSessions,
): Router {
  const uiOrigin = config.TEMPORAL_UI_URL === undefined ? undefined : new URL(config.TEMPORAL_UI_URL).origin;
  const encryption = new PayloadEncryption(
    createKeyring(config),
    config.TEMPORAL_NAMESPACE,
    config.TEMPORAL_ENCRYPT_PAYLOADS,
  );
  const router = express.Router();

  router.use((request, response, next) => {
    request.remit.route = `/temporal-codec${request.path === '/encode' || request.path === '/decode' ? request.path : ''}`;
    response.vary('Origin');
    response.setHeader('Cache-Control', 'no-store');
    if (uiOrigin !== undefined && request.headers.origin === uiOrigin) {
      response.setHeader('Access-Control-Allow-Origin', uiOrigin);
      response.setHeader('Access-Control-Allow-Credentials', 'true');
      response.setHeader('Access-Control-Allow-Methods', 'POST');
      response.setHeader('Access-Control-Allow-Headers', 'authorization, content-type, x-namespace');
      response.setHeader('Access-Control-Max-Age', String(PREFLIGHT_S));
    }
    if (request.method === 'OPTIONS') return void response.status(204).end();
    next();
  });

  /** Who asks, before any of the body is read. */
  const login: RequestHandler = async (request, _response, next) => {
    if (request.headers.authorization !== undefined || sessions.secretOf(request) === undefined)
      await authenticator.principal(request, 'platform');
    else await requirePlatformSession(request);
    const namespace = request.get('x-namespace');
    if (namespace !== undefined && namespace !== config.TEMPORAL_NAMESPACE)
      throw new RemitError(
        'invalid_request',
        `This is the codec of the namespace ${config.TEMPORAL_NAMESPACE}.`,
      );
    next();
  };

  /**
   * A session of the console, sent by a page of the Temporal UI. That page has no CSRF token, and needs none: nothing is changed
   * by it, and no other origin's page may read the answer.
   */
  async function requirePlatformSession(request: Request): Promise<void> {
    const { origin } = request.headers;
    const own = config.CONSOLE_URL ? new URL(config.CONSOLE_URL).origin : undefined;
    if (origin === undefined || (origin !== uiOrigin && origin !== own))
      throw new RemitError('forbidden', 'The request comes from another origin than TEMPORAL_UI_URL.');
    const session = await sessions.find(request);
    if (!session)
      throw new RemitError('unauthenticated', 'The session has ended; log in to the console again.');
    if (!session.platform)
      throw new RemitError('forbidden', 'Your login lacks the right to see the platform.');
  }

  const read = express.raw({ limit: BODY_LIMIT_BYTES, inflate: false, type: () => true });
  for (const direction of ['encode', 'decode'] as const)
    router.post(`/${direction}`, login, read, async (request, response) => {
      requireJson(request);
      const parsed = Payloads.safeParse(readAnyJson(request.body as Buffer));
      if (!parsed.success) throw invalidRequest(parsed.error);
      const given = payloadsOf(parsed.data.payloads);
      try {
        const payloads = await encryption[direction](given);
        response.json({ payloads: payloads.map((payload) => payloadToJSON(payload as never)) });
      } catch (error) {
        if (!(error instanceof DecryptionError)) throw error;
        log.warn({ err: error }, 'a payload of Temporal could not be decrypted');
        throw new RemitError('invalid_request', `A payload can’t be decrypted: ${error.message}.`);
      }
    });
  return router;
}

/** @throws RemitError invalid_request when one is no payload after all. */
function payloadsOf(given: readonly unknown[]) {
  try {
    return given.map((payload) => JSONToPayload(payload as never));
  } catch (error) {
    throw new RemitError('invalid_request', `A payload can’t be read: ${String(error)}.`);
  }
}
