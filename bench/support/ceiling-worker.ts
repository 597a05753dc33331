/** The ceiling of `bench e2e`: a worker with remit's settings, an empty workflow and an empty activity. */
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { loadConfig } from '../../src/platform/config';
import { workerSettings } from '../../src/roles/worker';

async function main(): Promise<void> {
  const config = loadConfig(process.env, ['TEMPORAL_ADDRESS']);
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  const connection = await NativeConnection.connect({ address: config.TEMPORAL_ADDRESS });
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: require.resolve('./ceiling-workflow.ts'),
    logger: new DefaultLogger('ERROR'),
  });
  const worker = await Worker.create({
    ...workerSettings(config, 'payments'),
    connection,
    namespace: config.TEMPORAL_NAMESPACE,
    taskQueue: 'ceiling',
    workflowBundle,
    activities: { nothing: () => Promise.resolve() },
  });
  const running = worker.run();
  process.send?.('ready');
  await running;
}

void main();
