import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';

/** Where the bundle of all workflows lies, next to the compiled code; built ahead, as production workers need it. */
export const WORKFLOW_BUNDLE_PATH = path.join(__dirname, '..', 'workflow-bundle.js');

/** Bundles `workflows/` (TypeScript or compiled) into one file. Deterministic for the same sources. */
export async function buildWorkflowBundle(target = WORKFLOW_BUNDLE_PATH): Promise<string> {
  const base = path.join(__dirname, '..', 'workflows', 'index');
  const workflowsPath = existsSync(`${base}.ts`) ? `${base}.ts` : `${base}.js`;
  const { code } = await bundleWorkflowCode({ workflowsPath, logger: new DefaultLogger('WARN') });
  await mkdir(path.dirname(target), { recursive: true });
  await writeFile(target, code);
  return target;
}

if (require.main === module)
  buildWorkflowBundle().catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exit(1);
  });
