import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { chromium, type Browser } from 'playwright-core';
import { PROJECT_ROOT } from '../../src/platform/project';

/** Where Debian's package puts it. */
const INSTALLED = '/usr/bin/chromium';
const ARGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync', '--hide-scrollbars', '--font-render-hinting=none'],
];
/** The package unpacks itself to the temporary folder: 64 MB of brotli. */
const UNPACK_MS = 120_000;

/** Run by Node itself: the package is an ES module, which jest can't load. */
const UNPACK = `
import chromium from '@sparticuz/chromium';
process.stdout.write(JSON.stringify({ executablePath: await chromium.executablePath(), libraries: process.env.LD_LIBRARY_PATH ?? '' }));
`;

/**
 * A real Chromium: the installed one, or the one of npm's @sparticuz/chromium, which also carries the libraries that a bare
 * machine lacks.
 * @throws Error that says what is missing and how to get it.
 */
export async function launchBrowser(): Promise<Browser> {
  if (existsSync(INSTALLED)) return chromium.launch({ executablePath: INSTALLED, args: ARGS });
  const tried: string[] = [];
  for (const extra of [{}, { AWS_LAMBDA_JS_RUNTIME: 'nodejs22.x' }]) {
    try {
      const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', UNPACK], {
        cwd: PROJECT_ROOT,
        env: { ...process.env, ...extra },
        timeout: UNPACK_MS,
      });
      const { executablePath, libraries } = JSON.parse(stdout) as {
        executablePath: string;
        libraries: string;
      };
      return await chromium.launch({
        executablePath,
        args: ARGS,
        env: { ...process.env, ...(libraries ? { LD_LIBRARY_PATH: libraries } : {}) },
      });
    } catch (error) {
      tried.push(error instanceof Error ? error.message.slice(0, 600) : String(error));
    }
  }
  throw new Error(
    `No Chromium runs here. Install one (Debian: apt-get install chromium), or what the one of npm misses:\n${tried.join('\n')}`,
  );
}
