import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { PROJECT_ROOT } from '../../../src/platform/project';
import { eventually, freePort } from '../../support/harness';

/** A registry of images (CNCF Distribution) with TLS and a login, as the forge's has; and what is asked of it directly. */

const CERTIFICATE = path.join(PROJECT_ROOT, 'test/unit/webhooks/tls/certificate.pem');
const KEY = path.join(PROJECT_ROOT, 'test/unit/webhooks/tls/key.pem');
/** For `localhost`. */
export const TLS = { cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) };
export const USERNAME = 'publisher';
export const PASSWORD = 'rehearsal';
/** Of the password, with a cost that slows no test. */
const BCRYPT = '$2b$04$kap8MSSevUESTZx9Bjj9yu/kL3fcbrI1uozzDxXNkHZNxbKOixDCK';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const ANSWER_MAX_BYTES = 16 * 1024 * 1024;

export interface StoredManifest {
  mediaType: string;
  body: Buffer;
}
interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
}

export const digestOf = (bytes: Buffer | string): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
export const basicAuth = Buffer.from(`${USERNAME}:${PASSWORD}`).toString('base64');

export class Registry {
  private child: ChildProcess | undefined;
  private said = '';
  private port = 0;

  /** @param folder for its settings and what it stores. */
  constructor(
    private readonly executable: string,
    private readonly folder: string,
  ) {}

  /** `localhost:12345`; for this name its certificate is. */
  get host(): string {
    return `localhost:${this.port}`;
  }
  /** Folder with the certificate as podman wants it, and file for everybody else. */
  get certificates(): { folder: string; file: string } {
    return { folder: this.folder, file: path.join(this.folder, 'ca.crt') };
  }

  async start(): Promise<void> {
    mkdirSync(this.folder, { recursive: true });
    const file = (name: string, text: string): string => {
      writeFileSync(path.join(this.folder, name), text);
      return path.join(this.folder, name);
    };
    cpSync(CERTIFICATE, this.certificates.file);
    this.port = await freePort();
    const config = file(
      'config.yml',
      JSON.stringify({
        version: '0.1',
        log: { level: 'warn', accesslog: { disabled: true } },
        storage: { filesystem: { rootdirectory: path.join(this.folder, 'stored') } },
        http: {
          addr: `127.0.0.1:${this.port}`,
          secret: PASSWORD,
          tls: { certificate: CERTIFICATE, key: KEY },
        },
        auth: { htpasswd: { realm: 'remit', path: file('htpasswd', `${USERNAME}:${BCRYPT}\n`) } },
      }),
    );
    this.child = spawn(this.executable, ['serve', config], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout!, this.child.stderr!])
      stream.on('data', (chunk: Buffer) => (this.said = (this.said + chunk.toString()).slice(-4_000)));
    await eventually(async () => {
      if (this.child?.exitCode !== null) throw new Error(`the registry ended:\n${this.said}`);
      expect((await this.ask('GET', '/v2/')).status).toBe(200);
    }, 30_000);
  }

  async stop(): Promise<void> {
    if (this.child === undefined || this.child.exitCode !== null) return;
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
  }

  /** @param url a path, or an address that it has given. `login`: whether with user and password. */
  ask(method: string, url: string, body?: StoredManifest, login = true): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const request = https.request(
        new URL(url, `https://${this.host}`),
        {
          method,
          ca: TLS.cert,
          headers: {
            accept: `${INDEX}, ${MANIFEST}, */*`,
            ...(login ? { authorization: `Basic ${basicAuth}` } : {}),
            ...(body === undefined
              ? {}
              : { 'content-type': body.mediaType, 'content-length': body.body.length }),
          },
          timeout: 30_000,
        },
        (response) => {
          const chunks: Buffer[] = [];
          let bytes = 0;
          response.on('data', (chunk: Buffer) => {
            bytes += chunk.length;
            if (bytes > ANSWER_MAX_BYTES) request.destroy(new Error('an answer is too long'));
            chunks.push(chunk);
          });
          response.on('error', reject);
          response.on('end', () =>
            resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }),
          );
        },
      );
      request.on('error', reject);
      request.on('timeout', () => request.destroy(new Error(`${method} ${url}: no answer`)));
      request.end(body?.body);
    });
  }

  /** @param reference a tag or a digest. */
  async manifest(repository: string, reference: string): Promise<StoredManifest> {
    const { status, headers, body } = await this.ask('GET', `/v2/${repository}/manifests/${reference}`);
    expect({ repository, reference, status }).toMatchObject({ status: 200 });
    return { mediaType: String(headers['content-type']), body };
  }

  async putManifest(repository: string, reference: string, manifest: StoredManifest): Promise<string> {
    const { status, body } = await this.ask('PUT', `/v2/${repository}/manifests/${reference}`, manifest);
    expect({ status, said: status === 201 ? '' : body.toString() }).toEqual({ status: 201, said: '' });
    return digestOf(manifest.body);
  }

  private async putBlob(repository: string, bytes: Buffer): Promise<{ digest: string; size: number }> {
    const digest = digestOf(bytes);
    const { headers } = await this.ask('POST', `/v2/${repository}/blobs/uploads/`);
    const target = new URL(String(headers['location']), `https://${this.host}`);
    target.searchParams.set('digest', digest);
    const { status } = await this.ask('PUT', target.href, {
      mediaType: 'application/octet-stream',
      body: bytes,
    });
    expect(status).toBe(201);
    return { digest, size: bytes.length };
  }

  /** The least that is an image for several platforms. @returns its digest. */
  async putImage(
    repository: string,
    tag: string,
    architectures: readonly string[],
    text: string,
  ): Promise<string> {
    const manifests = [];
    const json = (value: unknown) => Buffer.from(JSON.stringify(value));
    for (const architecture of architectures) {
      const layer = emptyLayer();
      const config = json({
        ...{ architecture, os: 'linux', config: { Labels: { text } } },
        rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
      });
      const body = json({
        ...{ schemaVersion: 2, mediaType: MANIFEST },
        config: {
          mediaType: 'application/vnd.oci.image.config.v1+json',
          ...(await this.putBlob(repository, config)),
        },
        layers: [
          { mediaType: 'application/vnd.oci.image.layer.v1.tar', ...(await this.putBlob(repository, layer)) },
        ],
      });
      const digest = await this.putManifest(repository, digestOf(body), { mediaType: MANIFEST, body });
      manifests.push({
        mediaType: MANIFEST,
        digest,
        size: body.length,
        platform: { os: 'linux', architecture },
      });
    }
    const body = json({ schemaVersion: 2, mediaType: INDEX, manifests });
    return this.putManifest(repository, tag, { mediaType: INDEX, body });
  }
}

/** A tar archive of nothing: two blocks of zeros. */
const emptyLayer = () => Buffer.alloc(1024);
