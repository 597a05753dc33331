import { readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';

/** The folder with package.json: `src/platform` and `dist/platform` both lie two below it. */
export const PROJECT_ROOT = path.resolve(__dirname, '..', '..');

/** The version in package.json. */
export const VERSION = (
  JSON.parse(readFileSync(path.join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string }
).version;

/**
 * The folder that relative paths of a command line are meant from: where the caller stands, also when npm has gone to the
 * project's folder to run its script there.
 */
export function callerDir(env: NodeJS.ProcessEnv = process.env, cwd = process.cwd()): string {
  const root = realpathSync(PROJECT_ROOT);
  const script = env['npm_package_json'];
  const ranByNpm = script !== undefined && isAt(path.dirname(script), root) && isAt(cwd, root);
  return (ranByNpm && env['INIT_CWD']) || cwd;
}

function isAt(folder: string, real: string): boolean {
  try {
    return realpathSync(folder) === real;
  } catch {
    return false;
  }
}

/** A path of the command line, or of a variable that is given with it, as an absolute one. */
export const callerPath = (file: string): string => path.resolve(callerDir(), file);
