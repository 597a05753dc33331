import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { PROJECT, readText } from './project-files';

const PAGE = readText('docs/walk-of-an-amount.md');

/** A row of the table: the file it links to, and the functions that it says stand there. */
const STEPS = [...PAGE.matchAll(/^\| \d+ \| \[(\S+)\]\(\.\.\/(\S+)\) \| ([^|]+) \|/gm)].map(
  ([, shown = '', file = '', names = '']) => ({
    shown,
    file,
    names: [...names.matchAll(/`(\w+)`/g)].map(([, name = '']) => name),
  }),
);

describe('the walk of an amount', () => {
  it('has its steps, each with a function', () => {
    expect(STEPS.length).toBeGreaterThan(15);
    for (const { names } of STEPS) expect(names).not.toEqual([]);
  });

  it.each(STEPS)('names what stands in $file', ({ shown, file, names }) => {
    expect(shown).toBe(file);
    const source = readText(file);
    for (const name of names)
      expect(source).toMatch(
        new RegExp(`(function|class|const|FUNCTION) ${name}\\b|^ +(async )?${name}\\(`, 'm'),
      );
  });

  it('links to files that are there', () => {
    const links = [...PAGE.matchAll(/\]\(([^)#]+)[^)]*\)/g)].map(([, link = '']) => link);
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
