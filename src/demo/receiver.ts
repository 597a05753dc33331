import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { WebhookBody } from '../contracts/webhooks';

export interface ReceivedWebhook {
  id: string;
  type: string;
  /** `data.id`: the payment, payout or order. */
  subject: string;
  verified: boolean;
}

const BODY_MAX_BYTES = 262_144;

/** A subscriber on this machine: keeps what it receives, verified by the `standardwebhooks` package. */
export class WebhookReceiver {
  readonly received: ReceivedWebhook[] = [];
  private secret = '';
  private readonly server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= BODY_MAX_BYTES) chunks.push(chunk);
    });
    request.on('end', () => {
      this.receive(Buffer.concat(chunks).toString('utf8'), request.headers as Record<string, string>);
      response.writeHead(204).end();
    });
  });

  /** Starts listening at an address of this machine. @returns the URL to subscribe with. */
  async listen(host = '127.0.0.1'): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, host, resolve));
    return `http://${host}:${(this.server.address() as AddressInfo).port}/hooks`;
  }

  /** The secret that the subscription came with. */
  verifyWith(secret: string): void {
    this.secret = secret;
  }

  of(subject: string): ReceivedWebhook[] {
    return this.received.filter((webhook) => webhook.subject === subject);
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private receive(body: string, headers: Record<string, string>): void {
    let verified = true;
    try {
      new Webhook(this.secret).verify(body, headers);
    } catch {
      verified = false;
    }
    const parsed = WebhookBody.safeParse(JSON.parse(body));
    if (!parsed.success) return;
    const { type, data } = parsed.data;
    this.received.push({ id: headers['webhook-id'] ?? '', type, subject: String(data['id']), verified });
  }
}
