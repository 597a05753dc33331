import { connect, createServer } from 'node:net';

const HOST = '127.0.0.1';
// Below the range from which Linux and macOS take the ports of outgoing connections.
const FREE_FROM = 18_000;
const FREE_TO = 31_000;
const ATTEMPTS = 500;

/** Free means: nobody answers on it, and it can be bound. (A wildcard listener lets macOS bind all the same.) */
async function isPortFree(port: number): Promise<boolean> {
  return !(await answers(port)) && (await canBind(port));
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: HOST });
    const done = (result: boolean): void => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(500, () => done(true));
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
}

function canBind(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: HOST, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** Hands out ports that are free now and that it has not handed out before. */
export class PortAllocator {
  readonly #taken = new Set<number>();

  /** A random free port. Throws when it finds none in 500 attempts. */
  async free(): Promise<number> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const port = FREE_FROM + Math.floor(Math.random() * (FREE_TO - FREE_FROM));
      if (this.#taken.has(port)) continue;
      this.#taken.add(port);
      if (await isPortFree(port)) return port;
    }
    throw new Error(`no free port found between ${FREE_FROM} and ${FREE_TO} in ${ATTEMPTS} attempts`);
  }

  /** The wanted port when it is free, otherwise a random one. */
  async prefer(port: number): Promise<number> {
    if (!this.#taken.has(port) && (await isPortFree(port))) {
      this.#taken.add(port);
      return port;
    }
    return this.free();
  }
}
