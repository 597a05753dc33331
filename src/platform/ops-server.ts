import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Config } from './config';
import type { Lifecycle } from './lifecycle';
import { metricsText, registry } from './metrics';

export interface ReadinessReport {
  ready: boolean;
  /** `ok`, or what is wrong with it. */
  dependencies: Record<string, string>;
}

/** Runs every readiness check at once, each bounded in time, and names what is not usable and why. */
export async function readiness(lifecycle: Lifecycle, timeoutMs: number): Promise<ReadinessReport> {
  const entries = await Promise.all(
    [...lifecycle.checks].map(async ([name, check]) => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
      });
      try {
        await Promise.race([check(), late]);
        return [name, 'ok'] as const;
      } catch (error) {
        return [name, error instanceof Error ? error.message || error.name : String(error)] as const;
      } finally {
        clearTimeout(timer);
      }
    }),
  );
  if (lifecycle.isStopping) entries.push(['process', 'shutting down']);
  return { ready: entries.every(([, state]) => state === 'ok'), dependencies: Object.fromEntries(entries) };
}

/**
 * Serves `/healthz` (the process lives), `/readyz` (its dependencies, by name) and `/metrics` (Prometheus text).
 * @returns the URL it listens on.
 */
export async function startOpsServer(
  config: Pick<Config, 'METRICS_HOST' | 'METRICS_PORT' | 'READINESS_TIMEOUT_MS'>,
  lifecycle: Lifecycle,
): Promise<string> {
  const server = http.createServer((request, response) => {
    void answer(request, response);
  });

  async function answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const path = (request.url ?? '').split('?')[0];
    const json = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return json(405, { error: 'method_not_allowed' });
    if (path === '/healthz') return json(200, { alive: true });
    if (path === '/readyz') {
      const report = await readiness(lifecycle, config.READINESS_TIMEOUT_MS);
      return json(report.ready ? 200 : 503, report);
    }
    if (path === '/metrics') {
      const text = await metricsText();
      response.writeHead(200, { 'content-type': registry.contentType });
      return void response.end(text);
    }
    return json(404, { error: 'not_found', paths: ['/healthz', '/readyz', '/metrics'] });
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.METRICS_PORT, config.METRICS_HOST, resolve);
  });
  // A probe that can't be accepted (no file descriptors left) finds that out by itself; it must not end the process.
  server.on('error', () => undefined);
  lifecycle.onStop('close', 'ops server', () => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  const { port } = server.address() as AddressInfo;
  return `http://${config.METRICS_HOST}:${port}`;
}
