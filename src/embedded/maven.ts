import { createHash } from 'node:crypto';
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { assetDir, contentKey, embeddedCacheDir, findExecutable, writeFileAtomic } from './cache';
import { runWithProgress } from './progress';
import { EmbeddedError } from './types';

/** A set of jars from Maven Central: `<asset>/pom.xml` names them, `<asset>/jars.sha256` pins their bytes. */
export interface JarSet {
  /** Folder under src/embedded. */
  asset: string;
  /** Version shown to people and in the name of the cache folder. */
  version: string;
  title: string;
}

const STAMP = '.verified';

/** Where the jars of this set are, or will be, on this machine. */
export function jarSetDir(set: JarSet): string {
  const manifest = readFileSync(path.join(assetDir(set.asset), 'jars.sha256'));
  return path.join(embeddedCacheDir(process.env), `${set.asset}-${set.version}-${contentKey(manifest)}`);
}

/** True when they are there and were verified. */
export function haveJars(set: JarSet): boolean {
  return existsSync(path.join(jarSetDir(set), STAMP));
}

/** The class path in the manifest's order: a class-data archive is valid for one order only. */
export function classPath(set: JarSet): string {
  const libs = path.join(jarSetDir(set), 'libs');
  return [...readManifest(set).keys()].map((jar) => path.join(libs, jar)).join(path.delimiter);
}

/**
 * Downloads the jars with Maven, compares every one with its pinned checksum, and only then puts the folder
 * in its place. Does nothing when they are there.
 */
export async function ensureJars(set: JarSet, report: (line: string) => void): Promise<void> {
  if (haveJars(set)) return;
  const startedAt = Date.now();
  const target = jarSetDir(set);
  const manifest = readManifest(set);
  const aside = `${target}.${process.pid}.tmp`;
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  try {
    report(`${set.title} ${set.version}: downloading ${manifest.size} jars with Maven`);
    let downloaded = 0;
    await runWithProgress(
      findExecutable('mvn') ?? 'mvn',
      ['--batch-mode', '-f', path.join(assetDir(set.asset), 'pom.xml'), 'dependency:copy-dependencies',
       '-DincludeScope=runtime', `-DoutputDirectory=${path.join(aside, 'libs')}`], // prettier-ignore
      {
        title: `${set.title} ${set.version}`,
        status: (line) => (/\bDownloaded from/.test(line) ? `${++downloaded} files downloaded` : undefined),
        report,
      },
    );
    await verify(path.join(aside, 'libs'), manifest, set);
    writeFileAtomic(path.join(aside, STAMP), `${new Date().toISOString()}\n`);
    rmSync(target, { recursive: true, force: true });
    renameSync(aside, target);
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
  report(`${set.title} ${set.version}: ${manifest.size} jars, checksums verified (${seconds(startedAt)} s)`);
}

/** Seconds since a Date.now(), with one digit. */
export const seconds = (startedAt: number): string => ((Date.now() - startedAt) / 1000).toFixed(1);

function readManifest(set: JarSet): Map<string, string> {
  const lines = readFileSync(path.join(assetDir(set.asset), 'jars.sha256'), 'utf8')
    .trim()
    .split('\n');
  return new Map(
    lines.map((line) => {
      const [sum = '', jar = ''] = line.split(/\s+/);
      return [jar, sum];
    }),
  );
}

async function verify(libs: string, manifest: ReadonlyMap<string, string>, set: JarSet): Promise<void> {
  const wrong: string[] = [];
  for (const [jar, sum] of manifest) {
    const file = path.join(libs, jar);
    if (!existsSync(file)) wrong.push(`${jar} is missing`);
    else if ((await sha256(file)) !== sum)
      wrong.push(`${jar} has another checksum than ${path.join('src/embedded', set.asset, 'jars.sha256')}`);
  }
  for (const jar of readdirSync(libs)) if (!manifest.has(jar)) rmSync(path.join(libs, jar));
  if (wrong.length === 0) return;
  throw new EmbeddedError(
    `${set.title}: Maven delivered something else than what is pinned, so it is not used:\n${wrong.map((line) => `  ${line}`).join('\n')}\nRemove these files from the local Maven repository (~/.m2/repository) and try again; if it stays, the mirror in use is not to be trusted.`,
  );
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}
