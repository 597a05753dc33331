import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Request, RequestHandler, Response } from 'express';
import { RemitError } from '../../contracts/errors';
import { PROJECT_ROOT } from '../../platform/project';

/** What Vite builds from `console/`. */
const FOLDER = path.join(PROJECT_ROOT, 'dist', 'console');
const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.woff2': 'font/woff2',
  '.svg': 'image/svg+xml',
};
/** Made next to each file by the build, smallest first. */
const ENCODINGS = [
  ['br', '.br'],
  ['gzip', '.gz'],
] as const;
/** Stands in index.html where each answer has a nonce of its own. */
const NONCE = '__CSP_NONCE__';
/** What is under this folder carries the hash of its content in its name. */
const HASHED = 'assets/';

const NOT_BUILT = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>remit console</title>
<p>The console is not built here. <code>npm run build</code> builds it; <code>npm start</code> does so by itself.
<p><a href="/docs">API documentation</a></html>`;

interface StaticFile {
  type: string;
  etag: string;
  bytes: Map<string, Buffer>;
}

/** Who may frame a page, as its policy says it: these origins, or nobody. */
const ancestors = (origins: readonly string[]) => `frame-ancestors ${origins.join(' ') || "'none'"}`;

/** Nothing is loaded from another host, nothing runs that this server has not sent, and no other page may frame this one. */
const policy = (nonce: string, origins: readonly string[]) =>
  [
    "default-src 'none'",
    "script-src 'self'",
    `style-src 'self' 'nonce-${nonce}'`,
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    ancestors(origins),
  ].join('; ');

/** Headers of everything below /console and /portal. @param origins may frame it; without any, nobody may. */
export const framedBy =
  (origins: readonly string[]): RequestHandler =>
  (_request, response, next) => {
    response.setHeader(
      'Content-Security-Policy',
      `default-src 'none'; ${ancestors(origins)}; base-uri 'none'`,
    );
    // It knows no list of origins: browsers that read the policy heed that instead.
    if (origins.length === 0) response.setHeader('X-Frame-Options', 'DENY');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Referrer-Policy', 'no-referrer');
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
    response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
    response.setHeader('Permissions-Policy', 'camera=(), microphone=(), geolocation=()');
    next();
  };

export interface PageFiles {
  /** A page of the build, which these origins may frame. */
  page: (name: 'index.html' | 'portal.html', origins?: readonly string[]) => RequestHandler;
  /** A script or style of it. */
  file: RequestHandler;
}

/** The files of console and portal, read once: under 2 MB with their compressed forms. */
export function pageFiles(): PageFiles {
  const files = readFiles();
  return {
    page: (name, origins = []) => {
      const html = files.get(name)?.bytes.get('')?.toString();
      return (_request, response) => {
        const nonce = randomBytes(16).toString('base64');
        response.setHeader('Content-Security-Policy', policy(nonce, origins));
        response.setHeader('Cache-Control', 'no-store');
        response
          .status(html === undefined ? 503 : 200)
          .type('html')
          .send(html === undefined ? NOT_BUILT : html.replaceAll(NONCE, nonce));
      };
    },
    file: (request, response) => {
      const name = `${HASHED}${String(request.params['file'])}`;
      const found = files.get(name);
      if (!found) throw new RemitError('not_found', 'There is no such file.');
      response.setHeader('Cache-Control', 'public, max-age=31536000, immutable');
      sendFile(request, response, found);
    },
  };
}

function sendFile(request: Request, response: Response, { type, etag, bytes }: StaticFile): void {
  response.setHeader('ETag', etag);
  response.setHeader('Vary', 'Accept-Encoding');
  if (request.headers['if-none-match'] === etag) return void response.status(304).end();
  const encoding = ENCODINGS.map(([name]) => name).find(
    (name) => bytes.has(name) && request.acceptsEncodings(name) === name,
  );
  if (encoding) response.setHeader('Content-Encoding', encoding);
  response.setHeader('Content-Type', type);
  response.end(bytes.get(encoding ?? ''));
}

function readFiles(): Map<string, StaticFile> {
  const found = new Map<string, StaticFile>();
  if (!existsSync(path.join(FOLDER, 'index.html'))) return found;
  for (const entry of readdirSync(FOLDER, { recursive: true, withFileTypes: true })) {
    const type = TYPES[path.extname(entry.name)];
    if (!entry.isFile() || type === undefined) continue;
    const full = path.join(entry.parentPath, entry.name);
    const plain = readFileSync(full);
    const bytes = new Map([['', plain]]);
    for (const [encoding, ending] of ENCODINGS)
      if (existsSync(full + ending)) bytes.set(encoding, readFileSync(full + ending));
    const etag = `"${createHash('sha256').update(plain).digest('base64url').slice(0, 22)}"`;
    found.set(path.relative(FOLDER, full).split(path.sep).join('/'), { type, etag, bytes });
  }
  return found;
}
