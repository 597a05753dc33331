import net, { type AddressInfo, type Socket } from 'node:net';

/** How a subscriber behaves; each is a path of the server. */
export const BEHAVIOURS = [
  'good',
  'hang',
  'continue',
  'gone',
  'unavailable',
  'huge-headers',
  'endless-headers',
  'reset',
  'drip',
  'garbage',
  'late',
] as const;
export type Behaviour = (typeof BEHAVIOURS)[number];

const DRIP_MS = 500;
const HUGE_HEADERS_BYTES = 60_000;

/** Subscribers behind one socket server, which writes its answers by hand: HTTP libraries refuse to be that bad. */
export class HostileSubscribers {
  readonly received: Record<string, number> = {};
  /** Of the good one: bodies that it got, newest last, bounded. */
  readonly bodies: string[] = [];
  private readonly sockets = new Set<Socket>();
  private readonly server = net.createServer((socket) => this.serve(socket));

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
  }

  url(behaviour: Behaviour): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/${behaviour}`;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private serve(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('error', () => undefined);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (text.length > 2_000_000) {
        socket.destroy();
        return;
      }
      const head = text.indexOf('\r\n\r\n');
      if (head < 0) return;
      const length = Number(/content-length: *(\d+)/i.exec(text.slice(0, head))?.[1] ?? 0);
      if (text.length < head + 4 + length) return;
      const behaviour = (/^POST \/([a-z-]+)/.exec(text)?.[1] ?? '') as Behaviour;
      this.received[behaviour] = (this.received[behaviour] ?? 0) + 1;
      if (behaviour === 'good') {
        this.bodies.push(Buffer.from(text.slice(head + 4, head + 4 + length), 'latin1').toString());
        if (this.bodies.length > 5_000) this.bodies.shift();
      }
      text = '';
      this.answer(socket, behaviour);
    });
  }

  private answer(socket: Socket, behaviour: Behaviour): void {
    const end = (head: string) => socket.write(`HTTP/1.1 ${head}\r\ncontent-length: 0\r\n\r\n`);
    switch (behaviour) {
      case 'hang':
        return;
      case 'continue':
        socket.write('HTTP/1.1 100 Continue\r\n\r\n');
        setTimeout(() => end('200 OK'), 50);
        return;
      case 'gone':
        return void end('410 Gone');
      case 'unavailable':
        return void end('503 Service Unavailable\r\nretry-after: 2');
      case 'huge-headers':
        return void end(`200 OK\r\nx-huge: ${'h'.repeat(HUGE_HEADERS_BYTES)}`);
      case 'endless-headers': {
        socket.write('HTTP/1.1 200 OK\r\n');
        const timer = setInterval(() => socket.write(`x-${Math.random()}: ${'e'.repeat(20_000)}\r\n`), 20);
        socket.on('close', () => clearInterval(timer));
        return;
      }
      case 'reset':
        return void socket.resetAndDestroy();
      case 'drip': {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n');
        const timer = setInterval(() => socket.write('d'), DRIP_MS);
        socket.on('close', () => clearInterval(timer));
        return;
      }
      case 'garbage':
        return void socket.end('\u0000\u0001 not HTTP at all \r\n\r\n');
      case 'late':
        setTimeout(() => end('204 No Content'), 1_500);
        return;
      default:
        return void end('204 No Content');
    }
  }
}
