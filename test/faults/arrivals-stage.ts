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
  /** Requests that it answered with an error, or not at all. */
  refused: number;
}

/** What a subscriber answers to a request for an event: 204, an error, or nothing at all. */
export type Answer = number | 'hangs';

export interface Part {
  name: string;
  /** It was promised the order of publication. */
  ordered?: boolean;
  /** @param first whether the event has not been asked of it before. 204 to everything when left out. */
  answer?: (number: number, first: boolean) => Answer;
}

interface Played extends Part {
  verify: (body: string, headers: Record<string, string>) => unknown;
  /** By the number that the event carries. */
  arrivals: Map<number, Arrival>;
  /** The first event that it has not accepted. */
  next: number;
  /** Events that came while one before them was not accepted yet. */
  early: number[];
}

const BODY_MAX_BYTES = 65_536;

/** Several subscribers behind one server, told apart by their path; they verify, count, and some now and then fail. */
export class PlayedSubscribers {
  private readonly played = new Map<string, Played>();
  /** Requests whose signature was wrong, or that nobody had sent. */
  strangers = 0;
  /** When a webhook was accepted that its subscriber had accepted before. */
  readonly repeated: number[] = [];
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
      const answer = this.receive(request.url ?? '', Buffer.concat(chunks).toString(), headers);
      if (answer !== 'hangs') response.writeHead(answer).end();
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
  add(part: Part, secret: string): void {
    const verifier = this.played.size % 2 === 0 ? new Webhook(secret) : new SvixWebhook(secret);
    this.played.set(`/${part.name}`, {
      ...part,
      verify: (body, headers) => verifier.verify(body, headers),
      arrivals: new Map(),
      next: 0,
      early: [],
    });
  }

  arrivals(name: string): Map<number, Arrival> {
    return this.played.get(`/${name}`)!.arrivals;
  }

  /** Events that an ordered subscriber was sent before it had accepted all that were published before them. */
  early(name: string): number[] {
    return this.played.get(`/${name}`)!.early;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private receive(path: string, body: string, headers: Record<string, string>): Answer {
    const played = this.played.get(path);
    const id = headers['webhook-id'];
    try {
      if (!played || id === undefined) throw new Error('nobody subscribed here');
      played.verify(body, headers);
    } catch {
      this.strangers += 1;
      return 401;
    }
    const { number } = (JSON.parse(body) as { data: { number: number } }).data;
    const first = !played.arrivals.has(number);
    const arrival = played.arrivals.get(number) ?? { ids: new Set(), accepted: 0, refused: 0 };
    played.arrivals.set(number, arrival);
    arrival.ids.add(id);
    // A repetition is allowed, after a kill; what must not be is that one comes before its turn.
    if (played.ordered && number > played.next) played.early.push(number);
    const answer = played.answer?.(number, first) ?? 204;
    if (answer !== 204) {
      arrival.refused += 1;
      return answer;
    }
    arrival.accepted += 1;
    if (arrival.accepted === 1) this.arrived += 1;
    else this.repeated.push(Date.now());
    while (played.arrivals.get(played.next)?.accepted) played.next += 1;
    return answer;
  }
}
