import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { once } from 'node:events';
import { Webhook } from 'standardwebhooks';
import { printable } from '../platform/terminal';
import { exchange } from '../webhooks/exchange';
import { callApi, type ApiAccess, type ApiOptions } from './api-call';
import { localAccess } from './local-access';
import { mintToken } from './token';
import { untilStopped } from './until-stopped';

export interface ListenOptions extends ApiAccess {
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

/**
 * Subscribes, prints every webhook that comes with whether its signature is valid, hands valid ones on and answers as
 * the forward target does, until the signal; then deletes the subscription.
 * @throws Error with the API's answer when it does not take the subscription, or when the port is in use.
 */
export async function listen(options: ListenOptions): Promise<void> {
  const { say, signal } = options;
  let verifier: ((webhook: Webhook) => void) | undefined;
  // A webhook may be faster than the answer that has its secret.
  const verifying = new Promise<Webhook>((resolve) => (verifier = resolve));
  const server = http.createServer((incoming, response) => {
    void receive(options, verifying, incoming)
      .then((status) => response.writeHead(status).end())
      .catch((error: unknown) => {
        say(`  not forwarded, answered 502, so that it is sent again: ${reasonOf(error)}`);
        response.writeHead(502).end();
      });
  });
  await listening(server, options.port);
  const url = options.publicUrl ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  let subscription: string | undefined;
  try {
    const created = await callApi(options, 'POST', '/api/v1/subscriptions', {
      url,
      eventTypes: options.events,
      description: 'remit listen',
    });
    subscription = String(created['id']);
    verifier?.(new Webhook(String(created['secret'])));
    say(
      `listening at ${url} as ${subscription} for ${options.events.join(', ')}; Ctrl-C ends and unsubscribes`,
    );
    if (!signal.aborted) await once(signal, 'abort');
  } finally {
    if (subscription !== undefined) await unsubscribe(options, subscription);
    server.closeAllConnections();
    server.close();
  }
}

async function listening(server: http.Server, port: number): Promise<void> {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening').catch((error: unknown) => {
    throw new Error(`can't listen on port ${port} (${reasonOf(error)}): choose another --port`, {
      cause: error,
    });
  });
}

async function unsubscribe(options: ListenOptions, id: string): Promise<void> {
  const path = `/api/v1/subscriptions/${id}`;
  try {
    await callApi(options, 'DELETE', path);
    options.say(`unsubscribed ${id}`);
  } catch (error) {
    throw new Error(`${id} is still subscribed (${reasonOf(error)}): delete it with DELETE ${path}`, {
      cause: error,
    });
  }
}

/** @returns the status to answer. */
async function receive(
  { say, forward }: ListenOptions,
  verifying: Promise<Webhook>,
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
  const id = printable(headers['webhook-id'] || '(no webhook-id)');
  try {
    (await verifying).verify(body, headers);
  } catch (error) {
    say(`✗ ${id}  ${reasonOf(error)}; answered 401`);
    return 401;
  }
  say(`✓ ${id}  ${printable(body)}`);
  if (forward === undefined) return 204;
  const answer = await exchange(new URL(forward), {
    headers: { 'content-type': 'application/json', ...headers },
    body,
    maxBodyBytes: BODY_MAX_BYTES,
    deadline: AbortSignal.timeout(FORWARD_TIMEOUT_MS),
  });
  if ('error' in answer) throw answer.error;
  const { statusCode } = answer;
  say(
    `  ${forward} answered ${statusCode}` +
      (statusCode === 410 ? ': a subscription that answers 410 is disabled, nothing more will come' : ''),
  );
  return statusCode;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const LISTEN_TOKEN_S = 300;

export interface ListenCommand extends ApiOptions {
  events: string[];
  forward?: string;
  port: number;
  publicUrl?: string;
}

/** `remit listen`: until SIGINT or SIGTERM. */
export async function runListen(
  dataDir: string,
  command: ListenCommand,
  say: (line: string) => void,
): Promise<void> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const api = command.url ?? endpoints.api;
  if (!api) throw new Error('no API is known: start remit first (npm start), or name it with --url');
  const given = command.token;
  const token = () =>
    given === undefined
      ? mintToken(config, { subject: 'listen', scopes: ['read', 'write'], expiresInS: LISTEN_TOKEN_S })
      : Promise.resolve(given);
  const { events, forward, port, publicUrl } = command;
  await listen({ api, token, events, forward, port, publicUrl, say, signal: untilStopped() });
}
