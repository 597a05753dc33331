import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { EmbeddedError } from './types';

/** The folder of downloads and builds of this user: `$XDG_CACHE_HOME/remit`, or `~/.cache/remit`. */
export function embeddedCacheDir(env: NodeJS.ProcessEnv): string {
  const xdg = env['XDG_CACHE_HOME'];
  // The XDG specification says that a relative path is invalid and has to be ignored.
  if (xdg !== undefined && path.isAbsolute(xdg)) return path.join(xdg, 'remit');
  return path.join(homedir(), '.cache', 'remit');
}

/** Why nothing can be brought into the cache, for a person; undefined when it can. */
export function cacheProblem(): string | undefined {
  const folder = embeddedCacheDir(process.env);
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
    return undefined;
  } catch (error) {
    return `The cache ${folder}, where the embedded servers are kept, can't be written (${(error as Error).message}). Make it writable for this user, or name another place in XDG_CACHE_HOME.`;
  }
}

/** The folder of a checked-in asset of this module, also when the code runs from dist/. */
export function assetDir(name: string): string {
  const candidates = [path.join(__dirname, name), path.join(__dirname, '..', '..', 'src', 'embedded', name)];
  const found = candidates.find((candidate) => existsSync(candidate));
  if (found === undefined) {
    throw new EmbeddedError(
      `The embedded stack's files are missing (${candidates.join(' or ')}). It is for development only and needs the repository: clone it, or set DATABASE_URL, KAFKA_BROKERS, TEMPORAL_ADDRESS and CLICKHOUSE_URL to use servers of your own.`,
    );
  }
  return found;
}

/** Short content hash that names a cache entry, so that another pinned version gets a folder of its own. */
export function contentKey(...contents: readonly (string | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const content of contents) hash.update(content).update('\0');
  return hash.digest('hex').slice(0, 12);
}

/** Writes a file so that readers see the old or the new content, never a part of it. */
export function writeFileAtomic(file: string, content: string, mode = 0o644): void {
  mkdirSync(path.dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  writeFileSync(temporary, content, { mode });
  renameSync(temporary, file);
}

/** First executable of that name in PATH, as a real path; undefined when there is none. */
export function findExecutable(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(path.delimiter).filter((folder) => folder !== '');
  for (const folder of folders) {
    const candidate = path.join(folder, name);
    try {
      const stat = statSync(candidate);
      if (stat.isFile() && (stat.mode & 0o111) !== 0) return realpathSync(candidate);
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** Changes whenever the executable is replaced by another build. */
export function executableIdentity(file: string): string {
  const stat = statSync(file);
  return `${file}:${stat.size}:${Math.trunc(stat.mtimeMs)}`;
}

/**
 * Remembers what a slow probe of an executable (`java -version`) said, until the executable is replaced:
 * a warm start then asks nothing. The memory is only a cache, so a broken file is ignored.
 */
export function rememberedProbe(executable: string, probe: () => string): string {
  const file = path.join(embeddedCacheDir(process.env), 'probes.json');
  const key = executableIdentity(executable);
  let known: Record<string, string> = {};
  try {
    known = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
  } catch {
    // None yet.
  }
  const remembered = known[key];
  if (typeof remembered === 'string') return remembered;
  const answer = probe();
  if (Object.keys(known).length > 50) known = {};
  try {
    writeFileAtomic(file, JSON.stringify({ ...known, [key]: answer }, null, 1));
  } catch {
    // A cache that can't be written: it is asked again next time. What has to be brought there says so.
  }
  return answer;
}
