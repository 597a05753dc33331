// node scripts/sbom.mjs [FILE]      (npm run -s sbom)
// Writes a CycloneDX document of every npm package that the image carries: those that `npm ci --omit=dev --omit=optional` installs,
// and those that the console's bundle is made of. Needs no network and no installed package, only package-lock.json and npm.
// The same sources and the same npm give the same bytes: whoever has both can make the one of a release again, and compare.
//
// `npm sbom --omit dev` leaves out every package that a development package needs as well, three quarters of those that run
// (npm 11.19). So npm gets a project that has nothing to be left out.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { shippedPackages } from './lib/shipped-packages.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const { entries, roots, lock } = shippedPackages(root);

const folder = mkdtempSync(path.join(os.tmpdir(), 'remit-sbom-'));
try {
  // npm takes the folder's name for the project's.
  const project = path.join(folder, manifest.name);
  mkdirSync(project);
  const { name, version, description, license } = manifest;
  const own = { name, version, description, license, private: true, dependencies: roots };
  writeFileSync(path.join(project, 'package.json'), JSON.stringify(own));
  const packages = { '': own, ...entries };
  writeFileSync(
    path.join(project, 'package-lock.json'),
    JSON.stringify({ name, version, lockfileVersion: lock.lockfileVersion, requires: true, packages }),
  );
  const printed = execFileSync(
    'npm',
    ['sbom', '--sbom-format', 'cyclonedx', '--sbom-type', 'application', '--package-lock-only', '--offline'],
    { cwd: project, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
  );
  const text = reproducible(JSON.parse(printed));
  const file = process.argv[2];
  if (file === undefined) process.stdout.write(text);
  else writeFileSync(file, text);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Without the time, which need not be there, and with a serial number that follows from what it says instead of a random one. */
function reproducible(sbom) {
  delete sbom.metadata.timestamp;
  delete sbom.serialNumber;
  const hash = createHash('sha256').update(JSON.stringify(sbom)).digest('hex');
  // RFC 9562, version 8: 122 bits of ours.
  const uuid = `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-a${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
  return `${JSON.stringify({ ...sbom, serialNumber: `urn:uuid:${uuid}` }, null, 2)}\n`;
}
