import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig } from '../platform/config';
import { ClickHouseEngine } from './clickhouse-engine';
import { ClickHouseHttp } from './clickhouse-http';
import { Spool } from './clickhouse-spool';

/**
 * The process of the embedded ClickHouse engine: `clickhouse-server <folder> <port> [<address>]`. One process owns the
 * folder. CLICKHOUSE_USER and CLICKHOUSE_PASSWORD, with which remit's clients connect, are what it accepts.
 */
const MIB = 1_048_576;
const STOP_LIMIT_MS = 12_000;
const CONCURRENCY = 8;

async function main(): Promise<void> {
  const [dir, portText, host = '127.0.0.1'] = process.argv.slice(2);
  const port = Number(portText);
  if (dir === undefined || !Number.isInteger(port))
    throw new Error('usage: clickhouse-server <folder> <port> [<address>]');
  const engine = await ClickHouseEngine.open(dir, CONCURRENCY);
  const spool = new Spool(loadConfig(process.env, []).REMIT_EMBEDDED_CLICKHOUSE_MAX_BODY_MB * MIB);
  const http = new ClickHouseHttp({
    engine,
    spool,
    user: process.env['CLICKHOUSE_USER'] || 'default',
    password: process.env['CLICKHOUSE_PASSWORD'] ?? '',
  });
  const server = createServer(
    { keepAliveTimeout: 10_000 },
    (request, response) => void http.handle(request, response),
  );
  let stopping = false;
  const stop = async (): Promise<void> => {
    if (stopping) return;
    stopping = true;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeIdleConnections();
    await Promise.race([closed.then(() => engine.close()), sleep(STOP_LIMIT_MS)]);
    spool.close();
    process.exit(0);
  };
  process.on('SIGTERM', () => void stop());
  process.on('SIGINT', () => void stop());
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  log(`ClickHouse engine ${engine.version} on http://${host}:${port}, data in ${dir}`);
}

function log(line: string): void {
  process.stdout.write(`${new Date().toISOString()} ${line}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(1);
});
