import { readFileSync } from 'node:fs';
import path from 'node:path';

/** The folder with package.json: `src/platform` and `dist/platform` both lie two below it. */
export const PROJECT_ROOT = path.join(__dirname, '..', '..');

/** The version in package.json. */
export const VERSION = (
  JSON.parse(readFileSync(path.join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string }
).version;
