import http from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import type { WebhookClientSettings } from '../../src/webhooks/client';

/** Settings of the client with the defaults of configuration; loopback is allowed only where a test says so. */
export function clientSettings(changes: Partial<WebhookClientSettings> = {}): WebhookClientSettings {
  return {
    WEBHOOK_RESPONSE_MAX_BYTES: 16_384,
    WEBHOOK_CONNECT_TIMEOUT_MS: 2_000,
    WEBHOOK_DNS_TIMEOUT_MS: 2_000,
    WEBHOOK_DNS_TRIES: 4,
    WEBHOOK_RETRY_AFTER_MAX_MS: 24 * 3_600_000,
    WEBHOOK_ALLOWED_PRIVATE_CIDRS: [],
    WEBHOOK_CONNECTIONS_PER_ORIGIN: 8,
    WEBHOOK_ORIGINS_MAX: 100,
    ...changes,
  };
}

export const LOOPBACK = { WEBHOOK_ALLOWED_PRIVATE_CIDRS: ['127.0.0.1/32'] };

export interface Received {
  method: string;
  path: string;
  headers: http.IncomingHttpHeaders;
  body: string;
}

/** A subscriber's server on a free port: what it received, and how many connections it saw. */
export interface Subscriber {
  url: string;
  port: number;
  received: Received[];
  connections(): number;
  close(): Promise<void>;
}

/** Plays a subscriber. `answer` is called when a request has been read. */
export async function subscriber(
  answer: (response: http.ServerResponse, request: Received) => void,
  { host = '127.0.0.1', port = 0 }: { host?: string; port?: number } = {},
): Promise<Subscriber> {
  const received: Received[] = [];
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const seen = { method, path: url, headers, body: Buffer.concat(chunks).toString('utf8') };
      received.push(seen);
      answer(response, seen);
    });
  });
  return { received, ...(await listen(server, host, port)) };
}

/** Listens and counts connections; `close` cuts them. */
export async function listen(
  server: Server,
  host = '127.0.0.1',
  port = 0,
): Promise<Omit<Subscriber, 'received'>> {
  const sockets = new Set<{ destroy(): void }>();
  let connections = 0;
  server.on('connection', (socket) => {
    connections++;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  return {
    url: `http://${host}:${address.port}`,
    port: address.port,
    connections: () => connections,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
