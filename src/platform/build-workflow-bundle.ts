import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { ENCODING_FAILURES } from './payload-encryption';

/** Whether this runs from TypeScript (`npm run dev`), where a bundle that was built before may be out of date. */
const FROM_SOURCES = __filename.endsWith('.ts');

const BUILT_AHEAD = path.join(__dirname, '..', 'workflow-bundle.js');

function workflowFile(name: string): string {
  const base = path.join(__dirname, '..', 'workflows', name);
  return existsSync(`${base}.ts`) ? `${base}.ts` : `${base}.js`;
}

/**
 * Bundles `workflows/` (TypeScript or compiled) into one file. Deterministic for the same sources.
 * @param workflowsPath other than remit’s own: tests have a second version.
 * @param withTracing false only for tests that show that histories replay without it too.
 */
export async function buildWorkflowBundle(
  target = BUILT_AHEAD,
  { workflowsPath = workflowFile('index'), withTracing = true } = {},
): Promise<string> {
  const { code } = await bundleWorkflowCode({
    workflowsPath,
    failureConverterPath: ENCODING_FAILURES,
    ...(withTracing && { workflowInterceptorModules: [workflowFile('tracing')] }),
    logger: new DefaultLogger('WARN'),
  });
  await mkdir(path.dirname(target), { recursive: true });
  await writeFile(target, code);
  return target;
}

/**
 * The bundle that workers load: the one that was built ahead, next to the compiled code; from TypeScript a fresh one.
 * @throws when the code was compiled but not bundled.
 */
export async function workflowBundlePath(): Promise<string> {
  if (FROM_SOURCES) {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'remit-workflows-'));
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
    return buildWorkflowBundle(path.join(folder, 'workflow-bundle.js'));
  }
  if (existsSync(BUILT_AHEAD)) return BUILT_AHEAD;
  throw new Error(`${BUILT_AHEAD} is missing: run "npm run build"`);
}

if (require.main === module)
  buildWorkflowBundle().catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exit(1);
  });
