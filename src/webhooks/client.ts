import { isIPv6 } from 'node:net';
import type { AttemptOutcome } from '../contracts/webhooks';
import { AddressRules, literalAddress } from './addresses';
import type { Config } from '../platform/config';
import { VERSION } from '../platform/project';
import { ConnectTimeoutError, RefusedAddressError, WebhookAgents } from './agents';
import { createResolver, type ResolveAll, type ResolverSettings } from './dns';
import { exchange } from './exchange';
import { storableText } from './storable-text';

/** Who we say that we are. */
export const USER_AGENT = `remit/${VERSION}`;

export interface WebhookRequest {
  /** http or https. */
  url: string;
  headers: Record<string, string>;
  /** JSON, sent as it is. */
  body: string;
  /** Longest time from the call to the last byte of the answer: DNS, connection, TLS, headers and body together. */
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
  /** Each header's values, names in lower case, unmasked; null when there was no answer whose headers could be read. */
  responseHeaders: NodeJS.Dict<string[]> | null;
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
  const agents = new WebhookAgents({
    rules,
    resolve,
    connectTimeoutMs: config.WEBHOOK_CONNECT_TIMEOUT_MS,
    connectionsPerOrigin: config.WEBHOOK_CONNECTIONS_PER_ORIGIN,
    originsMax: config.WEBHOOK_ORIGINS_MAX,
  });
  const inFlight = new Set<Promise<unknown>>();
  let closed = false;

  const attempt = async (url: URL, request: WebhookRequest, deadline: AbortSignal) => {
    const literal = literalAddress(url.hostname);
    if (literal !== undefined && !rules.allows(literal))
      return { error: new RefusedAddressError(), reusedConnection: false };
    const input = {
      headers: { 'user-agent': USER_AGENT, 'content-type': 'application/json', ...request.headers },
      body: request.body,
      maxBodyBytes: config.WEBHOOK_RESPONSE_MAX_BYTES,
      deadline,
    };
    const answer = await exchange(url, { ...input, agent: agents.keepingAlive(url) });
    // A subscriber that closes an idle connection while a request is under way on it has most likely not read it. Under
    // one webhook-id a request may be repeated (RFC 9110 §9.2.2), so this is no failure yet: once more, on a new one.
    if ('error' in answer && answer.reusedConnection && !deadline.aborted)
      return exchange(url, { ...input, agent: agents.fresh(url) });
    return answer;
  };

  const postWebhook = async (request: WebhookRequest): Promise<WebhookResponse> => {
    const startedAt = performance.now();
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), request.timeoutMs);
    try {
      const answer = await attempt(new URL(request.url), request, deadline.signal);
      const durationMs = Math.round(performance.now() - startedAt);
      if ('error' in answer)
        return {
          ...failureOf(answer.error, deadline.signal.aborted, request.timeoutMs),
          ...{ statusCode: null, durationMs, responseBody: null, responseHeaders: null, retryAfterMs: null },
        };
      const { statusCode, body, headers } = answer;
      return {
        ...verdictOf(statusCode),
        statusCode,
        durationMs,
        responseBody: storableText(body, config.WEBHOOK_RESPONSE_MAX_BYTES),
        responseHeaders: headers ?? null,
        retryAfterMs: parseRetryAfter(
          headers?.['retry-after'],
          Date.now(),
          config.WEBHOOK_RETRY_AFTER_MAX_MS,
        ),
      };
    } finally {
      clearTimeout(timer);
    }
  };

  return {
    async postWebhook(request) {
      if (closed) throw new Error('the webhook client is closed');
      const posted = postWebhook(request);
      inFlight.add(posted);
      try {
        return await posted;
      } finally {
        inFlight.delete(posted);
      }
    },
    async close() {
      closed = true;
      await Promise.allSettled(inFlight);
      agents.close();
    },
  };
}

function verdictOf(statusCode: number): Pick<WebhookResponse, 'result' | 'error'> {
  if (statusCode >= 200 && statusCode < 300) return { result: 'delivered', error: null };
  if (statusCode >= 300 && statusCode < 400)
    return { result: 'http_error', error: `HTTP ${statusCode}: redirects are not followed` };
  return { result: 'http_error', error: `HTTP ${statusCode}` };
}

/** Conditions of this process, not of the subscriber: thrown, so that they use up none of its attempts. */
const OUR_FAULTS = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM']);
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
  if (error instanceof ConnectTimeoutError) return { result: 'timeout', error: 'no connection in time' };
  if (syscall === 'getaddrinfo' || syscall?.startsWith('query'))
    return { result: 'dns_error', error: `the host name can not be resolved: ${code}` };
  if (TLS_FAULT.test(code)) return { result: 'tls_error', error: `no TLS connection: ${code}` };
  if (code.startsWith('HPE_') || code === 'HEAD_TOO_LONG')
    return { result: 'network_error', error: `the answer is not HTTP/1.1: ${code}` };
  return { result: 'network_error', error: `the connection failed: ${code}` };
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
