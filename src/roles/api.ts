import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { createApp } from '../api/app';
import { problemDocument } from '../api/problem';
import { providerEndpoints } from '../api/routes/provider-webhooks';
import type { ProblemCode } from '../contracts/errors';
import type { Config } from '../platform/config';
import { kafkaReadiness } from '../platform/kafka';
import type { Lifecycle } from '../platform/lifecycle';
import type { Logger } from '../platform/logging';
import { createKeyring } from '../platform/secrets';
import type { RoleContext } from './context';

/** Longer than the idle timeout of common load balancers (60 s), so that they, not we, close idle connections. */
const KEEP_ALIVE_MS = 65_000;
const CONNECTIONS_CHECK_MS = 2_000;
const DRAIN_POLL_MS = 50;

/**
 * Starts the API: connects the producer, then opens the port. Stops in order: no new connections in `intake`, requests
 * in flight are answered in `drain`.
 * @throws ConfigError when configuration that only the API needs is missing; whatever keeps it from Kafka or its port.
 * @returns the URL it listens on.
 */
export async function startApi(context: RoleContext): Promise<{ url: string }> {
  const { config, log, lifecycle } = context;
  // Before anything connects: a configuration mistake must not hide behind an unreachable broker.
  providerEndpoints(config);
  const keyring = createKeyring(config);
  await context.temporal();
  warnOfOpenDoors(config, log);

  const database = context.database();
  const producer = await context.producer();
  lifecycle.addCheck('postgres', () => database.check());
  lifecycle.addCheck('postgres money pool', () => database.checkMoney());
  lifecycle.addCheck('kafka', kafkaReadiness(context.kafka, lifecycle));

  const temporal = () => context.temporal();
  const app = createApp({
    config,
    log,
    database,
    producer,
    kafka: context.kafka,
    temporal,
    keyring,
    lifecycle,
  });
  const server = http.createServer(
    {
      requestTimeout: config.API_REQUEST_TIMEOUT_MS + CONNECTIONS_CHECK_MS,
      headersTimeout: Math.min(config.API_REQUEST_TIMEOUT_MS, 20_000),
      connectionsCheckingInterval: CONNECTIONS_CHECK_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      noDelay: true,
    },
    app,
  );
  // Whoever does not take an answer holds a place among the requests at work; the heartbeats of a stream are taken in time.
  server.setTimeout(2 * config.API_REQUEST_TIMEOUT_MS);
  server.on('clientError', answerUnreadable);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.API_PORT, config.API_HOST, resolve);
  });
  // A connection that can't be accepted (no file descriptors left) is no reason to end those that are open.
  server.on('error', (error) => log.error({ err: error }, 'a connection could not be accepted'));
  registerStop(server, lifecycle);

  const { port, family } = server.address() as AddressInfo;
  const url = `http://${family === 'IPv6' ? `[${config.API_HOST}]` : config.API_HOST}:${port}`;
  log.info({ url }, 'the API listens');
  return { url };
}

/** What is legal to configure but rarely meant in production is said once, at the start. */
function warnOfOpenDoors(config: Config, log: Logger): void {
  if (!config.AUTH_JWT_SECRET && !config.AUTH_JWKS_URL)
    log.warn('neither AUTH_JWT_SECRET nor AUTH_JWKS_URL is set: every request below /api/v1 is answered 401');
  if (config.AUTH_JWKS_URL && !config.AUTH_ISSUER)
    log.warn('AUTH_ISSUER is not set: tokens of every issuer whose keys are in AUTH_JWKS_URL are accepted');
  if (config.TRUST_USER_ID_HEADER)
    log.warn('TRUST_USER_ID_HEADER=true: anyone who reaches this port can act as any user');
  if (!config.PROVIDER_SIGNATURES_REQUIRED)
    log.warn('PROVIDER_SIGNATURES_REQUIRED=false: unsigned provider webhooks are accepted');
}

/** `intake` stops accepting; `drain` waits for the answers, closing each connection as it falls idle. */
function registerStop(server: http.Server, lifecycle: Lifecycle): void {
  let closed: Promise<void> | undefined;
  server.on('request', (_request, response: http.ServerResponse) => {
    if (closed && !response.headersSent) response.setHeader('Connection', 'close');
  });
  lifecycle.onStop('intake', 'api port', () => {
    closed = new Promise((resolve) => server.close(() => resolve()));
  });
  lifecycle.onStop('drain', 'api requests', async () => {
    const closeIdle = setInterval(() => server.closeIdleConnections(), DRAIN_POLL_MS);
    try {
      await closed;
    } finally {
      clearInterval(closeIdle);
    }
  });
}

const UNREADABLE: Record<string, { status: string; detail: string }> = {
  HPE_HEADER_OVERFLOW: {
    status: '431 Request Header Fields Too Large',
    detail: 'The headers are too large.',
  },
  ERR_HTTP_REQUEST_TIMEOUT: { status: '408 Request Timeout', detail: 'The request did not arrive in time.' },
};

/** What is no HTTP never reaches Express; it too gets a problem document, and its connection is closed. */
function answerUnreadable(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const { status, detail } = UNREADABLE[error.code ?? ''] ?? {
    status: '400 Bad Request',
    detail: 'The request is not valid HTTP.',
  };
  const code: ProblemCode = status.startsWith('408') ? 'request_timeout' : 'invalid_request';
  const found = { code, detail, errors: [], unexpected: false };
  const body = JSON.stringify({ ...problemDocument(found, '', ''), status: Number(status.slice(0, 3)) });
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
