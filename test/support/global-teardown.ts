import { rm } from 'node:fs/promises';
import type { SharedStack } from './shared-stack';

export default async function globalTeardown(): Promise<void> {
  await globalThis.remitTestStack?.stop();
  const shared = JSON.parse(process.env['REMIT_TEST_STACK'] ?? '{}') as Partial<SharedStack>;
  if (shared.dataDir) await rm(shared.dataDir, { recursive: true, force: true });
}
