import { createHash, randomUUID } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, SignJWT, type JWTPayload, type KeyLike } from 'jose';

/** What an issuer was asked at its authorization endpoint, and will say of the user at its token endpoint. */
interface Asked {
  clientId: string;
  redirectUri: string;
  challenge: string;
  nonce: string;
}

/**
 * An OpenID Connect issuer on this machine: authorization code with PKCE for one public client. Whoever comes is logged in as the
 * user whose claims are set.
 */
export class Issuer {
  claims: JWTPayload = {};
  /** What the ID token says instead of the truth, for what must be refused. */
  lies: Partial<{ nonce: string; aud: string; iss: string; unsigned: boolean }> = {};
  readonly url: string;
  private readonly codes = new Map<string, Asked>();

  private constructor(
    private readonly server: http.Server,
    private readonly keys: { publicKey: KeyLike; privateKey: KeyLike },
  ) {
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('request', (request: http.IncomingMessage, response: http.ServerResponse) => {
      void this.answer(request, response);
    });
  }

  static async start(): Promise<Issuer> {
    const server = http.createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new Issuer(server, await generateKeyPair('ES256'));
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private async answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const json = (status: number, body: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    switch (url.pathname) {
      case '/.well-known/openid-configuration':
        return void json(200, {
          issuer: this.url,
          authorization_endpoint: `${this.url}/authorize`,
          token_endpoint: `${this.url}/token`,
          jwks_uri: `${this.url}/jwks`,
          response_types_supported: ['code'],
          subject_types_supported: ['public'],
          id_token_signing_alg_values_supported: ['ES256'],
          code_challenge_methods_supported: ['S256'],
        });
      case '/jwks':
        return void json(200, {
          keys: [{ ...(await exportJWK(this.keys.publicKey)), alg: 'ES256', kid: 'k' }],
        });
      case '/authorize': {
        const asked = (name: string) => url.searchParams.get(name) ?? '';
        const code = randomUUID();
        this.codes.set(code, {
          clientId: asked('client_id'),
          redirectUri: asked('redirect_uri'),
          challenge: asked('code_challenge_method') === 'S256' ? asked('code_challenge') : '',
          nonce: asked('nonce'),
        });
        const back = new URL(asked('redirect_uri'));
        back.searchParams.set('code', code);
        back.searchParams.set('state', asked('state'));
        return void response.writeHead(302, { location: back.toString() }).end();
      }
      case '/token':
        return this.token(new URLSearchParams(await text(request)), json);
      default:
        return void json(404, {});
    }
  }

  private async token(
    form: URLSearchParams,
    json: (status: number, body: unknown) => unknown,
  ): Promise<void> {
    const code = form.get('code') ?? '';
    const asked = this.codes.get(code);
    this.codes.delete(code);
    const challenge = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url');
    if (!asked || challenge !== asked.challenge || form.get('redirect_uri') !== asked.redirectUri)
      return void json(400, { error: 'invalid_grant' });
    const { privateKey } = this.lies.unsigned ? await generateKeyPair('ES256') : this.keys;
    const idToken = await new SignJWT({ ...this.claims, nonce: this.lies.nonce ?? asked.nonce })
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .setIssuer(this.lies.iss ?? this.url)
      .setAudience(this.lies.aud ?? asked.clientId)
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(privateKey);
    json(200, { access_token: randomUUID(), token_type: 'Bearer', expires_in: 300, id_token: idToken });
  }
}

async function text(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
