import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const EACH_MS = 1_000;
const CHECK_MS = 2_000;
/** Checks that have to fail before a server counts as down: HAProxy's `fall`, as it is by default. */
const FALL = 3;
const UP_MS = 60_000;

/**
 * Stands in for the load balancer in front of servers that are alike, or of which one at a time may be used: HAProxy, a
 * Kubernetes Service, a cloud's endpoint. It asks each server whether it is up; connections to one that is no longer up are
 * closed (HAProxy's `on-marked-down shutdown-sessions`); one that can't be reached is passed over at once.
 */
export class Balancer {
  private readonly links = new Map<string, Set<net.Socket>>();
  /** Checks that failed one after the other; `FALL` for a server that was not up yet. */
  private readonly failures = new Map<string, number>();
  private turn = 0;
  private running = true;
  private readonly server = net.createServer((near) => this.connect(near, this.up()));

  private constructor(
    private readonly targets: () => readonly string[],
    private readonly isUp: (address: string) => Promise<boolean>,
  ) {}

  /** @param targets `host:port` of the servers there are now; @param isUp rejecting says no too. */
  static async open(
    targets: () => readonly string[],
    isUp: (address: string) => Promise<boolean>,
  ): Promise<Balancer> {
    const balancer = new Balancer(targets, isUp);
    await new Promise<void>((resolve) => balancer.server.listen(0, '127.0.0.1', resolve));
    void balancer.watch();
    return balancer;
  }

  get port(): number {
    return (this.server.address() as net.AddressInfo).port;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Resolves when there is a server to lead to. */
  async untilUp(): Promise<void> {
    const deadline = Date.now() + UP_MS;
    while (this.up().length === 0) {
      if (Date.now() > deadline) throw new Error(`none of ${this.targets().join(', ')} is up`);
      await sleep(100);
    }
  }

  close(): void {
    this.running = false;
    this.server.close();
    for (const address of this.links.keys()) this.drop(address);
  }

  private up(): string[] {
    const up = this.targets().filter((address) => (this.failures.get(address) ?? FALL) < FALL);
    const first = up.length === 0 ? 0 : this.turn++ % up.length;
    return [...up.slice(first), ...up.slice(0, first)];
  }

  private async watch(): Promise<void> {
    while (this.running) {
      const targets = this.targets();
      await Promise.all(targets.map((address) => this.check(address)));
      for (const address of this.failures.keys())
        if (!targets.includes(address)) {
          this.failures.delete(address);
          this.drop(address);
        }
      await sleep(EACH_MS);
    }
  }

  private async check(address: string): Promise<void> {
    const inTime = new AbortController();
    const late = sleep(CHECK_MS, false, { signal: inTime.signal }).catch(() => false);
    const ok = await Promise.race([this.isUp(address).catch(() => false), late]);
    inTime.abort();
    const failures = ok ? 0 : Math.min(FALL, (this.failures.get(address) ?? FALL) + 1);
    this.failures.set(address, failures);
    if (failures === FALL) this.drop(address);
  }

  private drop(address: string): void {
    for (const socket of this.links.get(address) ?? []) socket.destroy();
    this.links.delete(address);
  }

  private connect(near: net.Socket, addresses: readonly string[]): void {
    const [address, ...others] = addresses;
    near.on('error', () => undefined);
    if (address === undefined) {
      near.destroy();
      return;
    }
    const far = net.connect(Number(address.split(':')[1]), address.split(':')[0]);
    const next = () => this.connect(near, others);
    far.once('error', next);
    far.once('connect', () => {
      far.off('error', next);
      const sockets = this.links.get(address) ?? new Set();
      this.links.set(address, sockets);
      for (const socket of [near, far]) {
        sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          near.destroy();
          far.destroy();
          sockets.delete(socket);
        });
      }
      near.pipe(far).pipe(near);
    });
  }
}
