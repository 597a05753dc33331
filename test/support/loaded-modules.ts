/**
 * Loads what every role is made of, with tracing as the environment has it, and prints the modules of OpenTelemetry that
 * were loaded by that, as JSON.
 */
import path from 'node:path';
import { loadConfig } from '../../src/platform/config';
import { startTracing, stopTracing } from '../../src/platform/tracing';
import '../../src/roles/api';
import '../../src/roles/bridge';
import '../../src/roles/ingest';
import '../../src/roles/relay';
import '../../src/roles/worker';

async function main(): Promise<void> {
  await startTracing(loadConfig(process.env, []), 'remit-test', () => undefined);
  const loaded = Object.keys(require.cache).flatMap((file) => {
    const [, name] = /node_modules\/(@opentelemetry\/[^/]+)\//.exec(file.split(path.sep).join('/')) ?? [];
    return name === undefined ? [] : [name];
  });
  process.stdout.write(JSON.stringify([...new Set(loaded)].sort()));
  await stopTracing();
  process.exit(0);
}

void main();
