import net from 'node:net';

/** A network in front of a server that can be cut. */
export class Proxy {
  private readonly sockets = new Set<net.Socket>();
  private server = net.createServer();
  private port = 0;

  private constructor(private readonly target: string) {}

  static async open(target: string): Promise<Proxy> {
    const proxy = new Proxy(target);
    await proxy.restore();
    return proxy;
  }

  /** One that is not open yet, at an address that is known already. */
  static async closed(target: string): Promise<Proxy> {
    const proxy = await Proxy.open(target);
    await proxy.cut();
    return proxy;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  async restore(): Promise<void> {
    const [host, port] = this.target.split(':');
    this.server = net.createServer((incoming) => {
      const outgoing = net.connect(Number(port), host);
      for (const socket of [incoming, outgoing]) {
        this.sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          incoming.destroy();
          outgoing.destroy();
          this.sockets.delete(socket);
        });
      }
      incoming.pipe(outgoing).pipe(incoming);
    });
    await new Promise<void>((resolve) => this.server.listen(this.port, '127.0.0.1', resolve));
    this.port = (this.server.address() as net.AddressInfo).port;
  }

  async cut(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }
}
