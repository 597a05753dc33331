import path from 'node:path';
import { PortalLinkCreated } from '../contracts/portal';
import { callApi, type ApiOptions } from './api-call';
import { localAccess } from './local-access';
import { mintToken } from './token';

/** How `remit portal-link` is called. */
export interface PortalLinkCommand extends ApiOptions {
  label?: string;
  expiresS: number;
  sessionS: number;
  readOnly: boolean;
  brandName?: string;
  brandColor?: string;
  revoke?: string;
  json: boolean;
  tenant?: string;
}

const TOKEN_S = 60;

/**
 * `remit portal-link`: has the API make a link to the subscribers' portal, or end one.
 * @throws Error when no API is known or it does not answer, ApiRefusal with what it refuses.
 */
export async function runPortalLink(
  dataDir: string,
  subscriptions: readonly string[],
  { url, token, tenant, revoke, json, ...wanted }: PortalLinkCommand,
  say: (line: string) => void,
): Promise<void> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const api = url ?? endpoints.api;
  if (!api) throw new Error('no API is known: start remit first (npm start), or name it with --url');
  const mint = () =>
    mintToken(config, { subject: 'operator', tenant, scopes: ['write'], expiresInS: TOKEN_S });
  const access = { api, token: token === undefined ? mint : () => Promise.resolve(token) };
  if (revoke !== undefined) {
    await callApi(access, 'DELETE', `/api/v1/portal-links/${encodeURIComponent(revoke)}`);
    say(
      json ? JSON.stringify({ id: revoke, revoked: true }) : `The link ${revoke} and its session have ended.`,
    );
    return;
  }
  const body = await callApi(access, 'POST', '/api/v1/portal-links', {
    ...(subscriptions.length > 0 && { subscriptionIds: subscriptions }),
    ...(wanted.label !== undefined && { label: wanted.label }),
    expiresInS: wanted.expiresS,
    sessionS: wanted.sessionS,
    readOnly: wanted.readOnly,
    brand: { name: wanted.brandName ?? null, color: wanted.brandColor ?? null },
  });
  if (json) return say(JSON.stringify(body));
  const { id, url: link, expiresAt, subscriptionIds } = PortalLinkCreated.parse(body);
  say(link);
  const shown = subscriptionIds.length === 1 ? '1 subscription' : `${subscriptionIds.length} subscriptions`;
  say(`  shows ${shown}, once, until ${expiresAt.slice(0, 19)}Z; remit portal-link --revoke ${id} ends it`);
}
