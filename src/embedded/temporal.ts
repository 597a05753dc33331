import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { writeFileAtomic } from './cache';
import { type PartCommand, type PartServer } from './part-process';
import { findTemporalCli } from './temporal-cli';
import { EmbeddedError, type SearchAttributeType } from './types';

const HOST = '127.0.0.1';
/** io.temporal.api.enums.v1.IndexedValueType */
const TYPE_CODES: Record<SearchAttributeType, number> = {
  Text: 1,
  Keyword: 2,
  Int: 3,
  Double: 4,
  Bool: 5,
  Datetime: 6,
};

/**
 * One server for one application: a task queue needs no partitions (they cost a hop when a task meets no
 * poller), and no limit may stand in the way of a benchmark. The CLI would have the server read from its database which
 * search attributes there are, whenever it uses one: a dozen reads for each payment. Without that it takes two seconds until
 * one that is added to a running server is known; those that a new database is made with are known at once.
 */
const DYNAMIC_CONFIG: Readonly<Record<string, number | boolean>> = {
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
  'frontend.rps': 100_000,
  'frontend.namespaceRPS': 100_000,
  'frontend.namespaceRPS.visibility': 1_000,
  'frontend.namespaceCount': 100_000,
  'frontend.globalNamespaceRPS': 0,
  'history.rps': 100_000,
  'matching.rps': 100_000,
  'history.persistenceMaxQPS': 100_000,
  'matching.persistenceMaxQPS': 100_000,
  'frontend.persistenceMaxQPS': 100_000,
  'system.forceSearchAttributesCacheRefreshOnRead': false,
};

export interface TemporalPorts {
  port: number;
  uiPort: number;
  httpPort: number;
  metricsPort: number;
}

/** The Temporal server with its UI, on SQLite with a write-ahead log: durable against a killed process. */
export class TemporalServer implements PartServer {
  readonly part = 'temporal';
  readonly #dir: string;
  readonly #registered: string;

  constructor(
    private readonly dataDir: string,
    private readonly ports: TemporalPorts,
    private readonly searchAttributes: Readonly<Record<string, SearchAttributeType>>,
  ) {
    this.#dir = path.join(dataDir, 'temporal');
    this.#registered = path.join(this.#dir, 'search-attributes.json');
  }

  prepare(): Promise<void> {
    mkdirSync(this.#dir, { recursive: true });
    return Promise.resolve();
  }

  command(): PartCommand {
    const cli = findTemporalCli();
    if (cli === undefined)
      throw new EmbeddedError('The Temporal server is gone from the cache. Start again: it will be rebuilt.');
    const { port, uiPort, httpPort, metricsPort } = this.ports;
    const args = [
      'server', 'start-dev', '--ip', HOST, '--port', String(port), '--ui-port', String(uiPort),
      '--http-port', String(httpPort), '--metrics-port', String(metricsPort),
      '--db-filename', path.join(this.#dir, 'temporal.db'),
      '--sqlite-pragma', 'journal_mode=WAL', '--sqlite-pragma', 'synchronous=NORMAL',
      '--log-level', 'error', '--color', 'never',
    ]; // prettier-ignore
    for (const [name, type] of Object.entries(this.searchAttributes))
      args.push('--search-attribute', `${name}=${type}`);
    for (const [key, value] of Object.entries(DYNAMIC_CONFIG))
      args.push('--dynamic-config-value', `${key}=${value}`);
    // TEMPORAL_ADDRESS and the like are of remit's clients; the CLI would read them as its own defaults.
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('TEMPORAL_')),
    );
    return { command: cli, args, cwd: this.dataDir, env, stopSignal: 'SIGTERM', stopGraceMs: 10_000 };
  }

  async isReady(log: () => string): Promise<boolean> {
    // The server says where it is once it has started; its port is bound a little before.
    return /^Server:\s/m.test(log()) && (await accepts(this.ports.port));
  }

  async afterReady(): Promise<void> {
    const wanted = JSON.stringify(Object.entries(this.searchAttributes).sort());
    const known = existsSync(this.#registered) ? readFileSync(this.#registered, 'utf8') : undefined;
    if (known === wanted) return;
    // --search-attribute works only when it makes the database; later additions go through the API.
    await this.#registerSearchAttributes();
    writeFileAtomic(this.#registered, wanted);
  }

  async #registerSearchAttributes(): Promise<void> {
    const { Connection } = await import('@temporalio/client');
    const connection = await Connection.connect({ address: `${HOST}:${this.ports.port}` });
    try {
      const { customAttributes } = await connection.operatorService.listSearchAttributes({
        namespace: 'default',
      });
      const missing = Object.entries(this.searchAttributes).filter(
        ([name]) => customAttributes?.[name] === undefined,
      );
      if (missing.length === 0) return;
      await connection.operatorService.addSearchAttributes({
        namespace: 'default',
        searchAttributes: Object.fromEntries(missing.map(([name, type]) => [name, TYPE_CODES[type]])),
      });
    } finally {
      await connection.close();
    }
  }

  advice(log: string): string {
    if (/address already in use|port \d+ is (already )?in use|can't set/i.test(log)) {
      return `free the ports ${this.ports.port} and ${this.ports.uiPort}, or set TEMPORAL_ADDRESS to a server of yours.`;
    }
    if (/No space left|disk is full/i.test(log)) return 'free some disk space.';
    return 'if the data is not worth keeping, `remit reset` starts from scratch; or set TEMPORAL_ADDRESS to a server of yours; or use `docker compose up`.';
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: HOST });
    const done = (result: boolean): void => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(1_000, () => done(false));
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
}
