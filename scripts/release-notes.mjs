// node scripts/release-notes.mjs v1.2.3 > notes.md
// Prints what CHANGELOG.md says of a version. Ends with 1, and says where, unless the tag, package.json, package-lock.json,
// the chart and the newest, dated section of the changelog name the same version. Reads the current folder; needs no package.
import { readFileSync } from 'node:fs';

const tag = process.argv[2] ?? '';
const read = (file) => readFileSync(file, 'utf8');
const { version } = JSON.parse(read('package.json'));
const lock = JSON.parse(read('package-lock.json'));
const chart = read('deploy/helm/remit/Chart.yaml');
const [, heading = '', text = ''] = /^## (.+)\n([^]*?)(?=^## |$(?![^]))/m.exec(read('CHANGELOG.md')) ?? [];
const [, noted, date] = /^(\S+) \((\d{4}-\d{2}-\d{2})\)$/.exec(heading) ?? [];

const said = {
  'the tag': /^v(\d+\.\d+\.\d+(?:-[\w.]+)?)$/.exec(tag)?.[1] ?? tag,
  'package-lock.json': lock.version,
  'its root package': lock.packages['']?.version,
  'Chart.yaml, version': /^version: "?([^"\s]+)"?$/m.exec(chart)?.[1],
  'Chart.yaml, appVersion': /^appVersion: "?([^"\s]+)"?$/m.exec(chart)?.[1],
  'CHANGELOG.md, newest section with a date': noted,
};
const wrong = Object.entries(said).filter(([, each]) => each !== version);
if (wrong.length > 0) {
  const lines = wrong.map(([where, each]) => `  ${where}: ${each ?? 'nothing'}`);
  process.stderr.write(`package.json says ${version}, but not\n${lines.join('\n')}\n`);
  if (date === undefined) process.stderr.write(`The newest section of CHANGELOG.md is "${heading}".\n`);
  process.exitCode = 1;
} else {
  process.stdout.write(`${text.trim()}\n`);
}
