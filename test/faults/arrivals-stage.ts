import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';

/** What a subscriber saw of one event. */
export interface Arrival {
  /** Every webhook-id that it came under: exactly one, or the subscriber could not know a repetition. */
  ids: Set<string>;
  /** Requests that the subscriber accepted. */
  accepted: number;
  /** Requests that it answered with an error. */
  refused: number;
}

interface Played {
  verify: (body: string, headers: Record<string, string>) => unknown;
  /** By the number that the event carries. */
  arrivals: Map<number, Arrival>;
  /** Of events that it sees for the first time, each so many-th is answered 500; 0 for none. */
  refusesEach: number;
}

const BODY_MAX_BYTES = 65_536;

/** Several subscribers behind one server, told apart by their path; they verify, count, and now and then fail. */
export class PlayedSubscribers {
  private readonly played = new Map<string, Played>();
  /** Requests whose signature was wrong, or that nobody had sent. */
  strangers = 0;
  /** Pairs of subscriber and event that were accepted at least once. */
  arrived = 0;
  private readonly server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= BODY_MAX_BYTES) chunks.push(chunk);
    });
    request.on('end', () => {
      const headers = request.headers as Record<string, string>;
      response.writeHead(this.receive(request.url ?? '', Buffer.concat(chunks).toString(), headers)).end();
    });
  });

  /** @param host the address of this machine at which remit reaches them */
  constructor(private readonly host = '127.0.0.1') {}

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(0, this.host, resolve));
  }

  url(name: string): string {
    return `http://${this.host}:${(this.server.address() as AddressInfo).port}/${name}`;
  }

  /** Begins to know a subscriber; every second one verifies with the other package that there is. */
  add(name: string, secret: string, refusesEach = 0): void {
    const verifier = this.played.size % 2 === 0 ? new Webhook(secret) : new SvixWebhook(secret);
    this.played.set(`/${name}`, {
      verify: (body, headers) => verifier.verify(body, headers),
      arrivals: new Map(),
      refusesEach,
    });
  }

  arrivals(name: string): Map<number, Arrival> {
    return this.played.get(`/${name}`)!.arrivals;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  /** @returns the status to answer. */
  private receive(path: string, body: string, headers: Record<string, string>): number {
    const played = this.played.get(path);
    const id = headers['webhook-id'];
    try {
      if (!played || id === undefined) throw new Error('nobody subscribed here');
      played.verify(body, headers);
    } catch {
      this.strangers += 1;
      return 401;
    }
    const { data } = JSON.parse(body) as { data: { number: number } };
    const first = !played.arrivals.has(data.number);
    const arrival = played.arrivals.get(data.number) ?? { ids: new Set(), accepted: 0, refused: 0 };
    played.arrivals.set(data.number, arrival);
    arrival.ids.add(id);
    if (first && played.refusesEach > 0 && data.number % played.refusesEach === 0) {
      arrival.refused += 1;
      return 500;
    }
    arrival.accepted += 1;
    if (arrival.accepted === 1) this.arrived += 1;
    return 204;
  }
}
