import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { assetDir, contentKey, embeddedCacheDir, findExecutable, rememberedProbe } from './cache';
import { seconds } from './maven';
import { runWithProgress } from './progress';

const CLI_VERSION = '1.5.1';
const CLI_MODULE = 'github.com/temporalio/cli';
/** Temporal Server 1.29 and later are known to do what remit needs. */
const SERVER_MINIMUM: readonly [number, number] = [1, 29];
const LINKER_FLAGS = `-s -w -X ${CLI_MODULE}/temporalcli.Version=${CLI_VERSION}`;

/** Where the CLI built by us is, or will be. */
export function builtTemporalCli(): string {
  const dir = assetDir('temporal');
  const key = contentKey(
    readFileSync(path.join(dir, 'go.mod')),
    readFileSync(path.join(dir, 'go.sum')),
    LINKER_FLAGS,
  );
  const name = `temporal-cli-${CLI_VERSION}-${process.platform}-${process.arch}-${key}`;
  return path.join(embeddedCacheDir(process.env), name, 'temporal');
}

/**
 * The `temporal` to run: one that is installed and whose server is new enough, else the one built by us.
 * Undefined when there is neither yet.
 */
export function findTemporalCli(): string | undefined {
  const installed = findExecutable('temporal');
  if (installed !== undefined && isNewEnough(installed)) return installed;
  const built = builtTemporalCli();
  return existsSync(built) ? built : undefined;
}

/** `temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)` → whether that server is new enough. */
function isNewEnough(executable: string): boolean {
  try {
    const text = rememberedProbe(executable, () =>
      execFileSync(executable, ['--version'], { encoding: 'utf8', timeout: 20_000 }),
    );
    const [, major, minor] = /Server (\d+)\.(\d+)/.exec(text) ?? [];
    if (major === undefined || minor === undefined) return false;
    const [wantedMajor, wantedMinor] = SERVER_MINIMUM;
    return Number(major) > wantedMajor || (Number(major) === wantedMajor && Number(minor) >= wantedMinor);
  } catch {
    return false;
  }
}

/**
 * Builds the CLI, with server and UI, from the Go module next to this file; go.sum pins the checksum of every
 * module. Does nothing when there is one. Takes minutes the first time.
 */
export async function ensureTemporalCli(report: (line: string) => void): Promise<void> {
  if (findTemporalCli() !== undefined) return;
  const startedAt = Date.now();
  const target = builtTemporalCli();
  const aside = `${path.dirname(target)}.${process.pid}.tmp`;
  const go = findExecutable('go') ?? 'go';
  const cwd = assetDir('temporal');
  // A go.work or -mod flag of the user must not change what is built.
  const env = { ...process.env, CGO_ENABLED: '0', GOWORK: 'off', GOFLAGS: '-mod=readonly -buildvcs=false' };
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  try {
    report(`Temporal CLI ${CLI_VERSION}: building it with Go, once (two to five minutes)`);
    let modules = 0;
    const list = await runWithProgress(go, ['list', '-deps', `${CLI_MODULE}/cmd/temporal`], {
      title: 'Temporal: downloading Go modules',
      status: (line) => (line.startsWith('go: downloading') ? `${++modules} modules` : undefined),
      cwd,
      env,
      report,
    });
    const packages = list.split('\n').filter((line) => line !== '' && !line.startsWith('go: ')).length;
    let compiled = 0;
    await runWithProgress(
      go,
      [
        'build',
        '-v',
        '-trimpath',
        '-ldflags',
        LINKER_FLAGS,
        '-o',
        path.join(aside, 'temporal'),
        `${CLI_MODULE}/cmd/temporal`,
      ],
      {
        title: 'Temporal: building',
        status: (line) =>
          line === '' || line.startsWith('go: ')
            ? undefined
            : `${++compiled} of ${packages} packages compiled`,
        cwd,
        env,
        report,
      },
    );
    rmSync(path.dirname(target), { recursive: true, force: true });
    renameSync(aside, path.dirname(target));
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
  report(`Temporal CLI ${CLI_VERSION}: built (${seconds(startedAt)} s)`);
}
