import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { PROJECT, readText } from './project-files';

/** The rows of a page's table: the file that each links to, and the functions that it says stand there. */
function stepsOf(page: string) {
  return [...readText(page).matchAll(/^\| \d+ \| \[(\S+)\]\(\.\.\/(\S+)\) \| ([^|]*)\|/gm)].map(
    ([, shown = '', file = '', names = '']) => ({
      shown,
      file,
      names: [...names.matchAll(/`(\w+)`/g)].map(([, name = '']) => name),
    }),
  );
}

describe.each(['docs/walk-of-an-amount.md', 'docs/where.md'])('%s', (page) => {
  const steps = stepsOf(page);

  it('has its rows, most with a name to look for', () => {
    expect(steps.length).toBeGreaterThan(13);
    expect(steps.filter(({ names }) => names.length === 0).length).toBeLessThan(3);
  });

  it.each(steps)('names what stands in $file', ({ shown, file, names }) => {
    expect(shown).toBe(file);
    const source = readText(file);
    for (const name of names)
      expect(source).toMatch(
        new RegExp(`(function|class|const|FUNCTION) ${name}\\b|^ +(async )?${name}\\(`, 'm'),
      );
  });

  it('links to files that are there', () => {
    const links = [...readText(page).matchAll(/\]\(([^)#]+)[^)]*\)/g)].map(([, link = '']) => link);
    expect(links.filter((link) => !existsSync(path.join(PROJECT, 'docs', link)))).toEqual([]);
  });
});

/** Folders of a folder, but for what is made, not written. */
function foldersOf(folder: string): string[] {
  const made = readText('.gitignore')
    .split('\n')
    .map((line) => line.replace(/^\/|\/$/g, ''));
  return readdirSync(path.join(PROJECT, folder), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map(({ name }) => path.posix.join(folder, name))
    .filter((name) => !made.includes(name));
}

describe('docs/architecture.md', () => {
  it.each(['', 'src'])('has a line for every folder of %p', (folder) => {
    const [, listed = ''] =
      /## Where things are\n\n```\n([\s\S]*?)```/.exec(readText('docs/architecture.md')) ?? [];
    const lines = listed.split('\n');
    expect(foldersOf(folder).filter((each) => !lines.some((line) => line.startsWith(`${each}/ `)))).toEqual(
      [],
    );
  });
});
