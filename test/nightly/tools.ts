import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { embeddedCacheDir, findExecutable } from '../../src/embedded/cache';

/** Programs that only these tests need, built from their Go modules into the cache of the embedded stack. */

/** What is not there and can't be made here: the test says so, and is skipped. */
export interface Missing {
  missing: string;
}

/**
 * Builds commands of one Go module at a version, once. The module proxy's checksum database says whether they are what everybody gets.
 * @returns where they are.
 */
export function goCommands(module: string, version: string, packages: readonly string[]): string[] | Missing {
  const go = findExecutable('go');
  if (go === undefined) return { missing: 'Go is not in PATH' };
  const folder = path.join(embeddedCacheDir(process.env), 'nightly', `${path.basename(module)}-${version}`);
  const files = packages.map((each) => path.join(folder, path.posix.basename(path.posix.join(module, each))));
  if (files.some((file) => !existsSync(file))) {
    mkdirSync(folder, { recursive: true });
    process.stderr.write(`  building ${module} ${version} with Go, once (some minutes)\n`);
    for (const each of packages)
      execFileSync(go, ['install', `${path.posix.join(module, each)}@${version}`], {
        env: {
          ...process.env,
          GOBIN: folder,
          CGO_ENABLED: '0',
          GOWORK: 'off',
          GOFLAGS: '-mod=mod -buildvcs=false',
        },
        stdio: ['ignore', 'ignore', 'inherit'],
      });
  }
  return files;
}

/** An installed program. */
export const installed = (name: string, packages: string): string | Missing =>
  findExecutable(name) ?? { missing: `${name} is not in PATH (apt-get install ${packages})` };

export const isMissing = (found: unknown): found is Missing =>
  typeof found === 'object' && found !== null && 'missing' in found;
