import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { findExecutable, rememberedProbe } from './cache';
import { builtGoCommand, ensureGoCommand, type GoCommand } from './go-build';

const CLI_VERSION = '1.5.1';
const CLI_MODULE = 'github.com/temporalio/cli';
/** Temporal Server 1.29 and later are known to do what remit needs. */
const SERVER_MINIMUM: readonly [number, number] = [1, 29];

const BUILT_CLI: GoCommand = {
  asset: 'temporal',
  package: `${CLI_MODULE}/cmd/temporal`,
  version: CLI_VERSION,
  executable: 'temporal',
  folder: 'temporal-cli',
  title: 'Temporal CLI',
  progressTitle: 'Temporal',
  takes: 'two to five minutes',
  linkerFlags: `-s -w -X ${CLI_MODULE}/temporalcli.Version=${CLI_VERSION}`,
};

/** Where the CLI built by us is, or will be. */
const builtTemporalCli = (): string => builtGoCommand(BUILT_CLI);

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
  if (findTemporalCli() === undefined) await ensureGoCommand(BUILT_CLI, report);
}
