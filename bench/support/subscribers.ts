import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const HANG_MS = 15_000;
const POLL_MS = 5;

/** Plays subscribers: what came to those that answer, and when; one that hangs and one that refuses. */
export class Subscribers {
  /** Of those that answer 204. */
  readonly arrivals: { id: string; at: number }[] = [];
  private readonly servers: http.Server[] = [];

  get received(): number {
    return this.arrivals.length;
  }

  /** URLs of subscribers that answer at once, on one server. */
  async urls(count: number): Promise<string[]> {
    const origin = await this.listen((request, response) => {
      this.arrivals.push({ id: String(request.headers['webhook-id']), at: Date.now() });
      request.resume();
      request.on('end', () => response.writeHead(204).end());
    });
    return Array.from({ length: count }, (_, index) => `${origin}/${index}`);
  }

  /** The URL of one that answers nothing for 15 s, on a server of its own. */
  hanging(): Promise<string> {
    return this.listen((request, response) => {
      request.resume();
      setTimeout(() => response.writeHead(204).end(), HANG_MS + 1_000).unref();
    });
  }

  /** The URL of one that answers 503. */
  refusing(): Promise<string> {
    return this.listen((request, response) => {
      request.resume();
      request.on('end', () => response.writeHead(503).end());
    });
  }

  /** Resolves when so many webhooks have arrived. @throws when they have not in time. */
  async receives(count: number, withinMs: number): Promise<void> {
    const deadline = Date.now() + withinMs;
    while (this.received < count) {
      if (Date.now() > deadline)
        throw new Error(`${this.received} of ${count} webhooks arrived within ${withinMs} ms`);
      await sleep(POLL_MS);
    }
  }

  close(): void {
    for (const server of this.servers) {
      server.closeAllConnections();
      server.close();
    }
  }

  private async listen(answer: http.RequestListener): Promise<string> {
    const server = http.createServer(answer);
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    // A benchmark that fails before it closes them ends all the same.
    server.unref();
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
}
