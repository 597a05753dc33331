/**
 * An OpenID Connect provider in a process of its own: node-oidc-provider, which is certified, with a login page and the users that
 * ISSUER_USERS names. One public client, which must use PKCE; its redirect URI is CLIENT_REDIRECT_URI.
 */
import http from 'node:http';

// What it says of a deployment that is none: stores in memory, keys for development, Node.js older than the newest.
console.info = console.warn = () => undefined;
const { default: Provider } = await import('oidc-provider');

const { ISSUER_URL, ISSUER_USERS, CLIENT_ID, CLIENT_REDIRECT_URI } = process.env;
/** The claims of each user, by the name to log in with. */
const users = JSON.parse(ISSUER_USERS);

const provider = new Provider(ISSUER_URL, {
  clients: [
    {
      client_id: CLIENT_ID,
      token_endpoint_auth_method: 'none',
      redirect_uris: [CLIENT_REDIRECT_URI],
      grant_types: ['authorization_code'],
      response_types: ['code'],
    },
  ],
  pkce: { required: () => true },
  cookies: { keys: ['of tests'] },
  claims: { openid: ['sub', 'roles', 'tenant'] },
  // Claims of the scope in the ID token, not only at the userinfo endpoint.
  conformIdTokenClaims: false,
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, ...users[id] }) }),
  // The installation's own client: nobody is asked whether it may know who they are.
  async loadExistingGrant({ oidc }) {
    const grant = new provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope('openid');
    await grant.save();
    return grant;
  },
  interactions: { url: (_context, { uid }) => `/login/${uid}` },
  features: { devInteractions: { enabled: false } },
});

const PAGE = `<!doctype html><html lang="en"><head><title>Issuer</title><link rel="icon" href="data:,"></head><body><main>
<h1>Log in at the issuer</h1><form method="post"><label>Name <input name="name" autocomplete="off"></label>
<button>Log in</button></form></main></body></html>`;

const answer = provider.callback();
http
  .createServer((request, response) => {
    if (!request.url.startsWith('/login/')) return answer(request, response);
    if (request.method === 'GET') return response.setHeader('content-type', 'text/html').end(PAGE);
    let text = '';
    request.on('data', (chunk) => (text += chunk));
    request.on('end', () => {
      const accountId = new URLSearchParams(text).get('name') ?? '';
      if (!Object.hasOwn(users, accountId)) return response.setHeader('content-type', 'text/html').end(PAGE);
      void provider.interactionFinished(request, response, { login: { accountId } });
    });
  })
  .listen(Number(new URL(ISSUER_URL).port), '127.0.0.1', () => process.send('ready'));
