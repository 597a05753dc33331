import net from 'node:net';
import { DefaultLogger, makeTelemetryFilterString, Runtime, type LogLevel } from '@temporalio/worker';
import type { Logger } from './logging';
import { addMetricsSource } from './metrics';

/** Another process may take a port between its being found free and being used. */
const PORT_TRIES = 5;
const SCRAPE_TIMEOUT_MS = 2_000;

/** Of latencies in seconds: a workflow task takes milliseconds, a backlog minutes. */
const LATENCIES = [0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120];
const HISTOGRAMS = [
  'workflow_task_schedule_to_start_latency',
  'workflow_task_execution_latency',
  'workflow_endtoend_latency',
  'activity_schedule_to_start_latency',
  'activity_execution_latency',
  'activity_succeed_endtoend_latency',
  'local_activity_execution_latency',
  'local_activity_succeed_endtoend_latency',
  'request_latency',
];

let installed: Promise<void> | undefined;

/**
 * Temporal's native runtime, once a process: it logs through ours, leaves signals to the lifecycle, and its metrics
 * (`temporal_…`: slots, schedule-to-start, the sticky cache, failures) are part of `/metrics`.
 */
export function installTemporalRuntime(log: Logger): Promise<void> {
  return (installed ??= install(log));
}

async function install(log: Logger): Promise<void> {
  const levels: Partial<Record<LogLevel, 'debug' | 'info' | 'warn' | 'error'>> = {
    WARN: 'warn',
    ERROR: 'error',
    INFO: 'debug',
  };
  for (let attempt = 1; ; attempt++) {
    const bindAddress = `127.0.0.1:${await freeLoopbackPort()}`;
    try {
      Runtime.install({
        shutdownSignals: [],
        logger: new DefaultLogger('INFO', ({ level, message, meta }) =>
          log[levels[level] ?? 'debug']({ temporal: meta }, message),
        ),
        telemetryOptions: {
          logging: { filter: makeTelemetryFilterString({ core: 'WARN', other: 'ERROR' }), forward: {} },
          metrics: {
            attachServiceName: false,
            prometheus: {
              bindAddress,
              countersTotalSuffix: true,
              unitSuffix: true,
              useSecondsForDurations: true,
              histogramBucketOverrides: Object.fromEntries(HISTOGRAMS.map((name) => [name, LATENCIES])),
            },
          },
        },
      });
      addMetricsSource(() => scrape(`http://${bindAddress}/metrics`));
      return;
    } catch (error) {
      if (attempt === PORT_TRIES || !/address|bind|in use/i.test(String(error))) throw error;
    }
  }
}

/** The SDK serves its metrics on a port of loopback; whoever scrapes `/metrics` need not know it. */
async function scrape(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(SCRAPE_TIMEOUT_MS) });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response.text();
}

function freeLoopbackPort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
