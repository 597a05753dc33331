import { isIPv6, type LookupFunction } from 'node:net';
import { buildConnector, Pool, type Dispatcher } from 'undici';
import type { AttemptOutcome } from '../contracts/webhooks';
import { AddressRules, literalAddress } from './addresses';
import type { Config } from './config';
import { VERSION } from './project';
import { createResolver, type ResolveAll, type ResolverSettings } from './webhook-dns';

export interface WebhookRequest {
  /** http or https. */
  url: string;
  headers: Record<string, string>;
  /** JSON, sent as it is. */
  body: string;
  /** Longest time from the call to the last byte of the answer. */
  timeoutMs: number;
}

export interface WebhookResponse {
  result: AttemptOutcome;
  /** Null when there was no answer. */
  statusCode: number | null;
  durationMs: number;
  /** Why it failed, fit for the subscriber's eyes: no resolved address, no stack. Null when delivered. */
  error: string | null;
  /** Cut to WEBHOOK_RESPONSE_MAX_BYTES of valid UTF-8 without NUL; null when there was no answer. */
  responseBody: string | null;
  /** The answer's Retry-After, at most WEBHOOK_RETRY_AFTER_MAX_MS; null when it has none. */
  retryAfterMs: number | null;
}

export interface WebhookClient {
  /**
   * Posts a webhook once. A subscriber's failure of any kind is a result.
   * @throws what is wrong on our side: no sockets or memory left, a defect in the request, the client closed.
   */
  postWebhook(request: WebhookRequest): Promise<WebhookResponse>;
  /** Waits for requests in flight, then closes every connection. Idempotent. */
  close(): Promise<void>;
}

export type WebhookClientSettings = ResolverSettings &
  Pick<
    Config,
    | 'WEBHOOK_RESPONSE_MAX_BYTES'
    | 'WEBHOOK_CONNECT_TIMEOUT_MS'
    | 'WEBHOOK_RETRY_AFTER_MAX_MS'
    | 'WEBHOOK_ALLOWED_PRIVATE_CIDRS'
    | 'WEBHOOK_CONNECTIONS_PER_ORIGIN'
    | 'WEBHOOK_ORIGINS_MAX'
  >;

class RefusedAddressError extends Error {
  constructor() {
    super('the address is private, reserved or otherwise not reachable for webhooks');
  }
}

/**
 * An HTTP client for URLs that strangers chose. Which address may be dialled is decided when it is dialled, in three
 * places: a literal address, every address that the name resolves to, and the peer of the connected socket. Redirects
 * are not followed, answers are cut, proxies from the environment are not used.
 */
export function createWebhookClient(
  config: WebhookClientSettings,
  { resolve = createResolver(config) }: { resolve?: ResolveAll } = {},
): WebhookClient {
  const rules = new AddressRules(config.WEBHOOK_ALLOWED_PRIVATE_CIDRS);
  const pools = new OriginPools(config.WEBHOOK_ORIGINS_MAX, {
    connections: config.WEBHOOK_CONNECTIONS_PER_ORIGIN,
    connect: guardedConnector(rules, config.WEBHOOK_CONNECT_TIMEOUT_MS, resolve),
    // One timer over the whole attempt (timeoutMs) takes the place of these two.
    headersTimeout: 0,
    bodyTimeout: 0,
  });

  return {
    async postWebhook({ url, headers, body, timeoutMs }) {
      const startedAt = performance.now();
      const overall = new AbortController();
      const timer = setTimeout(() => overall.abort(), timeoutMs);
      const { origin, pathname, search } = new URL(url);
      try {
        const answer = await pools.of(origin).request({
          path: pathname + search,
          method: 'POST',
          headers: { 'user-agent': `remit/${VERSION}`, 'content-type': 'application/json', ...headers },
          body,
          signal: overall.signal,
        });
        const responseBody = await readText(answer.body, config.WEBHOOK_RESPONSE_MAX_BYTES);
        return {
          ...verdictOf(answer.statusCode),
          statusCode: answer.statusCode,
          durationMs: Math.round(performance.now() - startedAt),
          responseBody,
          retryAfterMs: parseRetryAfter(
            answer.headers['retry-after'],
            Date.now(),
            config.WEBHOOK_RETRY_AFTER_MAX_MS,
          ),
        };
      } catch (error) {
        return {
          ...failureOf(error, overall.signal.aborted, timeoutMs),
          statusCode: null,
          durationMs: Math.round(performance.now() - startedAt),
          responseBody: null,
          retryAfterMs: null,
        };
      } finally {
        clearTimeout(timer);
      }
    },
    close: () => pools.close(),
  };
}

/** A connection pool an origin; the least recently used is closed when there are too many. */
class OriginPools {
  private readonly pools = new Map<string, Pool>();

  constructor(
    private readonly maxOrigins: number,
    private readonly options: Pool.Options,
  ) {}

  of(origin: string): Pool {
    let pool = this.pools.get(origin);
    if (pool) this.pools.delete(origin);
    else pool = new Pool(origin, this.options);
    this.pools.set(origin, pool); // last in the map's order is the most recently used
    const [oldest] = this.pools;
    if (this.pools.size > this.maxOrigins && oldest) {
      this.pools.delete(oldest[0]);
      // Finishes what is in flight; nobody waits for that.
      oldest[1].close().catch(() => undefined);
    }
    return pool;
  }

  async close(): Promise<void> {
    const pools = [...this.pools.values()];
    this.pools.clear();
    await Promise.all(pools.map((pool) => pool.close()));
  }
}

function guardedConnector(
  rules: AddressRules,
  timeoutMs: number,
  resolve: ResolveAll,
): buildConnector.connector {
  const connect = buildConnector({ timeout: timeoutMs, lookup: guardedLookup(rules, resolve) });
  return (options, callback) => {
    const literal = literalAddress(options.hostname);
    if (literal !== undefined && !rules.allows(literal)) return callback(new RefusedAddressError(), null);
    return connect(options, (...[error, socket]) => {
      if (error !== null) return callback(error, null);
      if (!rules.allows(socket.remoteAddress ?? '')) {
        socket.destroy();
        return callback(new RefusedAddressError(), null);
      }
      return callback(null, socket);
    });
  };
}

/** One refused address among a name's addresses refuses the name: nobody mixes them by accident. */
function guardedLookup(rules: AddressRules, resolve: ResolveAll): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      const first = addresses?.[0];
      if (error) callback(error, '', 0);
      else if (!first || addresses.some(({ address }) => !rules.allows(address)))
        callback(new RefusedAddressError(), '', 0);
      else if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}

function verdictOf(statusCode: number): Pick<WebhookResponse, 'result' | 'error'> {
  if (statusCode >= 200 && statusCode < 300) return { result: 'delivered', error: null };
  if (statusCode >= 300 && statusCode < 400)
    return { result: 'http_error', error: `HTTP ${statusCode}: redirects are not followed` };
  return { result: 'http_error', error: `HTTP ${statusCode}` };
}

/** Conditions of this process, not of the subscriber: thrown, so that they use up none of its attempts. */
const OUR_FAULTS = new Set([
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'UND_ERR_INVALID_ARG',
  'UND_ERR_CLOSED',
  'UND_ERR_DESTROYED',
]);
const TLS_FAULT =
  /^(ERR_TLS_|ERR_SSL_|EPROTO$|CERT_|CRL_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH)/;

/** Whether a connection failed for want of something of ours: of several addresses, for each of them. */
function isOurFault(error: unknown): boolean {
  const {
    code = '',
    address,
    errors,
  } = error as NodeJS.ErrnoException & {
    address?: string;
    errors?: unknown;
  };
  if (Array.isArray(errors) && errors.length > 0) return errors.every(isOurFault);
  // No local port is left. For IPv6 it says that this host has none, which a retry does not change: as ENETUNREACH.
  if (code === 'EADDRNOTAVAIL') return !isIPv6(address ?? '');
  return OUR_FAULTS.has(code);
}

function failureOf(
  error: unknown,
  outOfTime: boolean,
  timeoutMs: number,
): Pick<WebhookResponse, 'result' | 'error'> {
  if (outOfTime) return { result: 'timeout', error: `no answer within ${timeoutMs} ms` };
  if (error instanceof RefusedAddressError) return { result: 'refused_address', error: error.message };
  const { code = 'unknown', syscall } = error as NodeJS.ErrnoException;
  if (isOurFault(error)) throw error;
  if (code === 'UND_ERR_CONNECT_TIMEOUT') return { result: 'timeout', error: 'no connection in time' };
  if (syscall === 'getaddrinfo' || syscall?.startsWith('query'))
    return { result: 'dns_error', error: `the host name can not be resolved: ${code}` };
  if (TLS_FAULT.test(code)) return { result: 'tls_error', error: `no TLS connection: ${code}` };
  return { result: 'network_error', error: `the connection failed: ${code}` };
}

/**
 * Reads at most `maxBytes` of an answer; of a longer one the connection is dropped. The status line has decided
 * already, so an answer that breaks off or is late counts as far as it came.
 */
async function readText(body: Dispatcher.ResponseData['body'], maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > maxBytes) break;
    }
  } catch {
    // Aborted by the overall timer, or the subscriber hung up.
  }
  return storableText(Buffer.concat(chunks), maxBytes);
}

/** Bytes as text that PostgreSQL stores: valid UTF-8 without NUL, at most `maxBytes`, cut between characters. */
export function storableText(bytes: Uint8Array, maxBytes: number): string {
  const text = decodeUpTo(bytes, maxBytes).replaceAll('\0', '\uFFFD');
  // Each replacement character takes three bytes, so the text may have grown.
  const replaced = Buffer.from(text);
  return replaced.length > maxBytes ? decodeUpTo(replaced, maxBytes) : text;
}

function decodeUpTo(bytes: Uint8Array, maxBytes: number): string {
  const cut = bytes.length > maxBytes;
  // With `stream`, a character that the cut left incomplete is held back instead of replaced.
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(0, maxBytes), { stream: cut });
}

const HTTP_DATE = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? [\w -]+ \d{2}:\d{2}:\d{2}( GMT| \d{4})$/;

/**
 * Milliseconds that a Retry-After header (seconds or an HTTP date, RFC 9110 §10.2.3) asks to wait, between 0 and
 * `maxMs`; null when there is none or it says nothing.
 */
export function parseRetryAfter(
  header: string | string[] | undefined,
  nowMs: number,
  maxMs: number,
): number | null {
  const value = (Array.isArray(header) ? header[0] : header)?.trim() ?? '';
  const waitMs = /^\d+$/.test(value)
    ? Number(value) * 1_000
    : HTTP_DATE.test(value)
      ? Date.parse(value.endsWith('GMT') ? value : `${value} GMT`) - nowMs
      : NaN;
  return Number.isNaN(waitMs) ? null : Math.min(Math.max(0, waitMs), maxMs);
}
