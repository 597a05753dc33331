import { once } from 'node:events';
import net from 'node:net';

/** A TCP relay in front of a server that others use too: shut, it looks like that server being down. */
export class Gate {
  private readonly sockets = new Set<net.Socket>();
  private shut = false;

  private constructor(
    private readonly server: net.Server,
    readonly port: number,
  ) {}

  static async open(target: URL): Promise<Gate> {
    const server = net.createServer({ allowHalfOpen: false });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const gate = new Gate(server, (server.address() as net.AddressInfo).port);
    server.on('connection', (inner) => gate.relay(inner, target));
    return gate;
  }

  private relay(inner: net.Socket, target: URL): void {
    if (this.shut) return void inner.destroy();
    const outer = net.connect(Number(target.port), target.hostname);
    for (const [from, to] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      this.sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  }

  /** Cuts what is going on, and lets nothing more through. */
  close(): void {
    this.shut = true;
    for (const socket of this.sockets) socket.destroy();
  }

  reopen(): void {
    this.shut = false;
  }

  async end(): Promise<void> {
    this.close();
    this.server.close();
    await once(this.server, 'close');
  }
}
