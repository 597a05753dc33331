import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { assetDir, contentKey, embeddedCacheDir, findExecutable } from './cache';
import { seconds } from './maven';
import { runWithProgress } from './progress';

/** A command that is built from its Go module: `<asset>/go.mod` pins its version, `<asset>/go.sum` the bytes of every module. */
export interface GoCommand {
  /** Folder under src/embedded. */
  asset: string;
  /** Package of the command. */
  package: string;
  /** Version shown to people and in the name of the cache folder. */
  version: string;
  /** File name of the executable. */
  executable: string;
  /** Name of the cache folder, before the version. */
  folder: string;
  title: string;
  /** Short, for the progress lines. */
  progressTitle: string;
  /** How long it takes the first time, for a person. */
  takes: string;
  linkerFlags: string;
}

/** Where the command built by us is, or will be. */
export function builtGoCommand(command: GoCommand): string {
  const dir = assetDir(command.asset);
  const key = contentKey(
    readFileSync(path.join(dir, 'go.mod')),
    readFileSync(path.join(dir, 'go.sum')),
    command.linkerFlags,
  );
  const name = `${command.folder}-${command.version}-${process.platform}-${process.arch}-${key}`;
  return path.join(embeddedCacheDir(process.env), name, command.executable);
}

/** Builds the command into the cache; go.sum pins the checksum of every module. Does nothing when it is there. */
export async function ensureGoCommand(command: GoCommand, report: (line: string) => void): Promise<void> {
  const target = builtGoCommand(command);
  if (existsSync(target)) return;
  const startedAt = Date.now();
  const aside = `${path.dirname(target)}.${process.pid}.tmp`;
  const go = findExecutable('go') ?? 'go';
  const cwd = assetDir(command.asset);
  // A go.work or -mod flag of the user must not change what is built.
  const env = { ...process.env, CGO_ENABLED: '0', GOWORK: 'off', GOFLAGS: '-mod=readonly -buildvcs=false' };
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  try {
    report(`${command.title} ${command.version}: building it with Go, once (${command.takes})`);
    let modules = 0;
    const list = await runWithProgress(go, ['list', '-deps', command.package], {
      title: `${command.progressTitle}: downloading Go modules`,
      status: (line) => (line.startsWith('go: downloading') ? `${++modules} modules` : undefined),
      cwd,
      env,
      report,
    });
    const packages = list.split('\n').filter((line) => line !== '' && !line.startsWith('go: ')).length;
    let compiled = 0;
    const output = path.join(aside, command.executable);
    await runWithProgress(
      go,
      ['build', '-v', '-trimpath', '-ldflags', command.linkerFlags, '-o', output, command.package],
      {
        title: `${command.progressTitle}: building`,
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
  report(`${command.title} ${command.version}: built (${seconds(startedAt)} s)`);
}
