import { rm } from 'node:fs/promises';

export default async function globalTeardown(): Promise<void> {
  await globalThis.remitTestStack?.stop();
  // What this run has made, and not what a variable names.
  if (globalThis.remitTestDataDir) await rm(globalThis.remitTestDataDir, { recursive: true, force: true });
}
