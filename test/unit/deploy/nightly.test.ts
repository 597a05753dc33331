import { execFileSync, spawnSync } from 'node:child_process';
import { PROJECT, readText } from './project-files';

const list = () =>
  execFileSync(process.execPath, ['scripts/run.mjs', 'test:nightly', '--list'], {
    cwd: PROJECT,
    encoding: 'utf8',
  });

describe('npm run test:nightly', () => {
  const parts = [...list().matchAll(/^ {2}(\S+) /gm)].map(([, name]) => name);

  it('says in docs/nightly.md what every part is', () => {
    expect(parts.length).toBeGreaterThanOrEqual(5);
    // Below it stands when each last ran.
    const [docs = ''] = readText('docs/nightly.md').split('\n## When');
    const described = [...docs.matchAll(/^\| `([\w-]+)` \|/gm)].map(([, name]) => name);
    expect(described.sort()).toEqual(parts.sort());
  });

  it('refuses a part that there is none of, and names those that there are', () => {
    const { status, stderr } = spawnSync(process.execPath, ['scripts/run.mjs', 'test:nightly', 'nothing'], {
      cwd: PROJECT,
      encoding: 'utf8',
    });
    expect(status).toBe(64);
    expect(stderr).toMatch(/no part "nothing"[^]*\n {2}faults /);
  });

  it('is no part of npm test', () => {
    expect(readText('jest.config.js')).not.toContain('nightly');
  });
});
