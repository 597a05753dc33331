import { appendFileSync, existsSync } from 'node:fs';
import path from 'node:path';

/**
 * Notes one line for the table of docs/nightly.md, such as `12 faults, slowest recovery 8 s, 0 lost, 0 twice`: `npm run
 * test:nightly` prints it as part of its closing table. It goes to stderr as well, and there alone outside of such a run.
 */
export function noteResult(line: string): void {
  process.stderr.write(`  ${line}\n`);
  const file = process.env['REMIT_NIGHTLY_RESULTS'];
  if (file) appendFileSync(file, `${line}\n`);
}

/**
 * For `beforeAll` of a nightly test: what it needs is there.
 * @throws Error that names every program that is missing, and how Debian brings it.
 */
export function requirePrograms(packages: Readonly<Record<string, string>>): void {
  const folders = [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/sbin', '/sbin'];
  const missing = Object.keys(packages).filter(
    (program) => !folders.some((folder) => existsSync(path.join(folder, program))),
  );
  if (missing.length === 0) return;
  const install = [...new Set(missing.map((program) => packages[program]))].join(' ');
  throw new Error(`This needs ${missing.join(', ')}: apt-get install ${install}`);
}
