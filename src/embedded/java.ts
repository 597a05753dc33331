import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { contentKey, executableIdentity, findExecutable, rememberedProbe } from './cache';

export interface Java {
  executable: string;
  /** Feature release: 17, 21, … */
  major: number;
  /** Changes with the installed build; class-data archives belong to one build. */
  key: string;
}

/** The Java of JAVA_HOME or PATH; undefined when there is none that runs. */
export function findJava(): Java | undefined {
  const home = process.env['JAVA_HOME'];
  const ofHome = home === undefined || home === '' ? undefined : path.join(home, 'bin', 'java');
  const executable =
    ofHome !== undefined && existsSync(ofHome) ? realpathSync(ofHome) : findExecutable('java');
  if (executable === undefined) return undefined;
  try {
    const text = rememberedProbe(executable, () => versionText(executable));
    const match = /"(?:1\.)?(\d+)/.exec(text);
    if (match === null) return undefined;
    return { executable, major: Number(match[1]), key: contentKey(executableIdentity(executable), text) };
  } catch {
    // macOS has a /usr/bin/java that only says that there is no Java.
    return undefined;
  }
}

function versionText(executable: string): string {
  // Printed to stderr; `-version` with one dash is understood by every release.
  const { status, stderr } = spawnSync(executable, ['-version'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return stderr;
}
