import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export type Render = () => string | Promise<string>;

/**
 * Writes each file that is not as its renderer makes it.
 * @param files paths below `root`, each with what should be in it.
 * @param check only names the files that are out of date, and sets the exit code to 1.
 */
export async function writeGenerated(
  root: string,
  files: Record<string, Render>,
  check: boolean,
): Promise<void> {
  for (const [file, render] of Object.entries(files)) {
    const target = path.join(root, file);
    const wanted = await render();
    if (textOf(target) === wanted) continue;
    if (check) {
      process.stderr.write(`${file} is out of date: npm run generate\n`);
      process.exitCode = 1;
    } else {
      writeFileSync(target, wanted);
      process.stdout.write(`wrote ${file}\n`);
    }
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return '';
  }
}
