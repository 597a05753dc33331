import { randomUUID, timingSafeEqual, createHash } from 'node:crypto';
import { type IncomingMessage, type ServerResponse } from 'node:http';
import { type Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { createBrotliDecompress, createGunzip, createInflate, gzip } from 'node:zlib';
import { type ClickHouseEngine, type EngineResult } from './clickhouse-engine';
import { ClickHouseException, fromEngine } from './clickhouse-errors';
import { Gate } from './clickhouse-gate';
import { limitBytes, type Spool } from './clickhouse-spool';
import { parseStatement, quoteString, type Statement } from './clickhouse-sql';

const gzipAsync = promisify(gzip);
/** A statement with its inline data is held in memory; larger data belongs into the body of an INSERT. */
const MAX_STATEMENT_BYTES = 64 * 1024 * 1024;
const MAX_UPLOADS = 16;
const MAX_WAITING_UPLOADS = 1_000;
const UTF8_FORMATS: Record<string, string> = {
  JSON: 'application/json; charset=UTF-8',
  JSONCompact: 'application/json; charset=UTF-8',
  JSONEachRow: 'application/x-ndjson; charset=UTF-8',
  JSONCompactEachRow: 'application/x-ndjson; charset=UTF-8',
  CSV: 'text/csv; charset=UTF-8; header=absent',
  CSVWithNames: 'text/csv; charset=UTF-8; header=present',
  TabSeparated: 'text/tab-separated-values; charset=UTF-8',
};
/** URL parameters of the HTTP interface itself; every other one is a setting, or `param_…`. */
const OWN_PARAMETERS = new Set([
  'query', 'database', 'default_format', 'query_id', 'user', 'password', 'quota_key', 'stacktrace', 'role',
  'session_id', 'session_timeout', 'session_check', 'close_session', 'compress', 'decompress', 'buffer_size',
  'wait_end_of_query', 'client_protocol_version', 'enable_http_compression', 'http_zlib_compression_level',
]); // prettier-ignore

export interface ClickHouseHttpOptions {
  engine: ClickHouseEngine;
  spool: Spool;
  user: string;
  password: string;
}

/** ClickHouse's HTTP interface over the engine: the part of it that clients of the HTTP protocol use. */
export class ClickHouseHttp {
  readonly #uploads = new Gate(MAX_UPLOADS, MAX_WAITING_UPLOADS);

  constructor(private readonly options: ClickHouseHttpOptions) {}

  /** Answers one request; never throws. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const queryId = url.searchParams.get('query_id') || randomUUID();
    response.setHeader('X-ClickHouse-Query-Id', queryId);
    response.setHeader('X-ClickHouse-Server-Display-Name', 'remit-embedded');
    response.setHeader('X-ClickHouse-Timezone', 'UTC');
    try {
      await this.#route(request, response, url);
    } catch (error) {
      this.#fail(request, response, fromEngine(error));
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const probe = url.pathname === '/ping' || url.pathname === '/replicas_status';
    if (probe || (request.method === 'GET' && url.pathname === '/' && url.search === '')) {
      request.resume();
      response.writeHead(200, { 'Content-Type': 'text/html; charset=UTF-8' }).end('Ok.\n');
      return;
    }
    if (url.pathname !== '/')
      throw new ClickHouseException(1000, 'POCO_EXCEPTION', `There is no handle ${url.pathname}`, 404);
    if (request.method !== 'GET' && request.method !== 'POST') {
      throw new ClickHouseException(1000, 'POCO_EXCEPTION', `Method ${request.method} is not allowed`, 405);
    }
    this.#authenticate(request, url);
    const parameters = url.searchParams;
    refuseUnsupported(parameters);
    const { body, form } = await openBody(request);
    for (const [name, value] of form) parameters.set(name, value);
    const text = Buffer.from(parameters.get('query') ?? '', 'utf8');
    if (text.length === 0) return this.#runWhole(await readBounded(body), request, response, parameters);
    const statement = parseStatement(text.toString('latin1'));
    if (statement.kind === 'insert') {
      const inline = text.subarray(statement.dataStart);
      return this.#insert(statement, inline, body, request, response, parameters);
    }
    // As in ClickHouse, a statement may begin in the URL and go on in the body.
    const rest = await readBounded(body);
    return this.#runWhole(
      rest.length === 0 ? text : Buffer.concat([text, Buffer.from('\n'), rest]),
      request,
      response,
      parameters,
    );
  }

  async #runWhole(
    text: Buffer,
    request: IncomingMessage,
    response: ServerResponse,
    parameters: URLSearchParams,
  ): Promise<void> {
    const latin1 = text.toString('latin1');
    if (latin1.trim() === '') throw new ClickHouseException(62, 'SYNTAX_ERROR', 'Empty query.');
    const statement = parseStatement(latin1);
    if (statement.kind === 'insert') {
      const { Readable } = await import('node:stream');
      return this.#insert(
        statement,
        text.subarray(statement.dataStart),
        Readable.from([]),
        request,
        response,
        parameters,
      );
    }
    const sql = Buffer.from(statement.sql, 'latin1').toString('utf8');
    const result = await this.#execute(sql, request, parameters);
    const asked = /\bFORMAT\s+(\w+)\s*(?:SETTINGS\b[\s\S]*)?$/i.exec(sql)?.[1];
    await this.#answer(
      request,
      response,
      parameters,
      result,
      asked ?? defaultFormat(request, parameters),
      false,
    );
  }

  #insert(
    statement: Extract<Statement, { kind: 'insert' }>,
    inline: Buffer,
    body: Readable,
    request: IncomingMessage,
    response: ServerResponse,
    parameters: URLSearchParams,
  ): Promise<void> {
    return this.#uploads.run(() =>
      this.options.spool.withFile(inline, body, async (file) => {
        const latin1 = `${statement.head} FROM INFILE ${quoteString(file)} COMPRESSION 'none' ${statement.settings} FORMAT ${statement.format}`;
        const result = await this.#execute(
          Buffer.from(latin1, 'latin1').toString('utf8'),
          request,
          parameters,
        );
        await this.#answer(request, response, parameters, result, statement.format, true);
      }),
    );
  }

  #execute(sql: string, request: IncomingMessage, parameters: URLSearchParams): Promise<EngineResult> {
    const settings = new Map<string, string>();
    const bound = new Map<string, string>();
    for (const [name, value] of parameters) {
      if (name.startsWith('param_')) bound.set(name.slice('param_'.length), value);
      else if (!OWN_PARAMETERS.has(name)) settings.set(name, value);
    }
    const database = parameters.get('database') || header(request, 'x-clickhouse-database');
    return this.options.engine.run({
      sql,
      format: defaultFormat(request, parameters),
      database: database || undefined,
      settings,
      parameters: bound,
      readonly: request.method === 'GET',
    });
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    parameters: URLSearchParams,
    result: EngineResult,
    format: string,
    isInsert: boolean,
  ): Promise<void> {
    response.setHeader('X-ClickHouse-Format', format);
    response.setHeader('X-ClickHouse-Summary', summary(result, isInsert));
    response.setHeader('Content-Type', UTF8_FORMATS[format] ?? 'text/plain; charset=UTF-8');
    let body: Uint8Array = result.body;
    const accepts = header(request, 'accept-encoding').includes('gzip');
    if (accepts && parameters.get('enable_http_compression') === '1' && body.length > 0) {
      body = await gzipAsync(body, { level: 1 });
      response.setHeader('Content-Encoding', 'gzip');
    }
    response.writeHead(200, { 'Content-Length': body.length }).end(body);
  }

  #fail(request: IncomingMessage, response: ServerResponse, error: ClickHouseException): void {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const body = error.text(this.options.engine.version);
    response.setHeader('X-ClickHouse-Exception-Code', String(error.code));
    if (error.status === 401)
      response.setHeader('WWW-Authenticate', 'Basic realm="ClickHouse server HTTP API"');
    // A body that is not read to its end makes the connection useless for the next request.
    if (!request.complete) response.setHeader('Connection', 'close');
    request.resume();
    response.writeHead(error.status, {
      'Content-Type': 'text/plain; charset=UTF-8',
      'Content-Length': Buffer.byteLength(body),
    });
    response.end(body);
  }

  #authenticate(request: IncomingMessage, url: URL): void {
    const { user, password } = this.options;
    const given = credentials(request, url);
    if (given === undefined) {
      if (user === 'default' && password === '') return;
      throw new ClickHouseException(
        194,
        'REQUIRED_PASSWORD',
        `${user}: Authentication failed: password is required.`,
      );
    }
    const same = (a: string, b: string): boolean => timingSafeEqual(digest(a), digest(b));
    if (same(given.user, user) && same(given.password, password)) return;
    throw new ClickHouseException(
      516,
      'AUTHENTICATION_FAILED',
      `${given.user}: Authentication failed: password is incorrect, or there is no user with such name.`,
    );
  }
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

function header(request: IncomingMessage, name: string): string {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(',') : (value ?? '');
}

function credentials(request: IncomingMessage, url: URL): { user: string; password: string } | undefined {
  const authorization = header(request, 'authorization');
  if (/^basic /i.test(authorization)) {
    const text = Buffer.from(authorization.slice(6).trim(), 'base64').toString('utf8');
    const colon = text.indexOf(':');
    return colon < 0
      ? { user: text, password: '' }
      : { user: text.slice(0, colon), password: text.slice(colon + 1) };
  }
  if (authorization !== '')
    throw new ClickHouseException(516, 'AUTHENTICATION_FAILED', 'Only basic authentication is supported.');
  const user = header(request, 'x-clickhouse-user') || url.searchParams.get('user');
  const password = header(request, 'x-clickhouse-key') || url.searchParams.get('password');
  return user || password ? { user: user || 'default', password: password ?? '' } : undefined;
}

function refuseUnsupported(parameters: URLSearchParams): void {
  const refused = ['session_id', 'role'].find((name) => parameters.has(name));
  if (refused !== undefined)
    throw new ClickHouseException(48, 'NOT_IMPLEMENTED', `The embedded engine has no ${refused}.`);
  if (parameters.get('decompress') === '1' || parameters.get('compress') === '1') {
    throw new ClickHouseException(
      48,
      'NOT_IMPLEMENTED',
      "The embedded engine does not speak ClickHouse's own compression; use gzip.",
    );
  }
}

function defaultFormat(request: IncomingMessage, parameters: URLSearchParams): string {
  const name = parameters.get('default_format') || header(request, 'x-clickhouse-format') || 'TabSeparated';
  if (!/^\w+$/.test(name)) throw new ClickHouseException(73, 'UNKNOWN_FORMAT', `Unknown format ${name}.`);
  return name;
}

/** The body, decompressed; of a multipart form its fields, in which clients send long query parameters. */
async function openBody(request: IncomingMessage): Promise<{ body: Readable; form: Map<string, string> }> {
  const body = decompressed(request);
  const type = header(request, 'content-type');
  if (!/^multipart\/form-data/i.test(type)) return { body, form: new Map() };
  const bytes = await readBounded(body);
  const fields = new Map<string, string>();
  for (const [name, value] of await new Response(bytes, { headers: { 'content-type': type } }).formData()) {
    if (typeof value === 'string' && (name === 'query' || name.startsWith('param_'))) fields.set(name, value);
    else
      throw new ClickHouseException(
        48,
        'NOT_IMPLEMENTED',
        `The embedded engine takes no external data (${name}).`,
      );
  }
  const { Readable } = await import('node:stream');
  return { body: Readable.from([]), form: fields };
}

function decompressed(request: IncomingMessage): Readable {
  const encoding = header(request, 'content-encoding').trim().toLowerCase();
  const make = { gzip: createGunzip, deflate: createInflate, br: createBrotliDecompress }[encoding];
  if (encoding === '' || encoding === 'identity') return request;
  if (make === undefined) {
    throw new ClickHouseException(
      89,
      'UNKNOWN_COMPRESSION_METHOD',
      `Unknown HTTP compression method: ${encoding}.`,
      400,
    );
  }
  const decoder = make();
  request.once('error', (error) => decoder.destroy(error));
  decoder.once('error', () => request.unpipe(decoder));
  return request.pipe(decoder);
}

function readBounded(body: Readable): Promise<Buffer> {
  const limited = limitBytes(MAX_STATEMENT_BYTES);
  body.once('error', (error) => limited.destroy(error));
  limited.once('error', () => body.unpipe(limited));
  return buffer(body.pipe(limited));
}

/** The counters that the engine reports: of an INSERT what it wrote, of a query what it gave. */
function summary({ rows, bytes, elapsedNs }: EngineResult, isInsert: boolean): string {
  const counts = (value: number, applies: boolean): string => String(applies ? value : 0);
  return JSON.stringify({
    read_rows: String(rows),
    read_bytes: String(bytes),
    written_rows: counts(rows, isInsert),
    written_bytes: counts(bytes, isInsert),
    total_rows_to_read: '0',
    result_rows: String(rows),
    result_bytes: String(bytes),
    elapsed_ns: String(elapsedNs),
  });
}
