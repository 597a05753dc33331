import { mkdirSync } from 'node:fs';
import { request } from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { type PartCommand, type PartServer } from './part-process';

/** Sessions of the engine that work at the same time; also the bound of its native threads. */
const DEFAULT_CONCURRENCY = 8;

/** The ClickHouse engine in a process of its own, behind the HTTP interface of clickhouse-server.ts. */
export class ClickHouseServer implements PartServer {
  readonly part = 'clickhouse';
  readonly #dir: string;

  constructor(
    private readonly dataDir: string,
    private readonly port: number,
  ) {
    this.#dir = path.join(dataDir, 'clickhouse');
  }

  prepare(): Promise<void> {
    mkdirSync(this.#dir, { recursive: true });
    return Promise.resolve();
  }

  command(): PartCommand {
    // The server is next to this file: .js when it was compiled, .ts when tsx or jest runs the sources.
    const extension = path.extname(__filename);
    const loader =
      extension === '.ts' ? ['--import', pathToFileURL(createRequire(__filename).resolve('tsx')).href] : [];
    return {
      command: process.execPath,
      args: [...loader, path.join(__dirname, `clickhouse-server${extension}`), this.#dir, String(this.port)],
      cwd: path.join(__dirname, '..', '..'),
      env: { ...process.env, NODE_OPTIONS: '', UV_THREADPOOL_SIZE: String(DEFAULT_CONCURRENCY + 4) },
      stopSignal: 'SIGTERM',
      stopGraceMs: 15_000,
    };
  }

  isReady(): Promise<boolean> {
    return new Promise((resolve) => {
      const ping = request(
        { host: '127.0.0.1', port: this.port, path: '/ping', timeout: 2_000 },
        (response) => {
          response.resume();
          resolve(response.statusCode === 200);
        },
      );
      ping.once('error', () => resolve(false));
      ping.once('timeout', () => ping.destroy(new Error('timeout')));
      ping.end();
    });
  }

  isTransientFailure(log: string): boolean {
    // The lock of a killed predecessor goes with its last thread.
    return /Cannot lock file|Another server instance|Code: 76\b/.test(log);
  }

  advice(log: string): string {
    if (/EADDRINUSE/.test(log))
      return `free port ${this.port}, or set CLICKHOUSE_URL to a ClickHouse of yours.`;
    if (/Cannot find module|chdb/i.test(log)) {
      return 'run `npm ci` without --omit=optional and --omit=dev (the npm package chdb brings the engine), or set CLICKHOUSE_URL to a ClickHouse of yours.';
    }
    return 'if the data is not worth keeping, `remit reset` starts from scratch; or set CLICKHOUSE_URL to a ClickHouse of yours; or use `docker compose up`.';
  }
}
