import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { Webhook } from 'standardwebhooks';
import { request } from 'undici';

export interface ListenOptions {
  /** Base URL of the API. */
  api: string;
  token: string;
  /** What to subscribe to. */
  events: string[];
  /** Where verified webhooks are handed on to; nowhere when left out. */
  forward?: string | undefined;
  /** Port on 127.0.0.1; 0 takes a free one. */
  port: number;
  /** The URL that remit reaches the listener at, when it is not this machine. */
  publicUrl?: string | undefined;
  say: (line: string) => void;
  /** Ends the listening. */
  signal: AbortSignal;
}

const BODY_MAX_BYTES = 1_048_576;
const FORWARD_TIMEOUT_MS = 14_000;
const API_TIMEOUT_MS = 15_000;

/**
 * Subscribes, prints every webhook that comes with whether its signature is valid, hands valid ones on and answers as
 * the forward target does, until the signal; then deletes the subscription.
 * @throws Error with the API's answer when it does not take the subscription.
 */
export async function listen(options: ListenOptions): Promise<void> {
  const { say, signal } = options;
  let secret = '';
  const server = http.createServer((incoming, response) => {
    void receive(options, () => secret, incoming)
      .then((status) => response.writeHead(status).end())
      .catch((error: unknown) => {
        say(`  not handed on: ${String(error)}`);
        response.writeHead(502).end();
      });
  });
  server.listen(options.port, '127.0.0.1');
  await once(server, 'listening');
  const url = options.publicUrl ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  let subscription: string | undefined;
  try {
    const created = await callApi(options, 'POST', '/api/v1/subscriptions', {
      url,
      eventTypes: options.events,
      description: 'remit listen',
    });
    subscription = String(created['id']);
    secret = String(created['secret']);
    say(
      `listening at ${url} as ${subscription} for ${options.events.join(', ')}; Ctrl-C ends and unsubscribes`,
    );
    if (!signal.aborted) await once(signal, 'abort');
  } finally {
    if (subscription !== undefined) {
      await callApi(options, 'DELETE', `/api/v1/subscriptions/${subscription}`);
      say(`unsubscribed ${subscription}`);
    }
    server.closeAllConnections();
    server.close();
  }
}

/** @returns the status to answer. */
async function receive(
  { say, forward }: ListenOptions,
  secret: () => string,
  incoming: http.IncomingMessage,
): Promise<number> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_MAX_BYTES) return 413;
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks).toString('utf8');
  const headers = Object.fromEntries(
    ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((name) => [
      name,
      String(incoming.headers[name] ?? ''),
    ]),
  );
  try {
    new Webhook(secret()).verify(body, headers);
  } catch (error) {
    say(`✗ ${headers['webhook-id']}  ${error instanceof Error ? error.message : String(error)}`);
    return 401;
  }
  say(`✓ ${headers['webhook-id']}  ${body}`);
  if (forward === undefined) return 204;
  const answer = await request(forward, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
    signal: AbortSignal.timeout(FORWARD_TIMEOUT_MS),
  });
  await answer.body.dump();
  say(`  ${forward} answered ${answer.statusCode}`);
  return answer.statusCode;
}

/** @throws Error with the problem that the API answers. */
export async function callApi(
  { api, token }: Pick<ListenOptions, 'api' | 'token'>,
  method: 'POST' | 'DELETE',
  path: string,
  body?: object,
): Promise<Record<string, unknown>> {
  const answer = await request(new URL(path, api), {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(API_TIMEOUT_MS),
  });
  const text = await answer.body.text();
  if (answer.statusCode >= 300)
    throw new Error(`${method} ${path} was answered ${answer.statusCode}: ${text}`);
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
}
