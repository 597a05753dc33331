import os from 'node:os';
import path from 'node:path';
import { ensureTimeSkippingServer } from '../../src/embedded/temporal-test-server';
import { buildWorkflowBundle } from '../../src/platform/build-workflow-bundle';

/** Builds the workflow bundle once and finds the time-skipping server, for all workflow tests. */
export default async function workflowSetup(): Promise<void> {
  const bundle = path.join(os.tmpdir(), `remit-workflows-${process.pid}.js`);
  process.env['REMIT_TEST_WORKFLOW_BUNDLE'] = await buildWorkflowBundle(bundle);
  process.env['REMIT_TEST_TIME_SKIPPING_SERVER'] = await ensureTimeSkippingServer((line) =>
    process.stderr.write(`  ${line}\n`),
  );
}
