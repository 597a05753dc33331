import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { stringify } from 'yaml';
import { exportJWK, generateKeyPair, SignJWT, type KeyLike } from 'jose';
import { eventually, freePort } from '../../support/harness';
import { TLS } from './registry';

/**
 * What keyless signing needs, on this machine: who says which workflow runs (as the forge does, with tokens of the same claims), Sigstore's
 * certificate authority that makes a certificate of such a token, and its time stamps. There is no transparency log and none for
 * certificates.
 */

export interface Programs {
  cosign: string;
  fulcio: string;
  timestamps: string;
}
/** Who runs: `Owner/name`, the file of the workflow, and the full name of a branch or tag. */
export interface Running {
  repository: string;
  workflow: string;
  ref: string;
}

/** How Sigstore's public authority reads the tokens of GitHub: config/identity/config.yaml of Fulcio, as far as the subject goes. */
const GITHUB = {
  'default-template-values': { url: 'https://github.com' },
  'extension-templates': {
    'github-workflow-trigger': 'event_name',
    'github-workflow-sha': 'sha',
    'github-workflow-name': 'workflow',
    'github-workflow-repository': 'repository',
    'github-workflow-ref': 'ref',
    'build-signer-uri': '{{ .url }}/{{ .job_workflow_ref }}',
  },
  'subject-alternative-name-template': '{{ .url }}/{{ .job_workflow_ref }}',
};
const AUDIENCE = 'sigstore';
const BEARER = 'token-of-the-job';
const LIVES_S = 300;

export class Identities {
  private readonly children: ChildProcess[] = [];
  private readonly said: string[] = [];
  private key!: { privateKey: KeyLike; publicKey: KeyLike };
  private readonly issuer = https.createServer(TLS, (request, response) => {
    const url = new URL(request.url!, this.url);
    void this.answer(url, request.headers.authorization).then(
      (body) => {
        response.writeHead(body === undefined ? 403 : 200, { 'content-type': 'application/json' });
        response.end(JSON.stringify(body ?? {}));
      },
      () => response.writeHead(500).end(),
    );
  });

  /** @param folder for settings and keys. */
  constructor(
    private readonly programs: Programs,
    private readonly folder: string,
    private readonly certificate: string,
  ) {}

  /** Who issues the tokens, in the place of https://token.actions.githubusercontent.com. */
  get url(): string {
    return `https://localhost:${(this.issuer.address() as AddressInfo).port}`;
  }

  /** Where cosign is to sign, and whom it is to believe; `others`: another authority, in which nothing here is. */
  get files(): Readonly<Record<'signing' | 'ours' | 'others', string>> {
    return { signing: this.at('signing.json'), ours: this.at('ours.json'), others: this.at('others.json') };
  }

  private at(name: string): string {
    return path.join(this.folder, name);
  }

  async start(): Promise<void> {
    mkdirSync(this.folder, { recursive: true });
    this.key = await generateKeyPair('RS256');
    this.issuer.listen(0, '127.0.0.1');
    await once(this.issuer, 'listening');
    writeFileSync(
      this.at('issuers.yaml'),
      stringify({
        'oidc-issuers': {
          [this.url]: {
            'issuer-url': this.url,
            'client-id': AUDIENCE,
            type: 'ci-provider',
            'ci-provider': 'github-workflow',
          },
        },
        'ci-issuer-metadata': { 'github-workflow': GITHUB },
      }),
    );
    const [fulcio, other, timestamps] = [
      await this.authority('fulcio'),
      await this.authority('other'),
      await this.stamps(),
    ];
    this.cosign('signing-config', 'create', '--out', this.files.signing,
      '--fulcio', `url=${fulcio.url},api-version=1,start-time=2020-01-01T00:00:00Z,operator=here`,
      '--oidc-provider', `url=${this.url},api-version=1,start-time=2020-01-01T00:00:00Z,operator=here`,
      '--tsa', `url=${timestamps.url},api-version=1,start-time=2020-01-01T00:00:00Z,operator=here`, '--tsa-config', 'ANY'); // prettier-ignore
    for (const [file, { url, chain }] of [
      [this.files.ours, fulcio],
      [this.files.others, other],
    ] as const)
      this.cosign('trusted-root', 'create', '--out', file, '--fulcio', `url=${url},certificate-chain=${chain}`,
        '--tsa', `url=${timestamps.url},certificate-chain=${timestamps.chain}`); // prettier-ignore
  }

  async stop(): Promise<void> {
    if (process.env['DEBUG']) process.stderr.write(this.said.join(''));
    for (const child of this.children) child.kill('SIGKILL');
    this.issuer.closeAllConnections();
    this.issuer.close();
    await Promise.resolve();
  }

  /** The variables from which a job with the permission `id-token: write` gets its token, and no other job. */
  variables({ repository, workflow, ref }: Running): Record<string, string> {
    const query = new URLSearchParams({ repository, workflow, ref });
    return {
      ACTIONS_ID_TOKEN_REQUEST_URL: `${this.url}/token?${query.toString()}`,
      ACTIONS_ID_TOKEN_REQUEST_TOKEN: BEARER,
    };
  }

  private async answer(url: URL, authorization: string | undefined): Promise<unknown> {
    if (url.pathname === '/.well-known/openid-configuration')
      return {
        issuer: this.url,
        jwks_uri: `${this.url}/keys`,
        response_types_supported: ['id_token'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
      };
    if (url.pathname === '/keys')
      return { keys: [{ ...(await exportJWK(this.key.publicKey)), kid: 'key', alg: 'RS256', use: 'sig' }] };
    if (url.pathname !== '/token' || authorization !== `bearer ${BEARER}`) return undefined;
    const [repository, file, ref] = ['repository', 'workflow', 'ref'].map((name) =>
      url.searchParams.get(name),
    );
    const value = await new SignJWT({
      repository,
      ref,
      job_workflow_ref: `${repository}/${file}@${ref}`,
      event_name: 'push',
      workflow: 'release',
      sha: '0'.repeat(40),
    })
      .setProtectedHeader({ alg: 'RS256', kid: 'key' })
      .setIssuer(this.url)
      .setSubject(`repo:${repository}:ref:${ref}`)
      .setAudience(url.searchParams.get('audience') ?? '')
      .setIssuedAt()
      .setExpirationTime(`${LIVES_S} s`)
      .sign(this.key.privateKey);
    return { value };
  }

  /** @returns its address, and the file with its certificates. */
  private async authority(name: string): Promise<{ url: string; chain: string }> {
    const [port, grpc, metrics] = [await freePort(), await freePort(), await freePort()];
    this.run(this.programs.fulcio, [
      'serve', '--ca', 'ephemeralca', '--ct-log-url=', '--config-path', this.at('issuers.yaml'),
      '--host', '127.0.0.1', '--port', String(port), '--grpc-host', '127.0.0.1', '--grpc-port', String(grpc),
      '--metrics-port', String(metrics), '--legacy-unix-domain-socket', this.at(`${name}.socket`),
    ]); // prettier-ignore
    const url = `http://127.0.0.1:${port}`;
    const { chains } = JSON.parse(await this.text(`${url}/api/v2/trustBundle`)) as {
      chains: { certificates: string[] }[];
    };
    const chain = this.at(`${name}.pem`);
    writeFileSync(chain, chains[0]!.certificates.join('\n'));
    return { url, chain };
  }

  private async stamps(): Promise<{ url: string; chain: string }> {
    const port = await freePort();
    this.run(this.programs.timestamps, [
      'serve', '--host', '127.0.0.1', '--port', String(port), '--timestamp-signer', 'memory', '--disable-ntp-monitoring',
    ]); // prettier-ignore
    const url = `http://127.0.0.1:${port}/api/v1/timestamp`;
    const chain = this.at('timestamps.pem');
    writeFileSync(chain, await this.text(`${url}/certchain`));
    return { url, chain };
  }

  private run(command: string, args: string[]): void {
    const child = spawn(command, args, {
      cwd: this.folder,
      env: { PATH: process.env['PATH'], HOME: this.folder, SSL_CERT_FILE: this.certificate },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => this.said.push(chunk.toString()) > 200 && this.said.shift());
    this.children.push(child);
  }

  /** What a server that has just been started says at an address. */
  private text(url: string): Promise<string> {
    return eventually(async () => {
      if (this.children.some(({ exitCode }) => exitCode !== null)) throw new Error(this.said.join(''));
      const response = await fetch(url);
      expect(response.status).toBe(200);
      return response.text();
    }, 30_000);
  }

  private cosign(...args: string[]): void {
    execFileSync(this.programs.cosign, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  }
}
