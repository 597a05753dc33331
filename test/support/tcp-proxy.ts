import net from 'node:net';

/** One client's connection and the one that leads on to the server. */
interface Link {
  near: net.Socket;
  far: net.Socket;
}

/**
 * When a connection to PostgreSQL breaks: `before` a statement is carried out, as `pg_terminate_backend` does it, or
 * `after` it was and before its answer arrives, so that whether it was is unknown to whoever waits.
 */
export type CutTime = 'before' | 'after';

const TERMINATED = pgError('57P01', 'terminating connection due to administrator command');

function pgError(code: string, message: string): Buffer {
  const fields = `SFATAL\0VFATAL\0C${code}\0M${message}\0\0`;
  const head = Buffer.alloc(5, 'E');
  head.writeInt32BE(4 + fields.length, 1);
  return Buffer.concat([head, Buffer.from(fields)]);
}

/** A way to a server, which can be lost without a word, hang, or break at a statement that the test names. */
export class TcpProxy {
  private readonly links = new Set<Link>();
  private stalled = false;
  private refused = false;
  private armed: { left: number; time: CutTime } | undefined;
  /** Whether the statement of the last `cutAt` came and its connection was broken. */
  wasCut = false;

  private constructor(private readonly server: net.Server) {}

  static async to(host: string, port: number): Promise<TcpProxy> {
    const server = net.createServer();
    const proxy = new TcpProxy(server);
    server.on('connection', (near) => {
      if (proxy.refused) near.destroy();
      else proxy.link(near, net.connect(port, host));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  static toUrl(url: string): Promise<TcpProxy> {
    const { hostname, port } = new URL(url);
    return TcpProxy.to(hostname, Number(port));
  }

  get address(): string {
    return `127.0.0.1:${(this.server.address() as net.AddressInfo).port}`;
  }

  /** The URL with this way in it. */
  through(url: string): string {
    const changed = new URL(url);
    changed.host = this.address;
    return changed.toString();
  }

  /** What is connected hears nothing any more; who connects from now on gets through. */
  lose(): void {
    for (const { near, far } of this.links)
      for (const end of [near, far]) end.removeAllListeners('data').pause();
  }

  /** Nothing passes, on new connections either, until `resume`. */
  stall(): void {
    this.stalled = true;
    for (const { near, far } of this.links) for (const end of [near, far]) end.pause();
  }

  resume(): void {
    this.stalled = false;
    for (const { near, far } of this.links) for (const end of [near, far]) end.resume();
  }

  /** Whoever connects is turned away, as by a server that is not there. */
  refuse(refused: boolean): void {
    this.refused = refused;
  }

  /** Breaks the connection of the nth statement from now on, counted over all connections to PostgreSQL, once. */
  cutAt(statement: number, time: CutTime): void {
    this.armed = { left: statement, time };
    this.wasCut = false;
  }

  disarm(): void {
    this.armed = undefined;
  }

  close(): void {
    for (const { near, far } of this.links) for (const end of [near, far]) end.destroy();
    this.server.close();
  }

  private link(near: net.Socket, far: net.Socket): void {
    const link = { near, far };
    this.links.add(link);
    const end = () => {
      near.destroy();
      far.destroy();
      this.links.delete(link);
    };
    for (const each of [near, far]) each.on('error', () => undefined).on('close', end);
    let cutting: CutTime | undefined;
    const statements = new StatementCounter();
    near.on('data', (chunk: Buffer) => {
      for (let n = statements.in(chunk); n > 0 && this.armed; n--)
        if (--this.armed.left === 0) {
          cutting = this.armed.time;
          this.armed = undefined;
          this.wasCut = true;
        }
      if (cutting !== 'before') return void far.write(chunk);
      near.end(TERMINATED);
      far.destroy();
    });
    far.on('data', (chunk: Buffer) => {
      // What the server answers to a statement means that it has been carried out.
      if (cutting === 'after') end();
      else near.write(chunk);
    });
    if (this.stalled) for (const each of [near, far]) each.pause();
  }
}

/** Counts statements in what a client sends PostgreSQL: simple queries, and the Syncs that end extended ones. */
class StatementCounter {
  private rest = Buffer.alloc(0);
  private started = false;

  in(chunk: Buffer): number {
    this.rest = Buffer.concat([this.rest, chunk]);
    let found = 0;
    for (;;) {
      // The first message has no type.
      const head = this.started ? 1 : 0;
      if (this.rest.length < head + 4) return found;
      const length = head + this.rest.readInt32BE(head);
      if (this.rest.length < length) return found;
      if (this.started && 'QS'.includes(String.fromCharCode(this.rest[0]!))) found++;
      this.started = true;
      this.rest = this.rest.subarray(length);
    }
  }
}
